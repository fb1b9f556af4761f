"""Replace the convolutions of any model by dynamic layers, and dynamic layers by convolutions."""

from collections import Counter
from collections.abc import Sequence
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from drconv.errors import ArgumentError, DrconvError, ModelError
from drconv.layers.base import DynamicLayer
from drconv.layers.choice import Candidate, Where, candidates, choose
from drconv.layers.conversion import ConversionReport, ConvertedLayer, LeftLayer
from drconv.layers.guide import GuideConv2d
from drconv.layers.plain_twin import UnguidedConv2d, plain_like
from drconv.layers.registry import LAYERS
from drconv.layers.replace import replace_modules
from drconv.registry import unknown_name

__all__ = ["SQUEEZE_EXCITES", "convert"]

SQUEEZE_EXCITES = frozenset(
    {"SqueezeExcitation", "SqueezeExcite", "SqueezeExciteCl", "SEModule", "EffectiveSEModule", "SEBlock", "SELayer"}
)
"""Class names by which squeeze-excite modules are known, here, in torchvision, timm and elsewhere."""

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_BACK = "conv2d"
_NUMBERS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    float: ((int, float), "a number"),
}


def convert(
    model: nn.Module,
    to: str = "drconv2d",
    where: Where | None = None,
    *,
    keep_weights: bool = True,
    **layer_kwargs: Any,
) -> tuple[nn.Module, ConversionReport]:
    """Replace convolutions of a model by dynamic layers of the same geometry, in place, or turn such layers back.

    The new layers start with the old weights in every region, so that the model computes what it did and is ready to
    learn to do better. Either all chosen layers are replaced, or there is an error and the model is as it was.

    Only modules that are exactly `nn.Conv2d` are replaced. Subclasses, and convolutions with hooks or with a weight
    that something else holds, too, are left alone; the report says so. A layer that stands in several places is
    replaced by one new layer in all of them.

    Args:
        model: any module.
        to: a layer of `drconv.layers.LAYERS`: `"drconv2d"` or `"dynamic_conv2d"`; or `"conv2d"`, which replaces each
            dynamic layer whose filter is the same for every region, position and input, and leaves the others alone.
        where: which convolutions. A pattern, several, or a function `(name, convolution) -> bool`. A pattern is
            `NAME[@TERM[,TERM...]]`: NAME, with the wildcards of a shell, is that of a convolution or of a module that
            contains it; TERM is a kernel size such as `3x3`, or `dense`, `grouped`, `depthwise` or `strided`. A pattern
            that starts with `!` takes away from what those before it have chosen. None takes all but the first
            convolution and those inside squeeze-excite modules, and for `"drconv2d"` also leaves depthwise ones alone;
            with `"conv2d"`, None takes all.
        keep_weights: whether the new layers start as the old convolutions. False keeps what the layer draws.
        **layer_kwargs: keywords of the layer, such as `num_regions`, `filter_generator` or `num_experts`.

    Returns:
        The model, which is another object only if `model` is itself a convolution; and a report on every layer.

    Raises:
        UnknownNameError: there is no such layer, or a pattern matches no convolution.
        ArgumentError: a pattern or keyword is not as described, or a function chooses no convolution.
        ModelError: there is not enough memory.

    Example:
        >>> model, report = convert(model, "drconv2d", "layer4@3x3", num_regions=4, filter_generator="basis")
        >>> report.starts_equal
        True
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, got a {type(model).__name__}")
    if not isinstance(keep_weights, bool):
        raise ArgumentError(f"keep_weights must be true or false, got keep_weights={keep_weights!r}")
    if to == _BACK:
        if layer_kwargs or not keep_weights:
            raise ArgumentError("'conv2d' takes no keywords and always keeps the weights")
    elif to in LAYERS:
        _check_keywords(to, layer_kwargs)
    else:
        raise unknown_name("layer", to, [*LAYERS, _BACK])
    held = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    replaced: dict[nn.Module, nn.Module] = {}
    changed: list[ConvertedLayer] = []
    left: list[LeftLayer] = []
    for candidate, objection in _chosen(candidates(model), to, where):
        old = candidate.module
        new: nn.Module | None = None
        remark = objection or _obstacle(old, to, held)
        if remark is None and isinstance(old, DynamicLayer):
            new, remark = _conv2d(old)
        elif remark is None and isinstance(old, nn.Conv2d):
            new, remark = _dynamic(old, to, keep_weights, layer_kwargs)
        if new is None:
            left.append(LeftLayer(candidate.name, remark or ""))
            continue
        replaced[old] = new
        kind = "Conv2d" if to == _BACK else type(new).__name__
        counts = (_count_parameters(old), _count_parameters(new))
        changed.append(ConvertedLayer(candidate.name, _geometry(old), kind, *counts, not remark, remark or ""))
    return replace_modules(model, replaced), ConversionReport(to, tuple(changed), tuple(left))


def _check_keywords(to: str, keywords: dict[str, Any]) -> None:
    """Raise `ArgumentError` for a keyword that the layer does not have, or of another kind than its default."""
    known = {n: p for n, p in signature(LAYERS[to]).parameters.items() if p.kind is Parameter.KEYWORD_ONLY}
    if "own_guide" in keywords:
        raise ArgumentError(
            "keyword 'own_guide' is not for convert, got own_guide="
            f"{keywords['own_guide']!r}: nothing would hand the new layers a guided feature"
        )
    for name, value in keywords.items():
        if name not in known:
            reason = "comes from the convolution" if name in signature(LAYERS[to]).parameters else "is unknown"
            raise ArgumentError(f"keyword {name!r} of {to!r} {reason}; keywords: {', '.join(known)}")
        wanted, words = _NUMBERS.get(type(known[name].default), ((object,), ""))
        if not isinstance(value, wanted):
            raise ArgumentError(f"{name} must be {words}, got {name}={value!r}")


def _chosen(found: Sequence[Candidate], to: str, where: Where | None) -> list[tuple[Candidate, str | None]]:
    """Return what the caller chose, and by default what there is to choose from, with an objection to some of it."""
    layers = [c for c in found if isinstance(c.module, DynamicLayer)]
    convs = [c for c in found if isinstance(c.module, nn.Conv2d)]
    if to == _BACK:
        return [(c, None) for c in (layers if where is None else choose(layers, where, "dynamic layer"))]
    if where is None:
        return [(candidate, _default_objection(candidate, found, to)) for candidate in convs]
    # A pattern may match what is a dynamic layer already, which the report then says; a function is not asked.
    return [(candidate, None) for candidate in choose(convs if callable(where) else found, where)]


def _default_objection(candidate: Candidate, found: Sequence[Candidate], to: str) -> str | None:
    if candidate is found[0] and candidate.name:
        return "the first convolution"
    if candidate.inside & SQUEEZE_EXCITES:
        return "inside a squeeze-excite module"
    return LAYERS[to].objection(candidate.module) if isinstance(candidate.module, nn.Conv2d) else None


def _obstacle(old: nn.Module, to: str, held: Counter[int]) -> str | None:
    """Return why a module cannot be replaced by another without losing something."""
    if isinstance(old, GuideConv2d):
        return "it scores the regions of other layers"
    if to == _BACK and type(old) not in LAYERS.values():
        return f"it is a {type(old).__name__}, which drconv.layers.LAYERS does not have"
    if to != _BACK and type(old) is not nn.Conv2d:
        return f"it is a {type(old).__name__}, not exactly an nn.Conv2d"
    if any(getattr(part, hooks, None) for part in old.modules() for hooks in _HOOKS):
        return "it has hooks, which the new layer would not have"
    if any("forward" in vars(part) for part in old.modules()):
        return "its forward was replaced by another function"
    if any(held[id(parameter)] > 1 for parameter in old.parameters()):
        return "another module holds the same parameter"
    if isinstance(old, nn.Conv2d) and (old._modules or old._buffers or not set(old._parameters) <= {"weight", "bias"}):
        return "it holds more than a weight and a bias"
    return None


def _dynamic(
    old: nn.Conv2d, to: str, keep_weights: bool, keywords: dict[str, Any]
) -> tuple[nn.Module | None, str | None]:
    """Return the new layer, and why it does not start as the old one; or None, and why there is none."""
    if type(old.weight) is not nn.Parameter or not old.weight.is_floating_point():
        return None, f"its weight is a {type(old.weight).__name__} of {old.weight.dtype}, not an ordinary parameter"
    try:
        new = LAYERS[to].like(old, **keywords)
    except DrconvError:
        raise
    except (RuntimeError, MemoryError) as error:
        first_line = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ModelError(f"{_geometry(old)} cannot become {to!r} with {keywords}: {first_line}") from error
    remark = new.start_from(old.weight, old.bias) if keep_weights else "the weights are drawn anew"
    if not old.weight.is_contiguous() and old.weight.is_contiguous(memory_format=torch.channels_last):
        new.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return new.train(old.training).requires_grad_(old.weight.requires_grad), remark


def _conv2d(old: DynamicLayer) -> tuple[nn.Module | None, str | None]:
    """Return the convolution that a dynamic layer is; or None, and why it is none."""
    if getattr(old, "activation", None) is not None:
        return None, "it has taken over an activation"
    if any(parameter.is_meta for parameter in old.parameters()):
        return None, "its parameters are on the meta device, without values"
    static = old.static_filter()
    if static is None:
        return None, "its filter is not the same for every region, position and input"
    weight, bias = static
    # A block may go on handing a layer without a guide of its own the guided feature that it shared.
    kind = UnguidedConv2d if getattr(old, "guide", old) is None else nn.Conv2d
    new = plain_like(old, weight.device, weight.dtype, kind)
    with torch.no_grad():
        new.weight.copy_(weight)
        if new.bias is not None and bias is not None:
            new.bias.copy_(bias)
    return new.requires_grad_(any(parameter.requires_grad for parameter in old.parameters())), None


def _count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _geometry(conv: nn.Conv2d | DynamicLayer) -> str:
    """Describe a convolution, with what differs from the defaults."""
    parts = [f"{conv.in_channels}->{conv.out_channels} {conv.kernel_size[0]}x{conv.kernel_size[1]}"]
    for name in ("stride", "dilation"):
        value = getattr(conv, name)
        if max(value) > 1:
            parts.append(f"{name} {value[0]}" if value[0] == value[1] else f"{name} {value[0]}x{value[1]}")
    if conv.groups > 1:
        parts.append("depthwise" if conv.groups == conv.in_channels else f"groups {conv.groups}")
    return " ".join(parts)
