"""Multiply-adds of a model's dynamic layers for the pass that is timed, by `count_flops`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from drconv.analysis.flops import LayerFlops, count_flops
from drconv.analysis.profile.options import Pass
from drconv.analysis.profile.targets import LayerCall
from drconv.errors import DrconvError

__all__ = ["LayerCounts", "count_layers"]


@dataclass(frozen=True)
class LayerCounts:
    """Multiply-adds of one call.

    Attributes:
        whole: of the pass; None if they are not known.
        stages: stage -> multiply-adds of the forward pass.
    """

    whole: int | None = None
    stages: Mapping[str, int] | None = field(default=None)


class _NeedsInputGradient(nn.Module):
    """A model whose backward pass goes all the way to the input, as that of a layer inside a network does."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        like = next(model.parameters(), torch.empty(0))
        self.scale = nn.Parameter(torch.ones((), device=like.device, dtype=like.dtype))

    def forward(self, input: Tensor) -> object:
        return self.model(input * self.scale)


def count_layers(
    model: nn.Module, input_shape: Sequence[int], calls: Sequence[LayerCall], which: Pass
) -> dict[str, LayerCounts]:
    """Return name of a call -> its multiply-adds; nothing for a model that cannot be counted.

    Args:
        model: that made the calls.
        input_shape: [B, C, H, W] of its input.
        calls: of its layers. A layer that is called more than once is left out.
        which: the pass.
    """
    kept = [p.requires_grad for p in model.parameters()]
    try:
        report = count_flops(
            _NeedsInputGradient(model), tuple(input_shape[1:]), backward=which != "forward", engine="dispatch"
        )
    except DrconvError:
        return {}
    finally:
        for parameter, requires_grad in zip(model.parameters(), kept, strict=True):
            parameter.requires_grad_(requires_grad)
    found = {layer.name: layer for layer in report.layers}
    times = Counter(call.layer for call in calls)
    names = {module: ".".join(filter(None, ("model", name))) for name, module in model.named_modules()}
    return {
        call.name: _counts(found[names[call.layer]], input_shape[0], which)
        for call in calls
        if times[call.layer] == 1 and names[call.layer] in found
    }


def _counts(layer: LayerFlops, batch: int, which: Pass) -> LayerCounts:
    backward = layer.backward or 0
    whole = {"forward": layer.madds, "backward": backward, "step": layer.madds + backward}[which]
    return LayerCounts(batch * whole, {stage.stage: batch * stage.madds for stage in layer.stages})
