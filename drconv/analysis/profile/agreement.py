"""Whether a backend computes a layer rightly: against the reference, on the inputs that the layer really got."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from drconv.analysis.profile.options import Pass
from drconv.analysis.profile.targets import LayerCall
from drconv.layers import set_backend
from drconv.ops import region_conv2d

__all__ = ["AGREEMENT", "Agreement", "Truth", "first_line"]

AGREEMENT = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest |y - reference| / max|reference| at which a backend counts as right."""


@dataclass(frozen=True)
class Agreement:
    """How far a backend is from the reference.

    Attributes:
        error: largest deviation over the reference's largest value; None if the backend could not run.
        refusal: why it must not be timed, or None.
    """

    error: float | None = None
    refusal: str | None = None


class Truth:
    """What the reference makes of one call of a layer: the operator's output and gradients, and the layer's output."""

    def __init__(self, call: LayerCall, which: Pass) -> None:
        self.call = call
        self.which = which
        self.tolerance = AGREEMENT[call.operands[0].dtype]

    @cached_property
    def _operator(self) -> list[Tensor]:
        return self._operate("reference")

    @cached_property
    def _layer(self) -> Tensor:
        return self._whole("reference")

    @cached_property
    def _clear(self) -> Tensor:
        """Positions whose two best scores differ by more than rounding can change, `[B, 1, U, V]`."""
        guided: Tensor = self.call.operands[2].double()
        if guided.shape[1] == 1:
            return torch.ones_like(guided, dtype=torch.bool)
        first, second = guided.topk(2, dim=1).values.unbind(1)
        return ((first - second) > self.tolerance * guided.abs().max()).unsqueeze(1)

    def check(self, backend: str) -> Agreement:
        """Compare a backend: as an operator on equal filters and regions, and as the layer calls it.

        The layer may run in fewer steps than its parts, and round its scores otherwise. There, positions whose two
        best scores are nearly equal are left out.
        """
        try:
            pairs = list(zip(self._operate(backend), self._operator, strict=True))
            whole = self._whole(backend)
        except Exception as raised:
            # Whatever a backend raises is a row of the report, not the end of it.
            return Agreement(None, first_line(raised))
        clear = self._clear if whole.dim() == 4 else self._clear[0]
        pairs.append((torch.where(clear, whole, self._layer), self._layer))
        errors = [(a - b).abs().max() / b.abs().max().clamp(min=1e-30) for a, b in pairs if a.numel()]
        error = float(torch.stack(errors).max()) if errors else 0.0  # NaN, if any is
        if error <= self.tolerance:
            return Agreement(error)
        return Agreement(error, f"differs from the reference by {error:.1e}, more than {self.tolerance:.0e}: not timed")

    def _operate(self, backend: str) -> list[Tensor]:
        """Return the operator's output and, unless the pass has none, its gradients."""
        conv, grads = self.call.layer.region_conv, self.which != "forward"
        with torch.set_grad_enabled(grads):
            operands: list[Any] = [t if t is None else t.detach().requires_grad_(grads) for t in self.call.operands]
            input, filters, guided, bias = operands
            output = region_conv2d(
                input, filters, guided, bias,
                stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=conv.groups, backend=backend,
            )  # fmt: skip
            found = [output]
            if grads:
                generator = torch.Generator().manual_seed(0)
                noise = torch.randn(output.shape, generator=generator).to(output.device, output.dtype)
                found += torch.autograd.grad(output, [t for t in operands if t is not None], noise)
        return [t.detach().cpu().double() for t in found]

    def _whole(self, backend: str) -> Tensor:
        layer = self.call.layer
        kept = layer.backend
        try:
            set_backend(layer, backend)
            with torch.inference_mode():
                output: Tensor = layer(*self.call.args)
        finally:
            layer.backend = kept
        return output.detach().cpu().double()


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0]


def check_calls(calls: Sequence[LayerCall], backends: Sequence[str], which: Pass) -> Iterator[dict[str, Agreement]]:
    """Yield, for each call, backend -> how far it is from the reference."""
    for call in calls:
        truth = Truth(call, which)
        yield {name: truth.check(name) for name in backends}


def worst(found: Sequence[tuple[str, Agreement]]) -> Agreement:
    """Return the first refusal with the name of its layer, or else the largest error."""
    for name, agreement in found:
        if agreement.refusal is not None:
            return Agreement(
                agreement.error, f"in {name}: {agreement.refusal}" if len(found) > 1 else agreement.refusal
            )
    errors: list[Any] = [agreement.error for _, agreement in found]
    return Agreement(max(errors))
