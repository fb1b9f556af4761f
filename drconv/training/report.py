"""What a training run reached, epoch by epoch."""

from dataclasses import dataclass
from typing import Any

from drconv.analysis import wilson_interval
from drconv.report import Cell, Column, Table

__all__ = ["TrainingPlan", "TrainingReport"]


@dataclass(frozen=True)
class TrainingReport:
    """The records of all epochs.

    Attributes:
        model: name.
        data: name.
        history: one record per epoch, as the log holds it.
        weights: path of the file.
    """

    model: str
    data: str
    history: tuple[dict[str, Any], ...]
    weights: str

    @property
    def last(self) -> dict[str, Any]:
        """The record of the last epoch."""
        return self.history[-1]

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the last top-1 accuracy."""
        images = self.last["validation"]["images"]
        return wilson_interval(round(self.last["validation"]["top1"] * images), images)

    def to_table(self) -> Table:
        """Return one row per epoch."""
        columns = (
            Column("epoch", "count"), Column("learning rate", "number"), Column("loss", "number"),
            Column("accuracy", "share"), Column("validation loss", "number"), Column("top-1", "share"),
            Column("top-5", "share"), Column("dead regions", "count"), Column("seconds", "number"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for r in self.history:
            trained, found = r["train"], r["validation"]
            dead = sum(len(layer["dead"]) for layer in r["regions"]) if r["regions"] else None
            rows.append(
                (r["epoch"], r["learning_rate"], trained["loss"], trained["top1"], found["loss"], found["top1"],
                 found["top5"], dead, r["seconds"])
            )  # fmt: skip
        low, high = self.interval
        last = self.last["validation"]
        notes = [
            f"top-1 {last['top1']:.1%} on {last['images']} images, 95 % interval {low:.1%} to {high:.1%}",
            f"weights: {self.weights}",
            *(_health(layer) for layer in self.last["regions"]),
        ]
        return Table(f"{self.model} trained on {self.data}", columns, tuple(rows), tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Return the records, and the last accuracy with its interval."""
        return {
            "model": self.model,
            "data": self.data,
            "weights": self.weights,
            "top1": self.last["validation"]["top1"],
            "top1_interval": list(self.interval),
            "top5": self.last["validation"]["top5"],
            "epochs": list(self.history),
        }


def _health(layer: dict[str, Any]) -> str:
    text = (
        f"{layer['name']}: as even as {layer['effective_regions']:.1f} of {layer['num_regions']} regions, "
        f"{layer['regions_per_image']:.1f} in an image"
    )
    return f"{text}; dead: {', '.join(map(str, layer['dead']))}" if layer["dead"] else text


@dataclass(frozen=True)
class TrainingPlan:
    """What would be trained, how.

    Attributes:
        model: name.
        data: name.
        facts: what was found and chosen, by name, in order.
    """

    model: str
    data: str
    facts: dict[str, Any]

    def to_table(self) -> Table:
        """Return one row per fact."""
        rows = tuple((name, _text(value)) for name, value in self.facts.items())
        title = f"What would be trained: {self.model} on {self.data}"
        return Table(title, (Column("what"), Column("value")), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the facts."""
        return {"dry_run": True, "model": self.model, "data": self.data, "plan": self.facts}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
