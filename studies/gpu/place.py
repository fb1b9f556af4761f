"""Where the study runs: on a GPU, or in rehearsal in Triton's interpreter, where nothing says anything about speed."""

import platform
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from drconv.analysis.environment import environment

__all__ = ["Place", "float32_products", "poisoned", "where"]

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32, "tf32": torch.float32}


@dataclass(frozen=True)
class Place:
    """Where the study runs.

    Attributes:
        device: on which all tensors are.
        is_rehearsal: whether it is the interpreter, with tiny sizes and no events, streams or graphs.
        minutes: that training on mosaics may take.
    """

    device: torch.device
    is_rehearsal: bool
    minutes: float

    def synchronize(self) -> None:
        """Wait for the device."""
        if not self.is_rehearsal:
            torch.cuda.synchronize(self.device)

    def side_stream(self) -> Any:
        """Return a context on a stream of its own; in rehearsal, one that does nothing."""
        return nullcontext() if self.is_rehearsal else torch.cuda.stream(torch.cuda.Stream(self.device))

    def capture(self, call: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        """Capture a call in a CUDA graph; in rehearsal, only run it.

        Returns:
            What replays it, and the tensor in which its result is afterwards.
        """
        if self.is_rehearsal:
            result = call()
            return lambda: result.copy_(call()), result
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                call()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
        return graph.replay, result

    def free_memory(self) -> int:
        """Return bytes free on the device; in rehearsal none."""
        return 0 if self.is_rehearsal else torch.cuda.mem_get_info(self.device)[0]


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Let products of float32 be made as tf32 or exactly, in PyTorch, cuDNN and our kernels alike."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill what `torch.empty` returns with NaN, so that an output that is not written shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    if not torch.utils.deterministic.fill_uninitialized_memory:
        raise SystemExit("torch.utils.deterministic.fill_uninitialized_memory is off, and the checks rely on it")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*deterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(False)


def where(place: Place) -> dict[str, Any]:
    """Return machine, versions and clocks."""
    found = environment(place.device) | {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    found |= {"triton": _version("triton"), "python": platform.python_version(), "driver": None, "clocks": None}
    if place.is_rehearsal:
        return found
    found["cudnn"] = torch.backends.cudnn.version()
    properties = torch.cuda.get_device_properties(place.device)
    found["multiprocessors"], found["memory"] = properties.multi_processor_count, properties.total_memory
    if shutil.which("nvidia-smi"):
        fields = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"
        asked = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "-i", str(place.device.index or 0)]
        with suppress(OSError, subprocess.SubprocessError):  # the measurements count without it
            done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
            found["driver"], *clocks = (entry.strip() for entry in done.stdout.strip().split(","))
            found["clocks"] = dict(zip(fields.split(",")[1:], clocks, strict=False))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
