"""Watch which regions a model chooses, without changing it."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from drconv.analysis.running import eval_mode
from drconv.errors import ModelError
from drconv.layers.base import RegionLayer
from drconv.layers.fused import reported_calls
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
    """The calls of region layers since recording began, in order; tensors stay on their device.

    Attributes:
        layers: the calls.
        grids: (U, V) by name of every call of a `DRConv2d`, also of those that were not to be recorded.
    """

    layers: list[LayerRegions] = field(default_factory=list)
    grids: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> LayerRegions:
        """Return the call recorded under a name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(name)


@contextmanager
def record_regions(model: nn.Module, layers: Collection[str] | None = None) -> Iterator[RegionRecording]:
    """Record the regions and filters of region layers while the model runs in eval mode.

    Train or eval mode of every module is restored and all hooks are removed at the end, also after an error.

    Args:
        model: any module that contains region layers.
        layers: names of the calls that count; other layers run as fast as they can. None records all.

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
    modules = list(model.named_modules())
    if any(_is_compiled(module) for _, module in modules):
        raise ModelError(
            f"{type(model).__name__} is compiled, and compiled code may call no hooks: record the module as it was "
            "before torch.compile (compiled._orig_mod)"
        )
    found = {name or type(module).__name__: module for name, module in modules if isinstance(module, RegionLayer)}
    if not found:
        raise ModelError(f"{type(model).__name__} has no layer with regions (DRConv2d), so there is nothing to record")
    recording = RegionRecording()
    asked = None if layers is None else {name.partition("#")[0] for name in layers}
    handles = [_watch(name, layer, recording) for name, layer in found.items() if asked is None or name in asked]
    names = {layer: name for name, layer in found.items()}

    def note(layer: RegionLayer, input: Tensor, guided_feature: Tensor | None) -> None:
        if layer in names:
            size = layer.output_size(input.shape[2], input.shape[3])
            if guided_feature is None or guided_feature.shape[2:] == size:
                recording.grids[_next_name(names[layer], recording.grids)] = size

    try:
        with eval_mode(model), reported_calls(note):
            yield recording
    finally:
        for handle in handles:
            handle.remove()


def _next_name(name: str, taken: Collection[str]) -> str:
    """Return what the next call of a layer is called."""
    called, calls = name, 1
    while called in taken:
        calls += 1
        called = f"{name}#{calls}"
    return called


def _is_compiled(module: nn.Module) -> bool:
    # Its dictionary, because what a module does not have takes it long to say.
    return "_orig_mod" in module._modules or getattr(module, "_compiled_call_impl", None) is not None


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
