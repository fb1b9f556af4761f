"""Units and rounding for readers; CSV and JSON keep raw numbers.

A `z` in a format: what rounds to zero has no sign.
"""

from drconv.report import Cell, Kind
from drconv_cli.printable import printable

__all__ = ["format_cell", "is_numeric"]

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def is_numeric(kind: Kind) -> bool:
    """Return whether a column of this kind is aligned to the right."""
    return kind != "text"


def format_cell(value: Cell, kind: Kind) -> str:
    """Return a cell as a reader wants it; None is empty."""
    if value is None:
        return ""
    if isinstance(value, str) or kind == "text":
        return printable(str(value))
    if kind == "count":
        return f"{value:,}"
    if kind == "share":
        # What is almost all must not read as all.
        return f"{100 * value:.3f} %" if 0.999 < value < 1 else f"{100 * value:z.1f} %"
    if kind == "ratio":
        return f"{value:z.2f}x"
    if kind == "seconds":
        return _format_seconds(value)
    if kind == "bytes":
        return _scaled(value, "B")
    if kind == "rate":
        return _scaled(value, "/s")
    return f"{value:z.3g}"


def _scaled(value: float, unit: str) -> str:
    """Return a number with three digits and a decimal prefix."""
    for scale, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What would be rounded up to a thousand takes the next prefix.
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _format_seconds(value: float) -> str:
    for unit, name in _SECONDS:
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 1e-9:.2g} ns"
