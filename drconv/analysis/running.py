"""Run somebody's model: in eval mode, restored afterwards, and with failures said in one line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from drconv.errors import DrconvError, ModelError

__all__ = ["eval_mode", "model_errors", "without_fast_paths"]


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode and restore the mode of every module at the end, also after an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        if any(training for _, training in modes):
            model.eval()
        yield
    finally:
        for module, training in modes:
            if module.training != training:
                module.training = training


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Keep PyTorch's attention layers from calling one fused operator, which no counter looks into, in eval mode."""
    kept = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(kept)


@contextmanager
def model_errors(model: nn.Module, input_shape: Sequence[int]) -> Iterator[None]:
    """Turn whatever a model raises on an input it cannot take into a `ModelError`.

    Raises:
        ModelError: the model failed; the message names the model, the input and the first line of the cause.
    """
    try:
        yield
    except DrconvError:
        raise
    except (Exception, SystemExit) as error:
        shape = "x".join(map(str, input_shape))
        first_line = (str(error).strip() or type(error).__name__).partition("\n")[0]
        raise ModelError(f"{type(model).__name__} failed on an input of {shape}: {first_line}") from error
