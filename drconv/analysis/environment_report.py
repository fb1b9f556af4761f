"""What `drconv env` shows: the environment, and for each backend whether it can run here."""

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from drconv.analysis.environment import environment
from drconv.kernels import BACKENDS, RegionConvProblem, why_not
from drconv.report import Cell, Column, Table

__all__ = ["EnvironmentReport", "describe_environment"]

_PACKAGES = ("numpy", "fvcore", "matplotlib", "pillow", "safetensors", "typer", "rich", "triton")


@dataclass(frozen=True)
class EnvironmentReport:
    """Versions, devices, and backends.

    Attributes:
        environment: as every result carries it.
        packages: name -> version, or None if it is not installed.
        devices: those that PyTorch sees.
        backends: name -> why it cannot run a float32 layer on the device, or None if it can.
        automatic: the backend that a layer takes when none is named.
    """

    environment: dict[str, Any]
    packages: dict[str, str | None]
    devices: tuple[str, ...]
    backends: dict[str, str | None]
    automatic: str | None

    def to_table(self) -> Table:
        """Return one row per fact."""
        rows: list[tuple[Cell, ...]] = [
            ("environment", k, None if v is None else str(v)) for k, v in self.environment.items()
        ]
        rows += [("package", name, found or "not installed") for name, found in self.packages.items()]
        rows.append(("devices", "seen", ", ".join(self.devices)))
        for name, reason in self.backends.items():
            state = "runs here" if reason is None else f"cannot run: {reason}"
            if not self._is_automatic(name):
                state += " (only when named)"
            rows.append(("backend", name, state))
        rows.append(("backend", "taken when none is named", self.automatic or "none"))
        return Table("Environment", (Column("what"), Column("name"), Column("value")), tuple(rows))

    def to_dict(self) -> dict[str, Any]:
        """Return packages, devices and backends; the environment is in the envelope."""
        return {
            "packages": self.packages,
            "devices": list(self.devices),
            "backends": {
                name: {"runs": reason is None, "why_not": reason, "automatic": self._is_automatic(name)}
                for name, reason in self.backends.items()
            },
            "automatic_backend": self.automatic,
        }

    def _is_automatic(self, name: str) -> bool:
        return BACKENDS[name].is_automatic(torch.device(self.environment["device"]).type)


def describe_environment(device: torch.device) -> EnvironmentReport:
    """Look at this installation.

    Args:
        device: the one to ask the backends about.
    """
    backends = why_not(_small_layer(device))
    able = [name for name, reason in backends.items() if reason is None and BACKENDS[name].is_automatic(device.type)]
    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    packages = {name: _version(name) for name in _PACKAGES}
    return EnvironmentReport(environment(device), packages, tuple(devices), backends, able[0] if able else None)


def _small_layer(device: torch.device) -> RegionConvProblem:
    return RegionConvProblem(
        device_type=device.type,
        dtype=torch.float32,
        batch=1,
        in_channels=24,
        out_channels=24,
        groups=1,
        num_regions=8,
        input_size=(28, 28),
        output_size=(28, 28),
        kernel_size=(1, 1),
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        shared_filters=False,
        memory_format=torch.contiguous_format,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
