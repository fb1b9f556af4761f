"""How to train, in one frozen value that checkpoints carry."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from sys import float_info
from typing import Any, Literal, get_args

from drconv.checks import flag, pick, positive, probability
from drconv.errors import ArgumentError
from drconv.training.recipes import RECIPES

__all__ = ["Optimizer", "Precision", "Schedule", "TrainingOptions"]

Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "linear", "step", "constant"]
Precision = Literal["float32", "bfloat16", "float16", "float64"]


@dataclass(frozen=True)
class TrainingOptions:
    """All that decides what is learned, beside data and model.

    Attributes:
        epochs: passes over the training data.
        batch_size: images per step, of all processes together.
        optimizer: "adamw", or "sgd" with momentum.
        lr: largest learning rate. It is not scaled with the batch.
        momentum: of SGD.
        nesterov: whether SGD looks ahead.
        weight_decay: of all parameters but norms, biases and other vectors.
        schedule: of the learning rate after warm-up: "cosine" or "linear" to 0, "step", or "constant".
        milestones: epochs after which "step" multiplies the rate by `step_factor`.
        step_factor: see `milestones`.
        warmup_steps: steps in which the rate rises linearly.
        label_smoothing: share of the target that all classes get alike, below 1.
        ema: decay of a running average of the weights, below 1; 0 is none. The average is what is validated and saved.
        clip: largest norm of all gradients together; 0 is none.
        precision: "bfloat16" and "float16" are autocast, with float32 weights; "float16" is for CUDA. "float64" is
            everything in float64.
        freeze_norm: whether BatchNorm keeps its running statistics and uses them in training, too.
        temperature: first and last temperature of `DynamicConv2d` layers.
        temperature_epochs: epochs from the one to the other; None is 10, or half the epochs if that is less.
        guide_supervision: weight of a loss on the guides against the true region maps; 0 is none. Not in the papers.
        augment: how `load_data` augments the training images, by its name for it; None is what it does by itself.
        seed: of weights, order and augmentation.

    Raises:
        ArgumentError: a value is out of its range.
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    lr: float = 0.002
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.02
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = (30, 60, 90)
    step_factor: float = 0.1
    warmup_steps: int = 200
    label_smoothing: float = 0.0
    ema: float = 0.0
    clip: float = 5.0
    precision: Precision = "float32"
    freeze_norm: bool = False
    temperature: tuple[float, float] = (30.0, 1.0)
    temperature_epochs: int | None = None
    guide_supervision: float = 0.0
    augment: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            positive(name, getattr(self, name))
        for name, allowed in (("optimizer", Optimizer), ("schedule", Schedule), ("precision", Precision)):
            pick(name, getattr(self, name), get_args(allowed))
        for name in ("momentum", "label_smoothing", "ema"):
            probability(name, getattr(self, name))
        for name in ("nesterov", "freeze_norm"):
            flag(name, getattr(self, name))
        for name in ("weight_decay", "clip", "guide_supervision"):
            _number(name, getattr(self, name), "of at least 0", lambda value: value >= 0)
        for name in ("warmup_steps", "seed"):
            _whole(name, getattr(self, name))
        for name in ("lr", "step_factor"):
            _number(name, getattr(self, name), "above 0", lambda value: value > 0)
        _pair_of_temperatures(self.temperature)
        if self.temperature_epochs is not None:
            positive("temperature_epochs", self.temperature_epochs)
        # JSON knows no tuples.
        object.__setattr__(self, "milestones", tuple(self.milestones))
        object.__setattr__(self, "temperature", tuple(self.temperature))

    @classmethod
    def of(cls, recipe: str | None = None, **given: Any) -> "TrainingOptions":
        """Return the options of a recipe with some of them replaced.

        Args:
            recipe: a name from `drconv.training.RECIPES`; None is the defaults.
            **given: options by name; None leaves what the recipe says.

        Raises:
            UnknownNameError: no recipe has that name.
            ArgumentError: a value is out of its range.
        """
        settings = dict(RECIPES[recipe].settings) if recipe is not None else {}
        return cls(**settings | {name: value for name, value in given.items() if value is not None})

    @property
    def temperature_span(self) -> int:
        """Epochs from the first temperature to the last."""
        return self.temperature_epochs or max(1, min(10, self.epochs // 2))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingOptions":
        """Return the options that `to_dict` gave."""
        known = {entry.name for entry in fields(cls)}
        return replace(cls(), **{name: value for name, value in values.items() if name in known})


def _number(name: str, value: object, rule: str, holds: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # An integer may be too long for a float, though not to be compared with one.
    if not (number and abs(value) <= float_info.max and holds(value)):  # type: ignore[arg-type]
        raise ArgumentError(f"{name} must be a number {rule}, got {name}={value!r}")


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ArgumentError(f"{name} must be an integer of at least 0 and below 2^63, got {name}={value!r}")


def _pair_of_temperatures(value: object) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ArgumentError(f"temperature must be two numbers, the first and the last, got temperature={value!r}")
    for number in value:
        _number("temperature", number, "above 0", lambda number: number > 0)
