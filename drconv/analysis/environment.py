"""Where a number was measured: versions, device, threads."""

import os
import platform
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from drconv.errors import ArgumentError
from drconv.version import __version__

__all__ = ["cpu_name", "environment", "find_device"]


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what a reader needs to judge or repeat a measurement.

    Args:
        device: the one that was used.

    Returns:
        JSON-ready values.
    """
    device = torch.device(device)
    found = {
        "drconv": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": str(device),
    }
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda or torch.version.hip
    return found


def find_device(name: str = "auto") -> torch.device:
    """Return the device that a name means, checked to be there.

    Args:
        name: "auto" (the first of cuda, mps and cpu that is there), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ArgumentError: no such device, here or at all; the message lists those that are there.
    """
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if name == "auto":
        found = [device for device in ("cuda:0", "mps", "cpu") if device in there]
        return torch.device(found[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in there:
        near = get_close_matches(name, ["auto", "cpu", "cuda", "mps"], n=1)
        hint = f"did you mean {near[0]}? " if near and near[0] != name else ""
        raise ArgumentError(f"no device {name!r} here; {hint}available: auto, {', '.join(there)}")
    return torch.device(wanted)
