"""Numbers about regions and their filters, from a recording of one image or a batch."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import exp, isfinite, log
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from drconv.analysis.filters import FilterStatistics, filter_statistics, redundant_regions
from drconv.analysis.margins import guide_margins
from drconv.analysis.record import LayerRegions, RegionRecording
from drconv.errors import DrconvError
from drconv.report import Cell, Column, Table
from drconv.table_html import table_html

if TYPE_CHECKING:
    from drconv.analysis.agreement import LabelAgreement
    from drconv.analysis.shapes import ShapeStatistics

__all__ = [
    "RARE_SHARE",
    "STATISTICS_COLUMNS",
    "LayerStatistics",
    "RegionStatistics",
    "describe_unscored",
    "optional_part",
    "region_statistics",
    "with_labels",
]

RARE_SHARE = 0.01
"""A region that occurs, but on less than this share of the positions, is called rare."""

STATISTICS_COLUMNS = (
    Column("layer"),
    Column("grid"),
    Column("region", "count"),
    Column("positions", "count"),
    Column("share", "share"),
    Column("margin", "number"),
    Column("filter norm", "number"),
    Column("nearest filter", "count"),
    Column("cosine", "number"),
)


@dataclass(frozen=True)
class LayerStatistics:
    """How one layer divides the plane, and the filters it uses.

    Attributes:
        name: of the layer in its model.
        grid: (U, V), positions of the map.
        region_positions: positions of each region, `[M]`; over a batch, the sum.
        region_share: fraction of positions of each region, `[M]`.
        filter_norms: Frobenius norm of each region's filter, `[M]`; over a batch, the mean. None if not finite,
            or not recorded.
        filter_cosines: cosine between the filters of two regions, `[M, M]`, of the (over a batch, mean) filters. None
            where a filter is zero, not finite or not recorded.
        region_margins: mean over a region's positions of the largest minus the second largest softmax of the guided
            feature, 0 to 1, `[M]`. None for a region that does not occur, or only where scores are not finite.
        unscored: positions whose scores are not all finite; they have a region, but no margin.
        shapes: components and boundaries; with full statistics only.
        filters: more on the filters; with full statistics only.
        agreement: adjusted mutual information of this layer's mask and that of the layer before it, over a batch the
            mean; with full statistics only, None for the first layer.
        labels: how well the mask agrees with a map of classes; see `with_labels`.
    """

    name: str
    grid: tuple[int, int]
    region_positions: tuple[int, ...]
    region_share: tuple[float, ...]
    filter_norms: tuple[float | None, ...]
    filter_cosines: tuple[tuple[float | None, ...], ...]
    region_margins: tuple[float | None, ...] = ()
    unscored: int = 0
    shapes: "ShapeStatistics | None" = None
    filters: FilterStatistics | None = None
    agreement: float | None = None
    labels: "LabelAgreement | None" = None

    @property
    def num_regions(self) -> int:
        """M."""
        return len(self.region_positions)

    @property
    def num_present(self) -> int:
        """Regions that occur at all."""
        return sum(count > 0 for count in self.region_positions)

    @property
    def entropy(self) -> float:
        """Entropy of the shares, in nats: 0 for one region, log M for equal shares."""
        return entropy_of(self.region_share)

    @property
    def effective_regions(self) -> float:
        """The exponential of the entropy: as many regions of equal share would divide the plane as evenly."""
        return exp(self.entropy)

    @property
    def dead(self) -> tuple[int, ...]:
        """Regions that do not occur."""
        return tuple(j for j, count in enumerate(self.region_positions) if count == 0)

    @property
    def rare(self) -> tuple[int, ...]:
        """Regions that occur on less than `RARE_SHARE` of the positions."""
        return tuple(j for j, share in enumerate(self.region_share) if 0 < share < RARE_SHARE)

    @property
    def redundant(self) -> tuple[tuple[tuple[int, ...], float], ...]:
        """Groups of regions whose filters are one, each with its smallest cosine; see `drconv.analysis.filters`."""
        return tuple(redundant_regions(self.filter_norms, self.filter_cosines))

    @property
    def verdict(self) -> str:
        """One sentence on how the layer uses its regions."""
        text = f"{self.name}: {describe_use(self.region_share, self.redundant, self.unscored)}"
        if self.labels is not None:
            text += f"; with the labels: NMI {self.labels.nmi:z.2f}, ARI {self.labels.ari:z.2f}"
        return f"{text}."


def entropy_of(shares: Sequence[float]) -> float:
    """Return the entropy of shares, in nats."""
    return -sum(share * log(share) for share in shares if share > 0)


def describe_use(shares: Sequence[float], redundant: Sequence[tuple[tuple[int, ...], float]], unscored: int = 0) -> str:
    """Say in words how many regions occur, how evenly, which are rare or dead, which share a filter.

    Args:
        shares: of the regions.
        redundant: groups of regions and their smallest cosines.
        unscored: positions whose scores are not finite.
    """
    present = [j for j, share in enumerate(shares) if share > 0]
    rare = tuple(j for j in present if shares[j] < RARE_SHARE)
    parts = [f"{len(present)} of {len(shares)} regions occur"]
    if len(present) > 1:
        parts[0] += f", as even as {exp(entropy_of(shares)):.1f} equal ones"
        if rare:
            parts.append(f"{_listed(rare)} on less than {RARE_SHARE:.0%}")
        if len(present) < len(shares):
            parts.append(f"{_listed(tuple(j for j in range(len(shares)) if j not in present))} never")
    parts += [f"{_listed(group)} share one filter, cosine {cosine:.3f}" for group, cosine in redundant]
    if unscored:
        parts.append(describe_unscored(unscored))
    return "; ".join(parts)


def describe_unscored(count: int) -> str:
    """Say in words that the scores of some positions are not finite."""
    return f"scores are not finite at {count:,} position{'s' * (count > 1)}, whose region means nothing"


@dataclass(frozen=True)
class RegionStatistics:
    """Statistics of the recorded layers, in the order they ran."""

    layers: tuple[LayerStatistics, ...]

    def to_table(self) -> Table:
        """Return one row per layer and region."""
        return Table("Regions and their filters", STATISTICS_COLUMNS, tuple(self.rows()))

    def _repr_html_(self) -> str:
        return table_html(self.to_table())

    def rows(self) -> Iterator[tuple[Cell, ...]]:
        """Yield the cells of `to_table`."""
        for layer in self.layers:
            for j, share in enumerate(layer.region_share):
                nearest = _nearest(layer.filter_cosines[j], j)
                cosine = None if nearest is None else layer.filter_cosines[j][nearest]
                grid = f"{layer.grid[0]}x{layer.grid[1]}"
                counted = (layer.region_positions[j], share)
                margin = layer.region_margins[j] if layer.region_margins else None
                yield (layer.name, grid, j, *counted, margin, layer.filter_norms[j], nearest, cosine)

    def to_dict(self) -> dict[str, Any]:
        """Return a list of layers; matrices are nested lists, unknown numbers are None."""
        return {"layers": [_layer_dict(layer) for layer in self.layers]}


def _layer_dict(layer: LayerStatistics) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": layer.name,
        "grid": list(layer.grid),
        "num_regions": layer.num_regions,
        "num_present": layer.num_present,
        "region_positions": list(layer.region_positions),
        "region_share": list(layer.region_share),
        "region_margins": list(layer.region_margins),
        "unscored": layer.unscored,
        "entropy": layer.entropy,
        "effective_regions": layer.effective_regions,
        "dead": list(layer.dead),
        "rare": list(layer.rare),
        "filter_norms": list(layer.filter_norms),
        "filter_cosines": [list(row) for row in layer.filter_cosines],
        "redundant": [{"regions": list(group), "cosine": cosine} for group, cosine in layer.redundant],
        "verdict": layer.verdict,
    }
    if layer.shapes is not None:
        found["shapes"] = layer.shapes.to_dict()
    if layer.filters is not None:
        found |= {"filters": layer.filters.to_dict(), "agreement": layer.agreement}
    if layer.labels is not None:
        found["labels"] = layer.labels.to_dict()
    return found


def region_statistics(
    recording: RegionRecording,
    full: bool = False,
    layers: Collection[str] | None = None,
    margins: Mapping[str, Tensor] | None = None,
) -> RegionStatistics:
    """Reduce a recording to numbers.

    Args:
        recording: what `record_regions` gave after at least one forward pass.
        full: also measure shapes, filters' ranks and movements, and the agreement of each layer with the one before;
            the last needs scikit-learn (extra `viz`).
        layers: names of recorded layers to measure; None measures all.
        margins: of those layers by name, from `guide_margins`, where they are known already.

    Returns:
        One entry per recorded call of a layer.

    Raises:
        DrconvError: full statistics are asked for, and scikit-learn is not installed.
    """
    found = []
    before: LayerRegions | None = None
    for layer in recording.layers:
        if layers is None or layer.name in layers:
            known = guide_margins(layer.guided_feature) if margins is None else margins[layer.name]
            found.append(_layer_statistics(layer, before, full, known))
        before = layer
    return RegionStatistics(tuple(found))


def with_labels(statistics: RegionStatistics, guided_masks: Mapping[str, Any], labels: Any) -> RegionStatistics:
    """Return statistics of one image that also say how well its regions agree with classes.

    Regions are routing and were not trained to be segments: the numbers describe, they do not judge. Pixels labelled
    255 do not count.

    Args:
        statistics: of the image.
        guided_masks: region of every position by layer name, arrays `[U, V]`.
        labels: class of every pixel of the photo, integers, `[H, W]`.

    Raises:
        ArgumentError: `labels` is no map of integers, or holds no class.
        DrconvError: scikit-learn (extra `viz`) is not installed.
    """
    compare = optional_part("agreement").label_agreement
    layers = (
        replace(layer, labels=compare(guided_masks[layer.name], labels, layer.num_regions))
        for layer in statistics.layers
    )
    return RegionStatistics(tuple(layers))


_Row = tuple[float | None, ...]


def _layer_statistics(
    layer: LayerRegions, before: LayerRegions | None, full: bool, margins_of: Tensor
) -> LayerStatistics:
    num_regions = layer.guided_feature.shape[1]
    counts = layer.guided_mask.flatten().bincount(minlength=num_regions).tolist()
    total = max(1, sum(counts))
    norms, cosines = _compared(layer.region_filters, num_regions)
    _, _, height, width = layer.guided_feature.shape
    margins, unscored = _margins(layer, margins_of)
    return LayerStatistics(
        layer.name,
        (height, width),
        tuple(counts),
        tuple(count / total for count in counts),
        norms,
        cosines,
        margins,
        unscored,
        optional_part("shapes").shape_statistics(layer.guided_mask.cpu().numpy(), num_regions) if full else None,
        filter_statistics(layer.region_filters) if full and layer.region_filters is not None else None,
        _agreement(layer, before) if full and before is not None else None,
    )


def _compared(region_filters: Tensor | None, num_regions: int) -> tuple[_Row, tuple[_Row, ...]]:
    """Return norms and cosines of filters; unknown ones where the filters were not recorded."""
    if region_filters is None:
        unknown = (None,) * num_regions
        return unknown, (unknown,) * num_regions
    filters = region_filters.double() if region_filters.device.type != "mps" else region_filters
    filters = (filters if filters.dim() == 6 else filters[None]).flatten(2)  # [B, M, O*C/groups*K*K]
    unit = filters.mean(0)
    unit = unit / unit.norm(dim=1, keepdim=True)  # 0/0 is NaN: no direction, no cosine
    cosines = (unit @ unit.T).clamp(-1, 1)
    return _finite(filters.norm(dim=2).mean(0).tolist()), tuple(map(_finite, cosines.tolist()))


def _margins(layer: LayerRegions, margins_of: Tensor) -> tuple[tuple[float | None, ...], int]:
    """Return the mean margin of each region, and how many positions have none."""
    num_regions = layer.guided_feature.shape[1]
    margins, mask = margins_of.flatten(), layer.guided_mask.flatten()
    scored = ~margins.isnan()
    sums = torch.zeros(num_regions, device=margins.device).index_add_(0, mask[scored], margins[scored])
    counts = mask[scored].bincount(minlength=num_regions)
    return _finite((sums / counts).tolist()), int((~scored).sum())


def _agreement(layer: LayerRegions, before: LayerRegions) -> float:
    compare = optional_part("agreement").adjusted_mutual_information
    pairs = zip(layer.guided_mask.cpu().numpy(), before.guided_mask.cpu().numpy(), strict=True)
    values = [compare(a, b) for a, b in pairs]
    return float(sum(values) / len(values))


def optional_part(name: str) -> Any:
    """Load a module of full statistics; SciPy and scikit-learn take their time."""
    try:
        return import_module(f"drconv.analysis.{name}")
    except ImportError as error:
        raise DrconvError(
            f"these statistics need what the extra 'viz' installs, and there is no {error.name}; "
            "pip install 'drconv[viz]'"
        ) from error


def _listed(regions: tuple[int, ...]) -> str:
    """Return "region 3", or "regions 0, 2-5 and 7"."""
    runs: list[list[int]] = []
    for region in regions:
        if runs and region == runs[-1][-1] + 1:
            runs[-1].append(region)
        else:
            runs.append([region])
    words = [word for run in runs for word in ([f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run))]
    text = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"region{'s' if len(regions) > 1 else ''} {text}"


def _finite(values: list[float]) -> tuple[float | None, ...]:
    return tuple(value if isfinite(value) else None for value in values)


def _nearest(cosines: tuple[float | None, ...], j: int) -> int | None:
    others = [(cosine, i) for i, cosine in enumerate(cosines) if i != j and cosine is not None]
    return max(others)[1] if others else None
