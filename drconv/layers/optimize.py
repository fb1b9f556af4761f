"""`optimize_for_inference`: a copy of a model without the steps that its convolutions can take over."""

import warnings
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from inspect import signature

import torch
from torch import fx, nn

from drconv.errors import ArgumentError
from drconv.layers.activation import ACTIVATION_NAMES
from drconv.layers.base import DynamicLayer
from drconv.layers.drconv2d import DRConv2d
from drconv.layers.fold import absorb, fold_guides, is_plain, scale_and_shift
from drconv.layers.guide import GuideConv2d
from drconv.layers.plain_twin import UnguidedConv2d
from drconv.layers.replace import replace_modules

__all__ = ["optimize_for_inference"]

_NORMS_WITH_ACTIVATION = frozenset({"BatchNormAct2d"})
"""Class names of normalisations, in timm, whose `act` runs after them."""


def optimize_for_inference(model: nn.Module) -> nn.Module:
    """Return a copy of a model in eval mode with what follows each convolution folded into it.

    A BatchNorm that reads nothing but the output of an `nn.Conv2d`, `DRConv2d` or `DynamicConv2d`, which nothing else
    reads, becomes part of its weights: of a `DRConv2d`, of the generator's last layer and of the bias. A ReLU, ReLU6 or
    Hardswish module that follows a `DRConv2d` in the same way becomes its `activation`, which the compiled kernels
    apply as they store. `nn.Identity` stands where a module was, so that names stay. The norm of a guide becomes part
    of the guide, as `drconv.fold_guide_norm` does it. Parameters need no gradients.

    The outputs are the same up to rounding. What is read from hooks on the folded modules is not: such modules, and
    those that are called more than once, share a parameter with another or stand in several places, are left alone. The
    order of calls is found by symbolic tracing (`torch.fx`), with arguments that default to None left out, and part by
    part where the whole cannot be traced. A part is taken to be called as a whole by what cannot be traced around it: a
    network that branches on its input and reads single modules of an `nn.Sequential` is not for this function. The copy
    is for inference only: train the original.

    Args:
        model: any module; it is not changed.

    Returns:
        The copy.

    Raises:
        ArgumentError: `model` is not a module.

    Example:
        >>> fast = optimize_for_inference(create_model("drconv_shufflenet_v2_x0_5"))
        >>> with torch.inference_mode():
        ...     logits = fast(images)
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, got a {type(model).__name__}")
    copy = deepcopy(model).eval().requires_grad_(False)
    fold_guides(copy)
    chains = _Chains(copy)
    replaced: dict[nn.Module, nn.Module] = {}
    for conv, follower in chains.pairs(replaced):
        left = follower
        if isinstance(follower, nn.BatchNorm2d):
            if not _fold(conv, follower):
                continue
            left = _activation_of(follower)
        if isinstance(conv, DRConv2d) and type(conv).forward is DRConv2d.forward and type(left) in ACTIVATION_NAMES:
            conv.activation, left = ACTIVATION_NAMES[type(left)], nn.Identity()
        if left is not follower:
            replaced[follower] = left.eval()
    return replace_modules(copy.requires_grad_(False), replaced)


class _Chains:
    """Which module reads the output of which convolution, and nothing else does."""

    def __init__(self, model: nn.Module) -> None:
        self.followers: dict[nn.Module, nn.Module] = {}
        calls: Counter[nn.Module] = Counter()
        for root, graph in _graphs(model):
            modules = dict(root.named_modules(remove_duplicate=False))
            # A parameter that is read by itself serves something that the call of its module does not show.
            read = {owner for node in graph.nodes if node.op == "get_attr" for owner in _owners(str(node.target))}
            for node in graph.nodes:
                if node.op != "call_module":
                    continue
                module = modules[str(node.target)]
                calls[module] += 1 + (str(node.target) in read)
                source = node.args[0] if node.args else None
                if (
                    isinstance(source, fx.Node)
                    and source.op == "call_module"
                    and len(source.users) == 1
                    and len(node.args) == 1
                    and not node.kwargs
                ):
                    self.followers[modules[str(source.target)]] = module
        held = Counter(id(p) for m in model.modules() for p in m._parameters.values() if p is not None)
        # A module in two places may be called in one where nothing could be traced.
        places = Counter(child for m in model.modules() for child in m._modules.values())
        self.usable = {
            module
            for module, count in calls.items()
            if count == 1
            and is_plain(module)
            and all(places[part] <= 1 for part in module.modules())
            and all(held[id(p)] == 1 for p in module.parameters())
        }

    def pairs(self, replaced: dict[nn.Module, nn.Module]) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield (convolution, what follows it), and what follows that if it has been replaced by nothing."""
        for conv, first in self.followers.items():
            if not isinstance(conv, (nn.Conv2d, DynamicLayer)) or conv not in self.usable:
                continue
            follower: nn.Module | None = first
            while follower in self.usable and isinstance(follower, (nn.BatchNorm2d, *ACTIVATION_NAMES)):
                # What comes after an activation can no longer be folded into the weights.
                if getattr(conv, "activation", None) is not None:
                    break
                yield conv, follower
                if not isinstance(replaced.get(follower), nn.Identity):
                    break
                follower = self.followers.get(follower)


class _Tracer(fx.Tracer):
    """Looks into everything but the modules that folding is about and those of PyTorch."""

    # As parameters do, statistics that a model reads by itself show in the graph.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, (DynamicLayer, GuideConv2d, nn.Conv2d, nn.BatchNorm2d)):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _graphs(model: nn.Module) -> Iterator[tuple[nn.Module, fx.Graph]]:
    """Yield the graph of a module, or of its parts where it cannot be traced."""
    if isinstance(model, (DynamicLayer, nn.Conv2d)):
        return
    # Left to tracing, an optional argument would count as given. A flag is left to it: what branches on one cannot be
    # traced, and would be something else for another value.
    parameters = signature(model.forward).parameters.values()
    defaults = {p.name: None for p in parameters if p.default is None}
    # What a model stores while it is traced is no tensor.
    attributes = {module: dict(vars(module)) for module in model.modules()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = _Tracer().trace(model, concrete_args=defaults or None)
    except Exception:  # whatever a model's own code raises when it is given a proxy
        graph = None
    # A model that sets modes in its own forward runs its parts in others than those that are seen here.
    if any(module.training for module in attributes):
        graph = None
    for module, before in attributes.items():
        vars(module).clear()
        vars(module).update(before)
    if graph is not None:
        yield model, graph
        return
    for child in model.children():
        yield from _graphs(child)


def _owners(path: str) -> Iterator[str]:
    """Yield the modules that hold an attribute, innermost first."""
    while path := path.rpartition(".")[0]:
        yield path


def _activation_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what is left of a normalisation without its arithmetic."""
    activation = norm.act if type(norm).__name__ in _NORMS_WITH_ACTIVATION else None
    return activation if isinstance(activation, nn.Module) else nn.Identity()


@torch.no_grad()
def _fold(conv: nn.Module, norm: nn.BatchNorm2d) -> bool:
    """Make the convolution do what the normalisation does; False if it cannot."""
    known = type(norm) is nn.BatchNorm2d or type(norm).__name__ in _NORMS_WITH_ACTIVATION
    if not known or not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        return False
    if any(tensor.is_meta for tensor in (*conv.parameters(), *norm.buffers())):
        return False
    scale, shift = scale_and_shift(norm)
    dtype = next(conv.parameters()).dtype
    if isinstance(conv, DynamicLayer):
        if _definer(conv, "absorb_affine") > _definer(conv, "forward"):
            return False  # a subclass does something else than the class that knows how
        return conv.absorb_affine(scale.to(dtype), shift.to(dtype)) is None
    if isinstance(conv, nn.Conv2d) and type(conv) in (nn.Conv2d, UnguidedConv2d):
        absorb(conv, scale, shift)
        return True
    return False


def _definer(module: nn.Module, name: str) -> int:
    """Return how many classes up a method is defined."""
    return next(at for at, kind in enumerate(type(module).__mro__) if name in vars(kind))
