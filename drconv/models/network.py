"""What all networks have in common: stages that end in one feature map each, and a head on the last of them."""

from collections.abc import Sequence

from torch import Tensor, nn

from drconv.checks import flag

__all__ = ["Network", "draw_he"]


class Network(nn.Module):
    """Base of the networks: a trunk in stages, each half as large as the one before, and a head.

    A subclass builds its modules (no head if `features_only`) and says in `stages` and `forward_head` how they follow
    each other.

    Args:
        feature_channels: of the map at the end of each stage.
        features_only: whether `forward` gives these maps, and there is no head.

    Attributes:
        features_only: as given.
        feature_channels: as given.
        feature_strides: of the same maps, 2, 4, 8 and so on: image size over map size.

    Shape:
        input `[B, in_channels, H, W]`; output what the head gives, or with `features_only` a list of
        `[B, feature_channels[i], H / feature_strides[i], W / feature_strides[i]]`, sizes rounded up.
    """

    def __init__(self, feature_channels: Sequence[int], features_only: bool) -> None:
        super().__init__()
        self.features_only = flag("features_only", features_only)
        self.feature_channels = tuple(feature_channels)
        self.feature_strides = tuple(2 ** (1 + index) for index in range(len(self.feature_channels)))

    def stages(self) -> Sequence[Sequence[nn.Module]]:
        """Return the modules of each stage, in the order in which they run."""
        raise NotImplementedError

    def forward_features(self, input: Tensor) -> list[Tensor]:
        """Return the map at the end of each stage."""
        maps = []
        x = input
        for stage in self.stages():
            for module in stage:
                x = module(x)
            maps.append(x)
        return maps

    def forward_head(self, last_map: Tensor) -> Tensor:
        """Return the network's output, given the last stage's map."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor | list[Tensor]:
        """Return the head's output for a batch of images, or the maps if there is no head."""
        maps = self.forward_features(input)
        return maps if self.features_only else self.forward_head(maps[-1])


def draw_he(model: nn.Module, linear_std: float | None = None) -> None:
    """Draw the convolutions with He variance by their outputs, as torchvision does, and set their biases to zero.

    Args:
        model: any module.
        linear_std: of the linear layers, whose biases become zero; None leaves them as they are.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear) and linear_std is not None:
            nn.init.normal_(module.weight, std=linear_std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
