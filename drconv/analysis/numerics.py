"""What the last bit of a result depends on, beside the program and its input."""

from typing import Any

import torch

from drconv.kernels.native import library

__all__ = ["numerics"]


def numerics(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Return versions, threads and instruction sets; JSON-ready.

    Args:
        device: where it is computed.
        processes: that compute together.
    """
    found = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "native_isa": _native_isa(),
        "device": device.type,
    }
    if device.type == "cuda":
        found["device_name"] = torch.cuda.get_device_name(device)
    return found


def _native_isa() -> str | None:
    """Return the instruction set of the compiled kernels; None where they cannot run."""
    if library.why_not() is not None:
        return None
    isa = library.load().isa
    return next((name for name, number in library.ISAS.items() if number == isa), str(isa))
