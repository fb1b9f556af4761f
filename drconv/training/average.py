"""A running average of a model's weights (EMA)."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["WeightAverage"]


class WeightAverage:
    """Keeps a second model whose weights follow the first one's.

    After update n the average moves by 1 - min(decay, n / (n + 9)) of the way, so that it forgets its start. Running
    statistics of BatchNorm are averaged, too; all other buffers, such as temperatures, are copied.

    Args:
        model: what is averaged.
        decay: below 1; the closer to 1 the longer the memory.

    Attributes:
        model: with the averaged weights, in eval mode.
        updates: so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.model = deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        ours, theirs = self.model.state_dict(), model.state_dict()
        moving = {name for name, _ in model.named_parameters()} | _statistics(model)
        for name, tensor in ours.items():
            if name in moving:
                tensor.lerp_(theirs[name], 1 - decay)
            else:
                tensor.copy_(theirs[name])


def _statistics(model: nn.Module) -> set[str]:
    norms = (name for name, module in model.named_modules() if isinstance(module, _BatchNorm))
    return {f"{name}.{statistic}".removeprefix(".") for name in norms for statistic in ("running_mean", "running_var")}
