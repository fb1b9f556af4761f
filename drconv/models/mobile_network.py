"""What MobileNetV2 and V3 have in common: `features`, a row of modules, and `classifier`, as torchvision names them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from drconv.models.network import Network, draw_he

__all__ = ["MobileNetwork", "Step"]


@dataclass(frozen=True)
class Step:
    """One module of a trunk.

    Attributes:
        module: to run.
        stride: 1 or 2; with 2 a new stage begins.
        out_channels: of its output.
    """

    module: nn.Module
    stride: int
    out_channels: int


class MobileNetwork(Network):
    """Base of MobileNetV2 and V3: a trunk, one more convolution, a mean over positions, a classifier.

    Args:
        trunk: the first has stride 2.
        last_conv: the convolution after the trunk.
        classifier: from the means of its output to logits.
        features_only: whether to leave out both, and give the trunk's maps.
    """

    def __init__(
        self, trunk: Sequence[Step], last_conv: nn.Module, classifier: nn.Module, *, features_only: bool
    ) -> None:
        bounds = [*(index for index, step in enumerate(trunk) if step.stride == 2), len(trunk)]
        super().__init__([trunk[end - 1].out_channels for end in bounds[1:]], features_only)
        self._spans = list(pairwise(bounds))
        self.features = nn.Sequential(*(step.module for step in trunk))
        if not features_only:
            self.features.append(last_conv)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.classifier = classifier
        draw_he(self, linear_std=0.01)

    def stages(self) -> list[list[nn.Module]]:
        """Return the trunk, cut before each module of stride 2."""
        modules = list(self.features)
        return [modules[start:end] for start, end in self._spans]

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the logits, `[B, num_classes]`."""
        logits: Tensor = self.classifier(self.pool(self.features[-1](last_map)).flatten(1))
        return logits
