"""A small set of images with known regions and a small network with every kind of dynamic layer, for tests."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from drconv.layers import DRConv2d, DynamicConv2d


class Sample(NamedTuple):
    image: Tensor
    label: int
    region_map: Tensor


class TinyImages(Dataset[Sample]):
    """Images whose brighter half, left, right or none, is their class; each a function of (seed, epoch, index)."""

    def __init__(self, size: int, side: int = 16, seed: int = 0, changes: bool = True) -> None:
        self.size, self.side, self.seed, self.changes, self.epoch = size, side, seed, changes, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + 1009 * index + self.epoch * self.changes)
        label = index % 3
        image = torch.randn(3, self.side, self.side, generator=generator) * 0.3
        region = torch.zeros(self.side, self.side, dtype=torch.int64)
        half = self.side // 2
        if label < 2:
            part = slice(0, half) if label == 0 else slice(half, None)
            image[:, :, part] += 1
            region[:, part] = 1
        return Sample(image, label, region)


@dataclass
class TinyData:
    train: Dataset[Sample] = field(default_factory=lambda: TinyImages(24))
    validation: Dataset[Sample] = field(default_factory=lambda: TinyImages(10, seed=1, changes=False))
    num_classes: int = 3
    class_names: Sequence[str] = ("left", "right", "none")
    has_region_maps: bool = True
    name: str = "tiny"
    listing: str | None = None


def make(num_classes: int = 3, width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        DRConv2d(width, width, 1, num_regions=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        DynamicConv2d(width, width, 3, padding=1, num_experts=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(width, num_classes),
    )
