"""Measured sizes of blocks in place of guessed ones, where somebody asks for them: once for each kind of call.

`DRCONV_TRITON_AUTOTUNE=1` in the environment asks. What was found is kept in the user's cache, in one file for each
kind of GPU and release of Triton.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
import triton
from triton.errors import TritonError
from triton.testing import do_bench

from drconv.kernels.backend import RegionConvProblem
from drconv.kernels.cache import cache_directories
from drconv.kernels.triton.launch import precision
from drconv.kernels.triton.tiles import Tile

__all__ = ["is_asked_for", "kind_of", "tuned"]

Result = TypeVar("Result")
Key = tuple[str | int, ...]

_STEPS = 4
"""Each takes the best of a choice and its neighbours."""

_PER_THREAD = 128
"""Values of a block that one thread may hold."""

_found: dict[Path | str, dict[str, Tile]] = {}
"""What was measured or read, by file, or by device where there is no place for one."""


def is_asked_for() -> bool:
    """Return whether the environment asks for measured blocks."""
    return os.environ.get("DRCONV_TRITON_AUTOTUNE") == "1"


def kind_of(problem: RegionConvProblem) -> Key:
    """Return what calls have in common that take the same blocks; sizes of map and batch count by twos."""
    p = problem
    layout = "rows" if p.memory_format == torch.channels_last else "planes"
    sides = (*p.kernel_size, *p.stride)
    sizes = (p.in_channels, p.out_channels, p.groups, p.num_regions, p.positions.bit_length(), p.batch.bit_length())
    return str(p.dtype), precision(p.dtype), layout, *sides, *sizes, int(p.shared_filters)


def tuned(key: Key, tile: Tile, device: torch.device, run: Callable[[Tile], Result]) -> Result:
    """Return what a launch gives with the best blocks that are known, measuring them first where that is asked for.

    Nothing is measured while a CUDA graph is captured, nor in the interpreter.

    Args:
        key: kernel, dtype, and what calls alike have in common.
        tile: the blocks to start from, and to take where nothing was measured.
        device: where the launch runs.
        run: launches; whatever it writes may be written again.
    """
    if device.type != "cuda" or not is_asked_for():
        return run(tile)
    place, name = _place(device), "/".join(map(str, key))
    known = _found.get(place)
    if known is None:
        known = _found[place] = _read(place)
    if name not in known:
        if torch.cuda.is_current_stream_capturing():
            return run(tile)
        with torch.cuda.device(device):
            known[name] = best(tile, lambda other: _seconds(run, other))
        _write(place, known)
    return run(known[name])


def neighbours(tile: Tile) -> Iterator[Tile]:
    """Yield the blocks that differ in one size, by a factor of two or a stage."""
    for name, least, most in (("rows", 16, 256), ("outs", 16, 256), ("ins", 16, 128), ("warps", 1, 8)):
        size = getattr(tile, name)
        for other in (size // 2, size * 2):
            changed = replace(tile, **{name: other})
            if least <= other <= most and _is_sensible(changed):
                yield changed
    for stages in (tile.stages - 1, tile.stages + 1):
        if 1 <= stages <= 5:
            yield replace(tile, stages=stages)


def _is_sensible(tile: Tile) -> bool:
    # Sums and filters of more would spill, and take minutes to compile.
    return max(tile.rows, tile.ins) * tile.outs <= tile.warps * 32 * _PER_THREAD


def best(tile: Tile, seconds: Callable[[Tile], float]) -> Tile:
    """Walk from blocks to their best neighbours until none is better, measuring none twice."""
    times = {tile: seconds(tile)}
    for _ in range(_STEPS):
        here = min(times, key=times.__getitem__)
        for other in neighbours(here):
            if other not in times:
                times[other] = seconds(other)
        if times[here] == min(times.values()):
            break
    return min(times, key=times.__getitem__)


def _seconds(run: Callable[[Tile], object], tile: Tile) -> float:
    """Return the median time of a launch; infinite where the blocks do not compile or fit on the device.

    The caches are cold, and clearing them keeps the GPU busy while the host launches: that host time does not count.
    """
    try:
        return float(do_bench(lambda: run(tile), warmup=5, rep=20, return_mode="median")) / 1000
    except TritonError:
        return float("inf")


@cache
def _place(device: torch.device) -> Path | str:
    kind = f"{torch.cuda.get_device_name(device)} triton {triton.__version__}"
    for directory in cache_directories():
        return directory / f"tiles-{re.sub(r'[^A-Za-z0-9.]+', '-', kind)}.json"
    return kind


def _read(place: Path | str) -> dict[str, Tile]:
    """Return what was kept; nothing where there is no file, or one that is not ours."""
    if isinstance(place, Path):
        with suppress(OSError, ValueError, TypeError, AttributeError):
            return {name: Tile(*map(int, sizes)) for name, sizes in json.loads(place.read_text()).items()}
    return {}


def _write(place: Path | str, known: dict[str, Tile]) -> None:
    """Keep what is known, beside what other processes have kept since."""
    if not isinstance(place, Path):
        return
    everything = {name: astuple(tile) for name, tile in (_read(place) | known).items()}
    with suppress(OSError):  # no place to keep it: this process knows it all the same
        with tempfile.NamedTemporaryFile("w", dir=place.parent, suffix=".json", delete=False) as file:
            json.dump(everything, file, indent=1)
        Path(file.name).replace(place)
