"""Find where numbers stopped being finite: the first module of a forward pass, or the first gradient."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["first_bad_gradient", "first_bad_module"]


@torch.no_grad()
def first_bad_module(model: nn.Module, forward: Callable[[], Any]) -> str | None:
    """Say which module first gives something that is not finite; None if all do not.

    Modules inside others come first, so the innermost one is named.

    Args:
        model: whose modules are watched.
        forward: runs the model once more, on the input that failed.
    """
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if found or _finite(output):
                return
            bad = [n for n, p in module.named_parameters() if not _finite(p)]
            text = f"{name or 'the model'} ({type(module).__name__})"
            found.append(f"{text}, whose parameter {bad[0]} is not finite any more" if bad else text)

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def first_bad_gradient(model: nn.Module) -> str | None:
    """Return the name of the last parameter, in the model's order, whose gradient is not finite; None if all are.

    Gradients flow from the end of a network to its start, so the trouble began at the last one.
    """
    bad = [name for name, p in model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    return bad[-1] if bad else None


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, dict):
        return _finite(value.values())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return all(_finite(item) for item in value)
    return True
