"""The search for block sizes with made-up times, and what is kept of it. That it pays is for a GPU to show."""

from pathlib import Path
from typing import Any

import pytest
import torch

from drconv.kernels.triton import tuning
from drconv.kernels.triton.tiles import Tile
from drconv.kernels.triton.tuning import best, kind_of, neighbours, tuned
from tests.kernels.test_choice import PROBLEM

START = Tile(64, 64, 32)
GPU = torch.device("cuda")


def test_walks_downhill_and_measures_none_twice() -> None:
    asked = []

    def seconds(tile: Tile) -> float:
        asked.append(tile)
        if tile.rows > 128:
            return float("inf")  # does not fit
        return 256 / tile.rows + abs(tile.stages - 4)

    found = best(START, seconds)
    assert (found.rows, found.stages) == (128, 4)
    assert len(asked) == len(set(asked))


def test_neighbours_stay_within_what_the_kernels_take() -> None:
    seen, new = {START}, {START}
    for _ in range(6):
        new = {other for tile in new for other in neighbours(tile)} - seen
        seen |= new
    for tile in seen:
        for size in (tile.rows, tile.outs, tile.ins):
            assert size >= 16, "tensor cores take no less"
            assert size & (size - 1) == 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Tile]:
    """Pretend that there is a GPU, on which more rows are better; return what is measured."""
    monkeypatch.setenv("DRCONV_TRITON_AUTOTUNE", "1")
    monkeypatch.setenv("DRCONV_CACHE", str(tmp_path))
    tmp_path.chmod(0o700)
    monkeypatch.setattr(tuning, "_found", {})
    monkeypatch.setattr(tuning, "_place", tuning._place.__wrapped__)  # which remembers
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU / 80GB")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.no_grad())
    measured: list[Tile] = []

    def seconds(run: Any, tile: Tile) -> float:
        measured.append(tile)
        return 1 / tile.rows

    monkeypatch.setattr(tuning, "_seconds", seconds)
    return measured


def test_measured_once_and_kept_for_other_processes(gpu: list[Tile], tmp_path: Path) -> None:
    assert tuned(("forward", 1), START, GPU, lambda tile: tile).rows == 256
    count = len(gpu)
    assert count > 1
    assert tuned(("forward", 1), START, GPU, lambda tile: tile).rows == 256
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("tiles-Some-GPU-80GB-triton-")
    other = '{"backward/2": [16, 16, 16, 2, 1]}'
    file.write_text(other)  # another process found this meanwhile
    tuned(("products", 3), START, GPU, lambda tile: tile)
    tuning._found.clear()  # as a process that starts anew
    count = len(gpu)
    assert tuned(("forward", 1), START, GPU, lambda tile: tile).rows == 256
    assert tuned(("backward", 2), START, GPU, lambda tile: tile) == Tile(16, 16, 16, 2, 1)
    assert len(gpu) == count


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"forward/1": [1, 2]}', '{"forward/1": ["a", 1, 1, 1, 1]}'])
def test_a_file_that_is_not_ours_is_measured_again(content: str, gpu: list[Tile], tmp_path: Path) -> None:
    tuned(("forward", 1), START, GPU, lambda tile: tile)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    tuning._found.clear()
    assert tuned(("forward", 1), START, GPU, lambda tile: tile).rows == 256


def test_nothing_is_measured_unasked_or_while_a_graph_is_captured(
    gpu: list[Tile], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert tuned(("forward", 1), START, GPU, lambda tile: tile) is START
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.delenv("DRCONV_TRITON_AUTOTUNE")
    assert tuned(("forward", 1), START, GPU, lambda tile: tile) is START
    monkeypatch.setenv("DRCONV_TRITON_AUTOTUNE", "1")
    assert tuned(("forward", 1), START, torch.device("cpu"), lambda tile: tile) is START
    assert not gpu
    assert not list(tmp_path.iterdir())


def test_calls_of_other_precision_are_of_another_kind() -> None:
    exact = kind_of(PROBLEM)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert kind_of(PROBLEM) != exact
    finally:
        torch.set_float32_matmul_precision(before)
