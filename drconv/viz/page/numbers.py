"""Statistics as the texts of a page: which numbers, their names, their meaning, rounded to 4 digits."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from drconv.analysis.statistics import LayerStatistics

__all__ = ["RegionColumn", "layer_facts", "nearest_filters", "region_columns", "share_text"]

_MOST_NEIGHBOURS = 16
_UNKNOWN = "–"  # noqa: RUF001


@dataclass(frozen=True)
class RegionColumn:
    """One number of every region.

    Attributes:
        name: as in a heading.
        meaning: one line for those who do not know it.
        texts: of each region, `[M]`.
    """

    name: str
    meaning: str
    texts: tuple[str, ...]


def region_columns(layer: LayerStatistics) -> list[RegionColumn]:
    """Return the numbers that are known of every region of a layer."""
    nearest = [neighbours[0] if neighbours else None for neighbours in nearest_filters(layer)]
    columns = [
        _column("share", "fraction of the positions that are in the region", layer.region_share, share_text),
        _column("positions", "how many positions are in the region", layer.region_positions, _count),
        _column(
            "mean margin",
            "how decided the choice is: largest minus second largest softmax of the scores, 0 is a tie, 1 is certain",
            layer.region_margins or (None,) * layer.num_regions,
            _decimal,
        ),
        _column("filter norm", "Frobenius norm of the region's filter for this image", layer.filter_norms, _digits),
        _column("nearest filter", "the region whose filter is most alike", nearest, lambda x: f"region {x[0]}"),
        _column("cosine", "between the region's filter and the nearest one; 1 is the same direction", nearest,
                lambda x: str(x[1])),
    ]  # fmt: skip
    if layer.shapes is not None:
        columns += [
            _column("components", "connected parts of the region", layer.shapes.components, _count),
            _column("component size", "mean number of positions of a part", layer.shapes.component_sizes, _digits),
            _column("boundary", "edges between the region and others", layer.shapes.boundary_lengths, _count),
        ]
    if layer.filters is not None:
        meaning = "exponential of the entropy of the filter's singular values as shares"
        columns.append(_column("effective rank", meaning, layer.filters.effective_ranks, _digits))
    return columns


def layer_facts(layer: LayerStatistics) -> list[str]:
    """Return short sentences on the layer as a whole."""
    height, width = layer.grid
    facts = [f"{height} × {width} positions (height × width)", f"entropy {layer.entropy:z.4f} nats"]  # noqa: RUF001
    if layer.shapes is not None and layer.shapes.boundary_share is not None:
        facts.append(f"the region changes at {share_text(layer.shapes.boundary_share)} of the edges between positions")
    if layer.agreement is not None:
        facts.append(f"adjusted mutual information with the layer before: {layer.agreement:z.4f}")
    if layer.unscored:
        facts.append(
            f"positions whose scores are not finite, which have a region but no margin: {_count(layer.unscored)}"
        )
    return facts


def nearest_filters(layer: LayerStatistics) -> list[list[tuple[int, str]]]:
    """Return, for each region, other regions and the cosines of their filters with its own, the nearest first."""
    found = []
    for j, row in enumerate(layer.filter_cosines):
        known = [(cosine, i) for i, cosine in enumerate(row) if i != j and cosine is not None]
        nearest = sorted(known, reverse=True)[:_MOST_NEIGHBOURS]
        found.append([(i, _decimal(cosine)) for cosine, i in nearest])
    return found


def share_text(share: float) -> str:
    """Return a percentage that never claims absence or totality by rounding."""
    if 0 < share < 0.00005:
        return "<0.01 %"
    if 0.99995 <= share < 1:
        return ">99.99 %"
    return f"{100 * share:.2f} %" if share else "0 %"


def _column(name: str, meaning: str, values: Iterable[Any], text: Callable[[Any], str]) -> RegionColumn:
    return RegionColumn(name, meaning, tuple(_UNKNOWN if value is None else text(value) for value in values))


def _count(value: int) -> str:
    return f"{value:,}"


def _decimal(value: float) -> str:
    return f"{value:z.4f}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:#.4g}".rstrip(".")
