"""Batch-normalisation statistics for networks that were never trained."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["calibrate_batch_norm", "has_fresh_batch_norm"]


def has_fresh_batch_norm(model: nn.Module) -> bool:
    """Return whether a model has BatchNorm modules, and none of them has ever seen data."""
    norms = _norms(model)
    return bool(norms) and all(
        norm.running_mean is not None
        and norm.running_var is not None
        and bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())
        for norm in norms
    )


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@torch.no_grad()
def calibrate_batch_norm(model: nn.Module, input: Tensor) -> int:
    """Set the running statistics of every BatchNorm to those of one input, and leave all else as it was.

    A freshly built network in eval mode normalises with mean 0 and variance 1, so that its activations fade from layer
    to layer and every position falls into one region. The input is taken together with its mirror image, so that a
    1x1 map of a single image still has a variance.

    Args:
        model: any module.
        input: `[B, C, H, W]`.

    If the model fails, the statistics are left as they were, too.

    Returns:
        How many BatchNorm modules there are.
    """
    norms = _norms(model)
    if not norms:
        return 0
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    kept = [{name: buffer.clone() for name, buffer in norm.named_buffers()} for norm in norms]
    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            # None averages over all passes: one pass gives its own statistics.
            norm.momentum = None
        model(torch.cat((input, input.flip(-1))))
    except BaseException:
        for norm, buffers in zip(norms, kept, strict=True):
            norm.load_state_dict(buffers, strict=False)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training
    return len(norms)
