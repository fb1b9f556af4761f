"""The machine's own best: multiply-adds of a large product, and bytes read from memory and from the last cache."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from drconv.analysis.timing import Candidate, StopRule, time_interleaved

__all__ = ["Peaks", "last_cache_bytes", "measure_peaks"]

_SIDE = 1536
_ASSUMED_CACHE = 32 << 20
_STOP = StopRule(rounds=9, warmup=2)


@dataclass(frozen=True)
class Peaks:
    """What this device does at best, with the threads it has now.

    Attributes:
        flops: operations per second of a product of two square matrices; a multiply-add is two.
        read: bytes per second read from a buffer much larger than the last cache.
        cache_read: bytes per second read, again and again, from a quarter of the last cache.
        copy: bytes per second read and written in a copy of the large buffer, both counted.
        cache: size of the last cache, in bytes.
    """

    flops: float
    read: float
    cache_read: float
    copy: float
    cache: int

    def to_dict(self) -> dict[str, Any]:
        """Return operations and bytes per second."""
        return asdict(self)


def last_cache_bytes(device: torch.device) -> int:
    """Return the size of the last cache; 32 MiB where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    found = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        found.append(int(text.rstrip("KMG") or 0) * scale)
    return max(found, default=0) or _ASSUMED_CACHE


def measure_peaks(device: torch.device, dtype: torch.dtype) -> Peaks:
    """Measure a device, once per process, dtype and number of threads: the best of a few calls of each."""
    return _measured(device, dtype, torch.get_num_threads())


@lru_cache(maxsize=16)
def _measured(device: torch.device, dtype: torch.dtype, threads: int) -> Peaks:
    cache = last_cache_bytes(device)
    a = torch.randn(_SIDE, _SIDE, device=device).to(dtype)
    large = torch.zeros(max(256 << 20, 4 * cache) // 4, device=device)
    small = torch.zeros(max(1 << 18, cache // 4) // 4, device=device)
    other = torch.empty_like(large)
    with torch.inference_mode():
        timings = time_interleaved(
            {
                "multiply": Candidate(lambda: torch.mm(a, a)),
                "read": Candidate(large.sum),
                "cache": Candidate(small.sum),
                "copy": Candidate(lambda: other.copy_(large)),
            },
            _STOP,
            device,
        )
    best = {name: min(timing.samples) for name, timing in timings.items()}
    size = 4 * large.numel()
    return Peaks(
        flops=2 * _SIDE**3 / best["multiply"],
        read=size / best["read"],
        cache_read=4 * small.numel() / best["cache"],
        copy=2 * size / best["copy"],
        cache=cache,
    )
