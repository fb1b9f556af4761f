"""Models of timm and torchvision, where these are installed; none of their weights is downloaded."""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from types import ModuleType
from typing import Any

import torch
from torch import nn

from drconv.errors import ModelError
from drconv.models.registry import InputSize
from drconv.registry import Registry, unknown_name

__all__ = ["COLLECTIONS", "Collection", "timm_input_size"]


@dataclass(frozen=True)
class Collection:
    """A package of models, whose specifications are `PACKAGE:NAME`.

    Attributes:
        package: what is imported, and what is installed if it is missing.
        names: the names of its models.
        build: makes one with random weights, from the package, a name and perhaps `num_classes`.
    """

    package: str
    names: Callable[[ModuleType], Sequence[str]]
    build: Callable[..., nn.Module]

    def builder(self, name: str, **keywords: Any) -> Callable[[], nn.Module]:
        """Return what makes a model with random weights; the keyword is `num_classes`.

        Raises:
            ModelError: the package is not installed, or cannot be imported.
            UnknownNameError: it has no such model.
        """
        module = self._load()
        names = self.names(module)
        # timm's names may end in the tag of their weights, which says the input size among other things.
        if name not in names and not (self.package == "timm" and name.partition(".")[0] in names):
            raise unknown_name(f"{self.package} model", name, names)
        return partial(self._build_quietly, module, name, **keywords)

    def _build_quietly(self, module: ModuleType, name: str, **keywords: Any) -> nn.Module:
        with warnings.catch_warnings():
            # Some builders warn about defaults of weights, of which there are none here.
            warnings.simplefilter("ignore")
            return self.build(module, name, **keywords)

    def _load(self) -> ModuleType:
        try:
            _prepare_torchvision()
            return importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            if error.name == self.package:
                raise ModelError(f"{self.package} is not installed; pip install {self.package}") from None
            reason: Exception = error
        except Exception as error:  # a package built for another torch fails with almost any exception
            reason = error
        line = (str(reason).strip() or type(reason).__name__).partition("\n")[0]
        raise ModelError(
            f"{self.package} cannot be imported ({line}); install what it needs, and the release of torchvision for "
            f"torch {torch.__version__}"
        ) from reason


_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[torch.library.Library] = []


def _prepare_torchvision() -> None:
    """Import torchvision, also where its compiled part was made for another torch.

    Its classifiers need nothing of that part, but the import does: the name of one operator, which is declared here if
    it is missing. What does use the operator then fails with a message of torch. Nothing is done where torchvision is
    not installed.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error) or _libraries:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _libraries.append(torch.library.Library("torchvision", "DEF"))
        _libraries[0].define(_NMS)
        importlib.import_module("torchvision")


def _build_torchvision(module: ModuleType, name: str, **given: Any) -> nn.Module:
    builder = module.models.get_model_builder(name)
    keywords: dict[str, Any] = {"weights": None, **given}
    if "weights_backbone" in signature(builder).parameters:
        # By default, networks for segmentation and detection fetch the weights of their backbone.
        keywords["weights_backbone"] = None
    made: nn.Module = builder(**keywords)
    return made


def _build_timm(module: ModuleType, name: str, **given: Any) -> nn.Module:
    made: nn.Module = module.create_model(name, pretrained=False, **given)
    return made


def timm_input_size(model: nn.Module) -> InputSize | None:
    """Return the (C, H, W) that a model of timm was made for; None for other models."""
    config = getattr(model, "default_cfg", None)
    size = config.get("input_size") if isinstance(config, Mapping) else None
    if not isinstance(size, Sequence) or len(size) != 3 or not all(isinstance(n, int) and n > 0 for n in size):
        return None
    return size[0], size[1], size[2]


COLLECTIONS: Registry[Collection] = Registry("collection of models")
COLLECTIONS.add("timm", Collection("timm", lambda timm: timm.list_models(), _build_timm))
COLLECTIONS.add("torchvision", Collection("torchvision", lambda tv: tv.models.list_models(), _build_torchvision))
