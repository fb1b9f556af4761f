"""What a conversion did."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from drconv.report import Cell, Column, Table

__all__ = ["ConversionReport", "ConvertedLayer", "LeftLayer"]


@dataclass(frozen=True)
class ConvertedLayer:
    """A layer that was replaced.

    Attributes:
        name: in its model; the first one, if it stands in several places.
        geometry: channels, kernel size, and what differs from the defaults.
        layer: class name of the new layer.
        params_before: parameters of the old layer.
        params_after: parameters of the new one.
        starts_equal: whether the new layer's output is the old one's, to rounding.
        remark: why it is not.
    """

    name: str
    geometry: str
    layer: str
    params_before: int
    params_after: int
    starts_equal: bool
    remark: str = ""


@dataclass(frozen=True)
class LeftLayer:
    """A layer that was chosen and left as it was, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ConversionReport:
    """What `drconv.convert` did to a model.

    Attributes:
        to: what was asked for, `"drconv2d"` for example.
        changed: the replaced layers, in the order of the model.
        left: the chosen ones that were left alone; without a choice, those that are left alone by default, too.
    """

    to: str
    changed: tuple[ConvertedLayer, ...]
    left: tuple[LeftLayer, ...]

    @property
    def starts_equal(self) -> bool:
        """Whether the model's output is what it was, to rounding."""
        return all(layer.starts_equal for layer in self.changed)

    @property
    def summary(self) -> str:
        """One line: how many layers became what, and whether outputs start equal."""
        chosen = len(self.changed) + len(self.left)
        if not self.changed:
            reasons = Counter(layer.reason for layer in self.left).most_common(1)
            return f"none of {chosen} layers was replaced" + "".join(f" ({n}: {why})" for why, n in reasons)
        line = f"{len(self.changed)} of {chosen} layers became {self.changed[0].layer}"
        unequal = [layer for layer in self.changed if not layer.starts_equal]
        if unequal:
            return f"{line}; {len(unequal)} do not start with the old output ({unequal[0].remark})"
        return f"{line}; outputs start equal"

    def to_table(self) -> Table:
        """Return one row per layer."""
        columns = (
            Column("layer"),
            Column("geometry"),
            Column("became"),
            Column("params before", "count"),
            Column("params after", "count"),
            Column("starts equal"),
            Column("remark"),
        )
        rows: list[tuple[Cell, ...]] = [
            (x.name, x.geometry, x.layer, x.params_before, x.params_after, "yes" if x.starts_equal else "no", x.remark)
            for x in self.changed
        ]
        rows += [(x.name, None, None, None, None, None, x.reason) for x in self.left]
        return Table(f"Conversion to {self.to}", columns, tuple(rows), (f"{self.summary}.",))

    def to_dict(self) -> dict[str, Any]:
        """Return the layers as lists."""
        return {
            "to": self.to,
            "starts_equal": self.starts_equal,
            "changed": [
                {
                    "name": x.name,
                    "geometry": x.geometry,
                    "layer": x.layer,
                    "params_before": x.params_before,
                    "params_after": x.params_after,
                    "starts_equal": x.starts_equal,
                    "remark": x.remark,
                }
                for x in self.changed
            ],
            "left": [{"name": x.name, "reason": x.reason} for x in self.left],
        }
