"""Run a model on one image and keep which regions it chose."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from drconv.analysis import (
    LayerRegions,
    RegionRecording,
    RegionStatistics,
    guide_margins,
    model_errors,
    record_regions,
    region_statistics,
)
from drconv.errors import ArgumentError
from drconv.models import has_fresh_batch_norm
from drconv.regions.image_regions import ImageRegions
from drconv.registry import unknown_name
from drconv.viz import LoadedImage, load_image, pixels_of, prepare_image

__all__ = ["MeasuredRegions", "expected_layers", "input_channels", "measure_regions", "on_device_of", "visualize"]

_FRESH = (
    "BatchNorm statistics have never seen data, so that activations fade and regions mean little; load weights, or "
    "call drconv.models.calibrate_batch_norm first"
)


@dataclass(frozen=True, eq=False)
class MeasuredRegions:
    """What a model did with one input.

    Attributes:
        statistics: of the chosen layers.
        guided_masks: region of every position by layer name, `[U, V]` each.
        margins: see `drconv.analysis.guide_margins`, by layer name, `[U, V]` each.
    """

    statistics: RegionStatistics
    guided_masks: dict[str, NDArray[Any]]
    margins: dict[str, NDArray[Any]]


def visualize(
    model: nn.Module,
    image: "str | Path | Image.Image | NDArray[np.uint8] | Tensor",
    layers: Sequence[str] | None = None,
    size: int = 224,
    full: bool = False,
) -> ImageRegions:
    """Run a model on an image and return which region every position falls into; a notebook shows it as a picture.

    The model runs in eval mode without gradients, and is as before afterwards. Regions are routing, not semantic
    segments.

    Args:
        model: any module with region layers, such as `DRConv2d`.
        image: path of a file, Pillow image, or uint8 array `[H, W, 3]`, which are resized and normalised by the mean
            and deviation of ImageNet; or a float tensor `[C, H, W]` or `[1, C, H, W]`, which the model gets as it is.
        layers: names or patterns such as "stage3.*"; "all" for all; None for the last layer at each map size.
        size: shorter side of the image after resizing, pixels; the aspect is kept.
        full: also measure shapes, filters' ranks and agreement of layers (extra `viz`).

    Returns:
        Statistics, guided masks and margins, with `figure()` and `save(path)`.

    Raises:
        ArgumentError: the image has another type or shape, or `size` is not usable.
        FileError: the image cannot be read.
        ModelError: the model has no region layer, or fails on the image.
        UnknownNameError: no layer fits a name or pattern.

    Example:
        >>> drconv.visualize(model, "photo.jpg").save("regions.png")
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    name, loaded = _loaded(image, size, input_channels(model))
    notes = (*loaded.notes, _FRESH) if has_fresh_batch_norm(model) else loaded.notes
    measured = measure_regions(model, loaded.tensor, layers, full)
    title = f"{name}: regions of {type(model).__name__}" if name else f"Regions of {type(model).__name__}"
    return ImageRegions(
        title, loaded.pixels, measured.statistics, measured.guided_masks, measured.margins, tuple(notes)
    )


def measure_regions(
    model: nn.Module,
    input: Tensor,
    layers: Sequence[str] | None = None,
    full: bool = False,
    expected: Collection[str] | None = None,
    filters: bool = True,
) -> MeasuredRegions:
    """Run a model on one input and reduce what its region layers did.

    Args:
        model: any module with region layers.
        input: `[1, C, H, W]`, moved to the model's device and floating dtype.
        layers: names and patterns, see `visualize`.
        full: whether all statistics are measured.
        expected: what `expected_layers` gave for an image like this: only these layers are recorded, and the others
            run in fused calls. Where others turn out to be chosen, the model runs again. None records all.
        filters: whether filters are measured, without which layers run faster; all statistics need them.

    Raises:
        ModelError: the model has no region layer, or fails on the input.
        UnknownNameError: no layer fits a name or pattern.
    """
    tensor = on_device_of(model, input)
    with torch.inference_mode(), model_errors(model, tensor.shape):
        # The agreement of a layer with the one before needs all.
        wanted = None if full else expected
        recording = _recorded(model, tensor, wanted, filters or full)
        if wanted is None:
            names = _choose({layer.name: _grid(layer) for layer in recording.layers}, layers)
        else:
            names = _choose(recording.grids, layers)
            if set(names) != set(wanted):
                recording = _recorded(model, tensor, names, filters)
        margins = {name: guide_margins(recording[name].guided_feature) for name in names}
        return MeasuredRegions(
            region_statistics(recording, full, names, margins),
            {name: recording[name].guided_mask[0].cpu().numpy() for name in names},
            {name: margins[name][0].cpu().numpy() for name in names},
        )


def expected_layers(model: nn.Module, input: Tensor, layers: Sequence[str] | None = None) -> list[str] | None:
    """Return the layers that `measure_regions` would choose; None where that cannot be told without recording all.

    Args:
        model: any module with region layers.
        input: `[1, C, H, W]`, moved to the model's device and floating dtype.
        layers: names and patterns, see `visualize`.
    """
    tensor = on_device_of(model, input)
    with torch.inference_mode(), model_errors(model, tensor.shape):
        recording = _recorded(model, tensor, None, filters=False)
        # Layers of other classes than ours may report no calls.
        if recording.grids != {layer.name: _grid(layer) for layer in recording.layers}:
            return None
        return _choose(recording.grids, layers)


def _recorded(model: nn.Module, tensor: Tensor, layers: Collection[str] | None, filters: bool) -> RegionRecording:
    with record_regions(model, layers, filters=filters) as recording:
        model(tensor)
    return recording


def _grid(layer: LayerRegions) -> tuple[int, int]:
    height, width = layer.guided_feature.shape[2:]
    return height, width


def on_device_of(model: nn.Module, tensor: Tensor) -> Tensor:
    """Return a tensor on the device and in the dtype of a model's first parameter."""
    like = next((p for p in model.parameters() if p.is_floating_point()), tensor)
    return tensor.to(like.device, like.dtype)


def input_channels(model: nn.Module) -> int:
    """Return what a model's first convolution, dynamic or not, takes; 3 if it has none."""
    convs = (module for module in model.modules() if hasattr(module, "kernel_size"))
    channels = (getattr(module, "in_channels", None) for module in convs)
    return next((number for number in channels if isinstance(number, int)), 3)


def _choose(grids: Mapping[str, tuple[int, ...]], patterns: Sequence[str] | None) -> list[str]:
    """Return the layers that the patterns match; without patterns, the last layer at each map size."""
    if isinstance(patterns, str):
        raise ArgumentError(f"layers must be a sequence of names, got the text {patterns!r}; use [{patterns!r}]")
    chosen = set() if patterns else set({grid: name for name, grid in grids.items()}.values())
    for pattern in patterns or ():
        found = [name for name in grids if pattern == "all" or fnmatchcase(name, pattern)]
        if not found:
            raise unknown_name("layer", pattern, list(grids))
        chosen.update(found)
    return [name for name in grids if name in chosen]


def _loaded(image: object, size: int, channels: int) -> tuple[str, LoadedImage]:
    """Return what an image is called in a title, and the image."""
    if isinstance(image, str | Path):
        return Path(image).name, load_image(Path(image), size, channels=channels)
    if isinstance(image, Image.Image):
        name = Path(str(getattr(image, "filename", ""))).name
        return name, prepare_image(image, size, channels=channels, name=name or "the image")
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ArgumentError(f"an array must be uint8 of shape [H, W, 3], got {image.dtype} of {list(image.shape)}")
        return "", prepare_image(Image.fromarray(image), size, channels=channels, name="the array")
    if isinstance(image, Tensor):
        return "", _from_tensor(image.detach())
    raise ArgumentError(
        "image must be a path, a Pillow image, a uint8 array [H, W, 3] or a float tensor [C, H, W], "
        f"got {type(image).__name__}"
    )


def _from_tensor(tensor: Tensor) -> LoadedImage:
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "a meta" if tensor.is_meta else "a sparse"
        raise ArgumentError(f"a tensor must be dense and hold numbers, got {kind} tensor")
    single = tensor[None] if tensor.dim() == 3 else tensor
    if single.dim() != 4 or len(single) != 1 or single.numel() == 0 or not single.is_floating_point():
        raise ArgumentError(
            "a tensor must be the model's input: floats of shape [C, H, W] or [1, C, H, W], "
            f"got {str(tensor.dtype).removeprefix('torch.')} of {list(tensor.shape)}"
        )
    pixels, note = pixels_of(single[0])
    return LoadedImage(pixels, single, (note,))
