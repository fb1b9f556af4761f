"""A Chrome trace of the candidates, and the kernels that a call launches on a GPU."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from drconv.analysis.profile.quiet import quiet_profiler
from drconv.analysis.timing import Candidate
from drconv.errors import FileError

__all__ = ["count_launches", "write_trace"]


def write_trace(path: Path, candidates: Mapping[str, Candidate], device: torch.device) -> None:
    """Call every candidate once, each inside a range with its name, and write what ran as a Chrome trace.

    Raises:
        FileError: the file cannot be written.
    """
    watch = profile(activities=_activities(device))
    with quiet_profiler(watch):
        for name, candidate in candidates.items():
            candidate.prepare()
            with record_function(name):
                candidate.call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        watch.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:
        raise FileError(f"cannot write {path}: {error}") from error


def count_launches(candidate: Candidate, device: torch.device) -> int | None:
    """Return how many kernels a call launches on a GPU; None on other devices."""
    if device.type != "cuda":
        return None
    candidate.prepare()
    torch.cuda.synchronize(device)
    watch = profile(activities=_activities(device))
    with quiet_profiler(watch):
        candidate.call()
        torch.cuda.synchronize(device)
    events = watch.events() or []
    kernels = [e for e in events if e.device_type == DeviceType.CUDA]
    return sum(not e.name.startswith(("Memcpy", "Memset")) for e in kernels)


def _activities(device: torch.device) -> list[ProfilerActivity]:
    return [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
