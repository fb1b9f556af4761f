"""The table of regions and classes of a page, if the statistics were compared with labels."""

from dataclasses import dataclass

import numpy as np

from drconv.analysis.statistics import LayerStatistics
from drconv.viz.page.numbers import share_text

__all__ = ["MOST_CLASSES", "ClassTable", "class_table"]

MOST_CLASSES = 32
"""So many classes have a column, those with most pixels; the others share one."""

_UNKNOWN = "–"  # noqa: RUF001


@dataclass(frozen=True)
class ClassTable:
    """How the labelled pixels of each region divide into classes, as texts.

    Attributes:
        headings: of the columns, "class N" each.
        pixels: labelled pixels of each region, `[M]`.
        shares: fraction of a region's labelled pixels in each class, `[M, columns]`; a dash where it has none.
        counts: the same as pixels.
        all_pixels: labelled pixels of all regions.
        all_shares: fraction of all labelled pixels in each class, `[columns]`.
        scores: one sentence with NMI and ARI.
    """

    headings: tuple[str, ...]
    pixels: tuple[str, ...]
    shares: tuple[tuple[str, ...], ...]
    counts: tuple[tuple[str, ...], ...]
    all_pixels: str
    all_shares: tuple[str, ...]
    scores: str


def class_table(layer: LayerStatistics) -> ClassTable | None:
    """Return the table of one layer; None without labels."""
    if layer.labels is None:
        return None
    table = np.array(layer.labels.table, np.int64)  # [M, classes]
    kept = np.sort(np.argsort(-table.sum(0), kind="stable")[:MOST_CLASSES])
    headings = [f"class {layer.labels.classes[i]}" for i in kept]
    shown = table[:, kept]
    if left_out := table.shape[1] - len(kept):
        headings.append(f"{left_out} others")
        shown = np.column_stack((shown, table.sum(1) - shown.sum(1)))
    totals = shown.sum(1)
    return ClassTable(
        tuple(headings),
        tuple(f"{total:,}" for total in totals),
        tuple(
            tuple(share_text(count / total) if total else _UNKNOWN for count in row)
            for row, total in zip(shown.tolist(), totals.tolist(), strict=True)
        ),
        tuple(tuple(f"{count:,}" for count in row) for row in shown.tolist()),
        f"{totals.sum():,}",
        tuple(share_text(count / totals.sum()) for count in shown.sum(0).tolist()),
        f"NMI {layer.labels.nmi:z.4f}, ARI {layer.labels.ari:z.4f}",
    )
