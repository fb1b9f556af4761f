"""Whether anything looks at, or takes part in, the operators that PyTorch runs on this thread."""

import torch
from torch.autograd import forward_ad

__all__ = ["is_unwatched"]

# Looked up once: a call of `region_conv2d` asks all of them.
_modes = torch._C._len_torch_dispatch_stack
_function_modes = torch._C._is_torch_function_mode_enabled
_tracing_state = torch._C._get_tracing_state
_transform = torch._C._functorch.maybe_current_level
_profiling = torch._C._autograd._profiler_enabled
_autocasting = torch._C._is_any_autocast_enabled


def is_unwatched() -> bool:
    """Return whether an operator called now is seen by nobody but its own kernel.

    Nobody counts, fakes or traces it (modes of `__torch_dispatch__` and `__torch_function__`, `torch.jit.trace`),
    transforms it (`torch.func`, forward-mode derivatives), profiles it or casts its inputs. What
    `torch.compiler.is_compiling` says is for the caller to ask, who is compiled.
    """
    return (
        _modes() == 0
        and not _function_modes()
        and _tracing_state() is None
        and _transform() is None
        and not _profiling()
        and not _autocasting()
        and forward_ad._current_level < 0
    )
