"""The table of backends, in order of preference, and the choice of one for each call."""

import torch

from drconv.errors import BackendError
from drconv.kernels import native, triton
from drconv.kernels.backend import Backend, Gradients, Prepared, RegionConvProblem, memory_format_of
from drconv.kernels.layer import Geometry, Inference, LayerParameters, LayerProblem
from drconv.kernels.native.packed import forget as forget_packed
from drconv.registry import Registry

__all__ = [
    "BACKENDS",
    "Backend",
    "Geometry",
    "Gradients",
    "Inference",
    "LayerParameters",
    "LayerProblem",
    "Prepared",
    "RegionConvProblem",
    "choose_backend",
    "choose_inference",
    "forget_packed",
    "memory_format_of",
    "why_not",
    "why_not_infer",
]

_FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

BACKENDS: Registry[Backend] = Registry("backend")
for _backend in (
    Backend(
        "native",
        "drconv.kernels.native.convolution",
        ("cpu",),
        (torch.float32, torch.bfloat16),
        True,
        native.why_not,
        own_mask=True,
        adds_bias=True,
        prepares=True,
        inference="drconv.kernels.native.infer",
        inference_objection=native.why_not_infer,
    ),
    Backend(
        "triton",
        "drconv.kernels.triton.convolution",
        ("cuda", "cpu"),
        (torch.float32, torch.bfloat16, torch.float16),
        True,
        triton.why_not,
        own_mask=True,
        adds_bias=True,
        inference="drconv.kernels.triton.infer",
        inference_objection=triton.why_not_infer,
        only_named_on=("cpu",),
    ),
    Backend("eager", "drconv.kernels.eager", None, _FLOATS, automatic=True),
    Backend("naive", "drconv.kernels.naive", None, _FLOATS, automatic=False),
    Backend("reference", "drconv.kernels.reference", None, _FLOATS, automatic=False),
):
    BACKENDS.add(_backend.name, _backend)


def why_not(problem: RegionConvProblem) -> dict[str, str | None]:
    """Return, for every backend, the reason why it cannot run a problem, or None."""
    return {name: backend.why_not(problem) for name, backend in BACKENDS.items()}


def choose_backend(problem: RegionConvProblem, name: str | None = None) -> Backend:
    """Return the named backend, or the first automatic one without an objection.

    Raises:
        UnknownNameError: no backend has that name.
        BackendError: the named backend objects, or none is left; the message carries the reasons.
    """
    if name is not None:
        backend = BACKENDS[name]
        reason = backend.why_not(problem)
        if reason is not None:
            able = [n for n, objection in why_not(problem).items() if objection is None]
            raise BackendError(f"backend {name!r} cannot run this call: {reason}; able to: {', '.join(able) or 'none'}")
        return backend
    reasons = {}
    for backend in BACKENDS.values():
        if backend.automatic and problem.device_type not in backend.only_named_on:
            reason = backend.why_not(problem)
            if reason is None:
                return backend
            reasons[backend.name] = reason
    raise BackendError("no backend can run this call: " + "; ".join(f"{n}: {r}" for n, r in reasons.items()))


def why_not_infer(problem: LayerProblem) -> dict[str, str | None]:
    """Return, for every backend, the reason why it cannot run a whole layer in one call, or None."""
    return {name: backend.why_not_infer(problem) for name, backend in BACKENDS.items()}


def choose_inference(problem: LayerProblem, name: str | None = None) -> Backend:
    """Return the named backend, or the first automatic one, that runs a whole layer in one call.

    With no name it is that which `choose_backend` chooses for the layer's convolution, so that a call in one piece
    and a call in stages run the same kernels.

    Raises:
        UnknownNameError: no backend has that name.
        BackendError: the backend objects; the message carries its reason.
    """
    backend = choose_backend(problem.conv, name)
    reason = backend.why_not_infer(problem)
    if reason is not None:
        raise BackendError(f"backend {backend.name!r} cannot run this layer in one call: {reason}")
    return backend
