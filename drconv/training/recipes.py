"""Training recipes by name: what is known of how the networks of the papers were trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from drconv.registry import Registry

__all__ = ["RECIPES", "Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Options by name, and where they are from.

    Attributes:
        summary: what it is for, and how sure its source is.
        settings: of `TrainingOptions`, those that differ from the defaults.
    """

    summary: str
    settings: Mapping[str, Any]


_SGD = {"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "warmup_steps": 0, "clip": 0.0}

RECIPES: Registry[Recipe] = Registry("recipe")
RECIPES.add(
    "shufflenet",
    Recipe(
        "the public recipe of DRConv's group for ShuffleNet on ImageNet; DRConv's own is not published",
        {**_SGD, "epochs": 240, "batch_size": 1024, "lr": 0.5, "schedule": "linear", "weight_decay": 4e-5,
         "label_smoothing": 0.1},
    ),
)  # fmt: skip
RECIPES.add(
    "dyconv_mobilenet_v2",
    Recipe(
        "DyConv's MobileNetV2 on ImageNet, after a reproduction; its batch size is not certain",
        {**_SGD, "epochs": 300, "batch_size": 256, "lr": 0.05, "schedule": "cosine", "weight_decay": 4e-5,
         "label_smoothing": 0.1, "temperature_epochs": 10},
    ),
)  # fmt: skip
RECIPES.add(
    "dyconv_mobilenet_v3",
    Recipe(
        "DyConv's MobileNetV3 on ImageNet, as far as known; its batch size is not certain",
        {**_SGD, "epochs": 300, "batch_size": 256, "lr": 0.1, "schedule": "cosine", "weight_decay": 3e-5,
         "label_smoothing": 0.1, "temperature_epochs": 10},
    ),
)  # fmt: skip
RECIPES.add(
    "dyconv_resnet",
    Recipe(
        "DyConv's ResNet-10 and -18 on ImageNet, as far as known; its batch size is not certain",
        {**_SGD, "epochs": 100, "batch_size": 256, "lr": 0.1, "schedule": "step", "milestones": (30, 60, 90),
         "weight_decay": 1e-4, "temperature_epochs": 10},
    ),
)  # fmt: skip
