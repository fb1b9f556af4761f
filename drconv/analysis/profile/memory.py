"""Most memory that a call held at once, beyond what was there before it."""

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from drconv.analysis.profile.quiet import quiet_profiler
from drconv.analysis.timing import Candidate

__all__ = ["peak_memory"]


def peak_memory(candidate: Candidate, device: torch.device) -> int | None:
    """Return the peak of a call's allocations in bytes; None on devices that do not tell.

    On the CPU these are the allocations that PyTorch's allocator makes, which is where the compiled kernels take
    their scratch memory from, too. What a library takes by itself is not seen.
    """
    if device.type == "cuda":
        return _peak_on_cuda(candidate, device)
    if device.type != "cpu":
        return None
    candidate.prepare()
    watch = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with quiet_profiler(watch, throughout=True):
        result = candidate.call()
    del result
    if watch.profiler is None or watch.profiler.kineto_results is None:
        return None
    events: list[Any] = [e for e in watch.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _peak_on_cuda(candidate: Candidate, device: torch.device) -> int:
    candidate.prepare()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = candidate.call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before
    del result
    return peak
