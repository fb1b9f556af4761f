"""What the parts have found, and the one file that keeps it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bars import BARS

from drconv.atomic_write import write_atomically

__all__ = ["TUNED", "Findings", "load", "save", "table"]

TUNED = ", tuned"
"""What follows the name of a part in which the kernels measured sizes of blocks first."""


@dataclass
class Findings:
    """What one part has found so far; `changed` is called after every piece.

    Attributes:
        environment: where.
        rows: measured values by the key of their bar, by shape.
        checks: name, error, limit, whether it passed.
        skipped: what was left out, and why.
        details: medians and other raw numbers.
        seconds: that the part took; None while it runs.
        failure: what ended it early.
        rehearsal: whether nothing here says anything about speed.
    """

    environment: dict[str, Any]
    rehearsal: bool
    changed: Callable[[], None] = lambda: None
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    failure: str | None = None

    def measure(self, bar: str, shape: str, value: float, **details: Any) -> None:
        """Take down a number; in a rehearsal only that it could be taken."""
        BARS[bar]  # an unknown bar is a mistake that a rehearsal must find
        self.rows.setdefault(bar, {})[shape] = 0.0 if self.rehearsal else value
        if details and not self.rehearsal:
            self.details.setdefault(bar, {})[shape] = details
        print(f"{bar:22s} {shape:40s} {'rehearsed' if self.rehearsal else f'{value:.3f}'}", flush=True)
        self.changed()

    def check(self, name: str, error: float, limit: float) -> None:
        """Take down a comparison; NaN fails."""
        passed = error <= limit
        self.checks.append({"name": name, "error": error, "limit": limit, "passed": passed})
        print(f"{'ok    ' if passed else 'FAILED'} {name:70s} {error:.2e} of {limit:.0e}", flush=True)
        self.changed()

    def skip(self, what: str, why: str) -> None:
        """Take down what could not be done."""
        self.skipped.append({"what": what, "why": why})
        print(f"SKIPPED {what}: {why}", flush=True)
        self.changed()

    @property
    def failed(self) -> list[str]:
        """Names of failed checks, and the failure that ended the part."""
        names = [check["name"] for check in self.checks if not check["passed"]]
        return names + ([self.failure] if self.failure else [])

    def to_dict(self) -> dict[str, Any]:
        """Return what the file keeps."""
        names = ("environment", "seconds", "failure", "rows", "checks", "skipped", "details", "rehearsal")
        return {name: getattr(self, name) for name in names}


def load(path: Path | None) -> dict[str, Any]:
    """Return the parts in a file, by name; none if it is not there."""
    return json.loads(path.read_text()) if path is not None and path.exists() else {}


def save(path: Path | None, parts: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    if path is not None:
        # NaN is what a failed check may have found.
        text = json.dumps(_finite(parts), indent=1, allow_nan=False)
        write_atomically(path, (text + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    return value


def table(parts: dict[str, Any]) -> str:
    """Return the Markdown table of all bars, and below it where it was measured and what did not pass."""
    measured: dict[str, dict[str, float]] = {}
    for _, part in sorted(parts.items(), key=lambda entry: entry[0].endswith(TUNED)):
        if not part["rehearsal"]:
            measured.update(part["rows"])
    lines = ["| case | bar | stretch | measured | |", "|---|---|---|---:|---|"]
    lines += [bar.line(measured.get(key, {})) for key, bar in BARS.items()]
    checks = [check for part in parts.values() for check in part["checks"]]
    if checks:
        failed = [check["name"] for check in checks if not check["passed"]]
        told = f"; failed: {', '.join(failed)}" if failed else ""
        lines += ["", f"{len(checks) - len(failed)} of {len(checks)} checks passed{told}."]
    for name, part in parts.items():
        where = part["environment"]
        if part["rehearsal"]:
            lines.append(f"{name}: rehearsed without a GPU; nothing in it is a measurement.")
        else:
            state = (
                f"failed: {part['failure']}" if part["failure"] else f"{part['seconds'] or 'unfinished after many'} s"
            )
            lines.append(
                f"{name}: {where['device_name']}, driver {where['driver']}, torch {where['torch']}, triton "
                f"{where['triton']}, {where['date']}, {state}."
            )
        lines += [f"{name}: skipped {entry['what']}: {entry['why']}." for entry in part["skipped"]]
    return "\n".join(lines)
