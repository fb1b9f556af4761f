"""Watch which regions a model chooses, without changing it."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from drconv.analysis.running import eval_mode
from drconv.errors import ModelError
from drconv.layers import DRConv2d
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
        region_filters: `[B, M, O, C/groups, K, K]`, or `[M, ...]` if shared by the batch; None if
            they were not to be recorded.
    """

    name: str
    guided_mask: Tensor
    guided_feature: Tensor
    region_filters: Tensor | None


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
def record_regions(
    model: nn.Module, layers: Collection[str] | None = None, *, filters: bool = True
) -> Iterator[RegionRecording]:
    """Record the regions and filters of region layers while the model runs in eval mode.

    Train or eval mode of every module is restored and all hooks are removed at the end, also after an error.

    Args:
        model: any module that contains region layers.
        layers: names of the calls that count; other layers run as fast as they can. None records all.
        filters: whether filters are recorded. Without them a layer runs its guide, and the rest as fast as it can;
            scores are the same up to the rounding of the layers before.

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
        raise ModelError(
            f"{type(model).__name__} has no layer with regions (DRConv2d), so there is nothing to record; "
            "drconv.convert, or --convert, puts some in"
        )
    recording = RegionRecording()
    asked = None if layers is None else {name.partition("#")[0] for name in layers}
    handles: list[Any] = []
    scores: dict[nn.Module, Callable[[Tensor], None]] = {}
    for name, layer in found.items():
        if asked is not None and name not in asked:
            continue
        keep = _keeper(name, recording)
        # A class of its own may make its calls in other ways than those that report scores.
        if filters or type(layer).forward is not DRConv2d.forward or "forward" in vars(layer):
            handles.append(layer.region_conv.register_forward_pre_hook(_hook(keep, filters)))
        else:
            scores[layer] = keep
    names = {layer: name for name, layer in found.items()}

    def note(layer: RegionLayer, input: Tensor, guided_feature: Tensor | None) -> None:
        if layer in names:
            size = layer.output_size(input.shape[2], input.shape[3])
            if guided_feature is None or guided_feature.shape[2:] == size:
                recording.grids[_next_name(names[layer], recording.grids)] = size

    try:
        with eval_mode(model), reported_calls(note, scores):
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


_Keep = Callable[..., None]


def _keeper(name: str, recording: RegionRecording) -> _Keep:
    """Return what keeps scores, and filters if they are given, of one call after the other of a layer."""
    calls = 0

    def keep(guided_feature: Tensor, region_filters: Tensor | None = None) -> None:
        nonlocal calls
        calls += 1
        called = name if calls == 1 else f"{name}#{calls}"
        scores = guided_feature.detach()
        recording.layers.append(LayerRegions(called, guided_mask(scores), scores, region_filters))

    return keep


def _hook(keep: _Keep, filters: bool) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        _, region_filters, guided_feature = args[:3]
        kept = None
        if filters:
            # Shared filters are a parameter, which goes on changing in training.
            kept = region_filters.detach().clone() if region_filters.dim() == 5 else region_filters.detach()
        keep(guided_feature, kept)

    return hook
