"""The temperature of dynamic convolutions: set everywhere at once, or annealed over epochs."""

from typing import Any

from torch import nn

from drconv.checks import positive
from drconv.errors import ArgumentError
from drconv.layers.dynamic_conv2d import ExpertAttention

__all__ = ["TemperatureSchedule", "set_temperature"]


def set_temperature(model: nn.Module, temperature: float) -> nn.Module:
    """Set the softmax temperature of every `DynamicConv2d` in a model.

    Args:
        model: any module; other layers are left alone.
        temperature: positive; high is near-uniform mixing, 1 the plain softmax.

    Returns:
        The same model.

    Raises:
        ArgumentError: the temperature is not a positive finite number.
    """
    for module in model.modules():
        if isinstance(module, ExpertAttention):
            module.set_temperature(temperature)
    return model


class TemperatureSchedule:
    """Lower the temperature of a model linearly over its first epochs.

    Near-uniform mixing at first lets all experts learn; the paper's schedule goes from 30 to 1 in 10 epochs. Call
    `step` after each epoch. The temperature itself is in the model's state dict, the epoch in that of the schedule.

    Args:
        model: whose `DynamicConv2d` layers are set, at once and by `step`.
        start: temperature of the first epoch.
        end: temperature after `epochs` epochs, and from then on.
        epochs: how many epochs the way from `start` to `end` takes.
        epoch: epochs done already.

    Raises:
        ArgumentError: a temperature is not positive and finite, `epochs` is less than 1, or `epoch` less than 0.

    Example:
        >>> schedule = TemperatureSchedule(model)
        >>> for epoch in range(100):
        ...     train_one_epoch(model)
        ...     schedule.step()
    """

    def __init__(
        self, model: nn.Module, start: float = 30.0, end: float = 1.0, epochs: int = 10, *, epoch: int = 0
    ) -> None:
        self.model = model
        self.start = start
        self.end = end
        self.epochs = positive("epochs", epochs)
        if epoch < 0:
            raise ArgumentError(f"epoch must be 0 or more, got epoch={epoch!r}")
        self.epoch = epoch
        set_temperature(model, end)
        set_temperature(model, self.temperature)

    @property
    def temperature(self) -> float:
        """Temperature of the current epoch."""
        done = min(self.epoch / self.epochs, 1.0)
        return self.start + (self.end - self.start) * done

    def step(self) -> float:
        """Go to the next epoch and return its temperature."""
        self.epoch += 1
        set_temperature(self.model, self.temperature)
        return self.temperature

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on."""
        return {"start": self.start, "end": self.end, "epochs": self.epochs, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, and set the model's temperature to it."""
        self.start, self.end = state["start"], state["end"]
        self.epochs, self.epoch = state["epochs"], state["epoch"]
        set_temperature(self.model, self.temperature)
