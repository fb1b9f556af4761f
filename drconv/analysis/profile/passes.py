"""What one timed call is: the forward pass, the backward pass without its forward, or both."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from drconv.analysis.profile.options import Pass
from drconv.analysis.timing import Candidate
from drconv.errors import ArgumentError

__all__ = ["Work", "gradient_mode", "tracked", "work_of"]


@dataclass(frozen=True, eq=False)
class Work:
    """Something to run, forwards and perhaps backwards.

    Attributes:
        call: the forward pass.
        leaves: tensors whose gradients the backward pass makes.
        select: brings about the backend; cheap.
        reduces: whether the output is summed to a loss, as of a network; else its gradient is noise of its shape.
    """

    call: Callable[[], Any]
    leaves: Sequence[Tensor] = ()
    select: Callable[[], object] = field(default=lambda: None)
    reduces: bool = False

    def candidate(self, which: Pass) -> Candidate:
        """Return what is timed for a pass.

        Raises:
            ArgumentError: a backward pass of something without gradients.
        """
        if which == "forward":
            return Candidate(self.call, self.select, primed=True)
        runs = _Backward(self)
        if which == "step":
            return Candidate(runs.step, self.select, primed=True)
        return Candidate(runs.backward, runs.prepare, repeatable=False)


class _Backward:
    """The backward pass of some work. Gradients are returned and dropped, so that none is ever added to another."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.outputs: list[Tensor] = []
        self.noise: Tensor | None = None

    def prepare(self) -> None:
        self.work.select()
        self.outputs = [self._forward()]

    def backward(self) -> object:
        (output,), self.outputs = self.outputs, []  # no longer held, so that it is freed as in training
        return self._gradients(output)

    def step(self) -> object:
        return self._gradients(self._forward())

    def _forward(self) -> Tensor:
        outputs = [t for t in tree_leaves(self.work.call()) if isinstance(t, Tensor) and t.requires_grad]
        if not outputs or not self.work.leaves:
            raise ArgumentError("a backward pass needs an input or parameters that require gradients, got none")
        if self.work.reduces:
            return torch.stack([output.sum() for output in outputs]).sum()
        (output,) = outputs
        if self.noise is None:
            self.noise = torch.randn_like(output)
        return output

    def _gradients(self, output: Tensor) -> object:
        noise = None if self.work.reduces else self.noise
        return torch.autograd.grad(output, self.work.leaves, noise, allow_unused=True)


def gradient_mode(which: Pass) -> AbstractContextManager[Any]:
    """Return the mode that a pass runs in."""
    return torch.inference_mode() if which == "forward" else torch.enable_grad()


def tracked(args: Sequence[Any], which: Pass) -> tuple[Any, ...]:
    """Return arguments whose tensors require gradients, unless the pass has none."""
    if which == "forward":
        return tuple(args)
    return tuple(
        arg.detach().requires_grad_() if isinstance(arg, Tensor) and arg.is_floating_point() else arg for arg in args
    )


def work_of(
    module: nn.Module,
    args: Sequence[Any],
    which: Pass,
    select: Callable[[], object] = lambda: None,
    *,
    reduces: bool = False,
) -> Work:
    """Return the work of calling a module, with gradients of its parameters and of its tensor arguments."""
    given = tracked(args, which)
    leaves = [arg for arg in given if isinstance(arg, Tensor) and arg.requires_grad]
    leaves += [p for p in module.parameters() if p.requires_grad]
    return Work(lambda: module(*given), leaves, select, reduces)
