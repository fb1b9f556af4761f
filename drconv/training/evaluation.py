"""The accuracy of a classifier on a data set, with how far it can be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drconv.analysis import RegionHealth, wilson_interval
from drconv.report import Cell, Column, Table
from drconv.training.tally import Tally

__all__ = ["ClassAccuracies", "EvaluationReport", "evaluation_report"]


@dataclass(frozen=True)
class EvaluationReport:
    """What a classifier gets right.

    Attributes:
        model: name.
        weights: where they come from, in words.
        data: name.
        images: that were classified.
        loss: mean cross-entropy per image, in nats; None if it is not finite.
        top1: images whose class got the largest logit.
        top5: images whose class is among the five largest; of fewer classes all.
        classes: name, images and right ones of each class.
        regions: how layers with regions use them.
    """

    model: str
    weights: str
    data: str
    images: int
    loss: float | None
    top1: int
    top5: int
    classes: tuple[tuple[str, int, int], ...]
    regions: tuple[RegionHealth, ...]

    def to_table(self) -> Table:
        """Return a row for top-1 and top-5 each."""
        columns = (
            Column("accuracy"), Column("right", "count"), Column("images", "count"), Column("share", "share"),
            Column("95 % from", "share"), Column("to", "share"),
        )  # fmt: skip
        rows = tuple(_row(name, right, self.images) for name, right in (("top-1", self.top1), ("top-5", self.top5)))
        loss = "not finite" if self.loss is None else f"{self.loss:.4g}"
        notes = [f"{self.weights}; cross-entropy {loss} nats per image; Wilson's 95 % intervals"]
        if len(self.classes) <= 5:
            notes.append(f"top-5 of {len(self.classes)} classes is always right")
        for layer in self.regions:
            text = f"{layer.name}: as even as {layer.effective_regions:.1f} of {len(layer.region_positions)} regions"
            text += f", {layer.regions_per_image:.1f} in an image"
            notes.append(text + (f"; dead: {', '.join(map(str, layer.dead))}" if layer.dead else ""))
        return Table(f"{self.model} on {self.data}", columns, rows, tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Return counts, shares and intervals."""
        return {
            "model": self.model,
            "data": self.data,
            "images": self.images,
            "loss": self.loss,
            "top1": _numbers(self.top1, self.images),
            "top5": _numbers(self.top5, self.images),
            "classes": [{"name": name, **_numbers(right, images)} for name, images, right in self.classes],
            "regions": [layer.to_dict() for layer in self.regions],
        }


@dataclass(frozen=True)
class ClassAccuracies:
    """The same report, class by class."""

    report: EvaluationReport

    def to_table(self) -> Table:
        """Return a row per class, those that occur."""
        columns = (
            Column("class"), Column("right", "count"), Column("images", "count"), Column("share", "share"),
            Column("95 % from", "share"), Column("to", "share"),
        )  # fmt: skip
        rows = tuple(_row(name, right, images) for name, images, right in self.report.classes if images)
        return Table("Top-1 by class", columns, rows)

    def to_dict(self) -> dict[str, Any]:
        """Return what the report does."""
        return self.report.to_dict()


def evaluation_report(
    tally: Tally, *, model: str, weights: str, data: str, class_names: Sequence[str]
) -> EvaluationReport:
    """Return what `validate` counted as a report.

    Args:
        tally: of the whole set.
        model: name.
        weights: where they come from, in words.
        data: name.
        class_names: in the order of the logits.
    """
    classes = tuple(zip(class_names, tally.class_images, tally.class_top1, strict=True))
    counts = (tally.images, tally.mean_loss, tally.top1, tally.top5)
    return EvaluationReport(model, weights, data, *counts, classes, tally.regions.report())


def _row(name: str, right: int, images: int) -> tuple[Cell, ...]:
    return (name, right, images, right / max(1, images), *wilson_interval(right, images))


def _numbers(right: int, images: int) -> dict[str, Any]:
    return {
        "right": right,
        "images": images,
        "share": right / max(1, images),
        "interval": list(wilson_interval(right, images)),
    }
