"""Loss and accuracy over a set: whole numbers and sums without rounding, the same however the set was shared out."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from drconv.analysis import ExactSum, RegionCounts

__all__ = ["Tally"]


@dataclass
class Tally:
    """Counts batch by batch; two that have counted parts of a set merge to what one would have counted.

    Attributes:
        num_classes: of the data.
        images: that were counted.
        top1: images whose class got the largest logit.
        top5: images whose class is among the five largest; all of them where there are fewer classes.
        not_finite: images whose loss is not finite, which are left out of `loss`.
        loss: per image, in nats.
        class_images: images of each class.
        class_top1: images of each class that are in `top1`.
        regions: of the layers, if they were watched.
    """

    num_classes: int
    images: int = 0
    top1: int = 0
    top5: int = 0
    not_finite: int = 0
    loss: ExactSum = field(default_factory=ExactSum)
    class_images: list[int] = field(default_factory=list)
    class_top1: list[int] = field(default_factory=list)
    regions: RegionCounts = field(default_factory=RegionCounts)

    def __post_init__(self) -> None:
        self.class_images = self.class_images or [0] * self.num_classes
        self.class_top1 = self.class_top1 or [0] * self.num_classes

    def add(self, logits: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Count a batch: logits `[B, classes]`, labels and losses `[B]`."""
        best = logits.detach().topk(min(5, logits.shape[1]), dim=1).indices  # [B, 5]
        right = best == labels[:, None]
        self.images += len(labels)
        self.top5 += int(right.sum())
        for label, hit in zip(labels.tolist(), right[:, 0].tolist(), strict=True):
            self.class_images[label] += 1
            self.class_top1[label] += hit
            self.top1 += hit
        for value in losses.detach().tolist():
            if value - value == 0:
                self.loss.add(value)
            else:
                self.not_finite += 1

    def merge(self, other: "Tally") -> None:
        """Add what another has counted, of other images of the set."""
        self.images += other.images
        self.top1 += other.top1
        self.top5 += other.top5
        self.not_finite += other.not_finite
        self.loss.merge(other.loss)
        self.regions.merge(other.regions)
        self.class_images = [a + b for a, b in zip(self.class_images, other.class_images, strict=True)]
        self.class_top1 = [a + b for a, b in zip(self.class_top1, other.class_top1, strict=True)]

    @property
    def mean_loss(self) -> float | None:
        """Mean loss per image, rounded once; None if it is not finite, or of nothing."""
        return None if self.not_finite else self.loss.mean

    def numbers(self) -> dict[str, Any]:
        """Return what a log holds of it."""
        count = max(1, self.images)
        return {
            "images": self.images,
            "loss": self.mean_loss,
            "top1": self.top1 / count,
            "top5": self.top5 / count,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all but the regions, for a checkpoint; JSON keeps it exactly."""
        counts = ("num_classes", "images", "top1", "top5", "not_finite", "class_images", "class_top1")
        return {name: getattr(self, name) for name in counts} | {"loss": self.loss.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Tally":
        """Return what `to_dict` gave."""
        return cls(**{**values, "loss": ExactSum.from_dict(values["loss"])})
