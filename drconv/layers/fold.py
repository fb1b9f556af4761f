"""Fold the normalisation behind a convolution into its weights; guides have theirs inside."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from drconv.errors import ArgumentError, ModelError
from drconv.layers.guide import GuideConv2d

__all__ = ["absorb", "fold_guide_norm", "fold_guides", "is_plain", "scale_and_shift"]


def fold_guide_norm(model: nn.Module) -> nn.Module:
    """Return a copy of a trained model whose guides are the paper's: convolutions without a norm, with equal scores.

    Each norm (`guide_norm="batch"`) is a scale and a shift per region once its statistics stand still; they become part
    of the guide's weight and bias. The scores are the same up to rounding, and so are the regions. The weights of the
    copy fit the model that is built with `guide_norm=None` (and `guide_bias=True`, whatever the guides had).

    Args:
        model: any module; it is not changed. One without such guides is copied as it is.

    Returns:
        The copy, in eval mode; its parameters need gradients as those of the model did.

    Raises:
        ArgumentError: `model` is not a module.
        ModelError: a guide cannot be folded; the message names it and says why.

    Example:
        >>> model = create_model("drconv_shufflenet_v2_x0_5", guide_norm="batch")
        >>> fold_guide_norm(model).stage2[0].branch2[0].guide
        GuideConv2d(24, 8, kernel_size=(1, 1), stride=(1, 1))
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, got a {type(model).__name__}")
    copy = deepcopy(model).eval()
    refused = fold_guides(copy)
    if refused:
        name, reason = next(iter(refused.items()))
        raise ModelError(f"the norm of guide {name or type(model).__name__!r} cannot be folded: {reason}")
    return copy


def fold_guides(model: nn.Module) -> dict[str, str]:
    """Fold the norms of all guides in place, and return the guides where that cannot be done, with the reasons."""
    refused = {}
    for name, module in model.named_modules():
        if isinstance(module, GuideConv2d) and module._modules.get("norm") is not None:
            reason = _fold_guide(module)
            if reason is not None:
                refused[name] = reason
    return refused


_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


@torch.no_grad()
def _fold_guide(guide: GuideConv2d) -> str | None:
    """Make a guide's convolution do what its norm does, and take the norm away; return why not, if not."""
    norm = guide._modules["norm"]
    if not isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm)) or type(norm) not in _NORMS:
        return f"its norm is of class {type(norm).__name__}, not a BatchNorm2d"
    if norm.running_mean is None or norm.running_var is None:
        return "its norm keeps no running statistics"
    if type(guide).forward is not GuideConv2d.forward or not is_plain(guide):
        return "it has hooks, a parametrization or a forward of its own"
    scale, shift = scale_and_shift(norm)
    # New parameters: the old ones may serve another guide, too, with another norm.
    needs_gradient = guide.weight.requires_grad
    guide.weight = nn.Parameter(guide.weight.clone(), needs_gradient)
    guide.bias = None if guide.bias is None else nn.Parameter(guide.bias.clone(), needs_gradient)
    absorb(guide, scale, shift)
    if guide.bias is not None:
        guide.bias.requires_grad_(needs_gradient)
    del guide.norm
    guide.norm = None
    return None


def scale_and_shift(norm: nn.BatchNorm2d | nn.SyncBatchNorm) -> tuple[Tensor, Tensor]:
    """Return what a BatchNorm multiplies by and then adds in eval mode, `[C]` in float64; it must keep statistics."""
    if norm.running_mean is None or norm.running_var is None:
        raise ArgumentError(f"norm must keep running statistics, got {norm}")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -norm.running_mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift


def absorb(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
    """Make output channel o of a convolution scale[o] times what it was, plus shift[o]."""
    dtype = conv.weight.dtype
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    conv.weight.copy_((conv.weight.double() * scale.view(-1, 1, 1, 1)).to(dtype))
    conv.bias = nn.Parameter(bias.to(dtype))


def is_plain(module: nn.Module) -> bool:
    """Whether a module does only what its class does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(part, name) for part in module.modules() for name in hooks) and not any(
        "forward" in vars(part) or "parametrizations" in part._modules for part in module.modules()
    )
