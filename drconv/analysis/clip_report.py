"""What `drconv visualize --frames` returns: the stability of regions over a clip, and their use over its frames."""

from dataclasses import dataclass
from typing import Any

from drconv.analysis.stability import ClipStability
from drconv.analysis.usage import UsageReport
from drconv.report import Table

__all__ = ["ClipReport"]


@dataclass(frozen=True)
class ClipReport:
    """Statistics of one clip under one model.

    Attributes:
        clip: its path, as given.
        size: (H, W) of the frames as the network saw them.
        layer: the one that is shown in the animation.
        stability: from frame to frame.
        usage: of regions over all frames.
        notes: lines below the table.
    """

    clip: str
    size: tuple[int, int]
    layer: str
    stability: ClipStability
    usage: UsageReport
    notes: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return one row per layer."""
        table = self.stability.to_table()
        notes = (
            *self.notes,
            "stability: share of positions whose region is that of the frame before. by chance: what frames with the "
            "same shares would have in common if their positions were shuffled. above chance: 1 steady, 0 chance.",
        )
        return Table(table.title, table.columns, table.rows, notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the stability of the layers and the usage over the frames."""
        return {
            "clip": self.clip,
            "size": list(self.size),
            "layer": self.layer,
            "stability": self.stability.to_dict(),
            "usage": self.usage.to_dict(),
        }
