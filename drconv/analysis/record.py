"""Watch which regions a model chooses, without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from drconv.analysis.running import eval_mode
from drconv.errors import ModelError
from drconv.layers.base import RegionLayer
from drconv.ops import guided_mask

__all__ = ["LayerRegions", "RegionRecording", "record_regions"]


@dataclass(frozen=True, eq=False)
class LayerRegions:
    """What one call of a layer used.

    Attributes:
        name: of the layer in its model; a second call of the same layer is `name#2`.
        guided_mask: region of every position, `[B, U, V]`.
        guided_feature: scores, `[B, M, U, V]`.
        region_filters: `[B, M, O, C/groups, K, K]`, or `[M, ...]` if shared by the batch.
    """

    name: str
    guided_mask: Tensor
    guided_feature: Tensor
    region_filters: Tensor


@dataclass
class RegionRecording:
    """The calls of all region layers since recording began, in order; tensors stay on their device."""

    layers: list[LayerRegions] = field(default_factory=list)

    def __getitem__(self, name: str) -> LayerRegions:
        """Return the call recorded under a name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


@contextmanager
def record_regions(model: nn.Module) -> Iterator[RegionRecording]:
    """Record the regions and filters of every region layer while the model runs in eval mode.

    Train or eval mode of every module is restored and all hooks are removed at the end, also after an error.

    Args:
        model: any module that contains region layers.

    Yields:
        A recording that grows with every forward pass.

    Raises:
        ModelError: the model has no region layer, or is compiled.

    Example:
        >>> with record_regions(model) as recording:
        ...     model(image)
        >>> recording.layers[0].guided_mask.shape
        torch.Size([1, 28, 28])
    """
    if any(_is_compiled(module) for module in model.modules()):
        raise ModelError(
            f"{type(model).__name__} is compiled, and compiled code may call no hooks: record the module as it was "
            "before torch.compile (compiled._orig_mod)"
        )
    layers = {name: module for name, module in model.named_modules() if isinstance(module, RegionLayer)}
    if not layers:
        raise ModelError(f"{type(model).__name__} has no layer with regions (DRConv2d), so there is nothing to record")
    recording = RegionRecording()
    handles = [_watch(name or type(layer).__name__, layer, recording) for name, layer in layers.items()]
    try:
        with eval_mode(model):
            yield recording
    finally:
        for handle in handles:
            handle.remove()


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _watch(name: str, layer: RegionLayer, recording: RegionRecording) -> Any:
    calls = 0

    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        nonlocal calls
        calls += 1
        _, region_filters, guided_feature = (t.detach() for t in args[:3])
        if region_filters.dim() == 5:
            # Shared filters are a parameter, which goes on changing in training.
            region_filters = region_filters.clone()
        called = name if calls == 1 else f"{name}#{calls}"
        recording.layers.append(LayerRegions(called, guided_mask(guided_feature), guided_feature, region_filters))

    return layer.region_conv.register_forward_pre_hook(hook)
