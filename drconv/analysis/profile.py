"""Time the dynamic layers of a model and the whole model: every backend against `nn.Conv2d` and against the naive way.

A backend is timed on a layer only if it agrees with the reference there, on the inputs that layer really gets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drconv.analysis.environment import environment
from drconv.analysis.profile_report import CandidateProfile, ProfileReport, TargetProfile
from drconv.analysis.record import RegionRecording, record_regions
from drconv.analysis.running import eval_mode, model_errors
from drconv.analysis.timing import Candidate, Timing, time_interleaved
from drconv.errors import ArgumentError, BackendError, ModelError
from drconv.kernels import BACKENDS
from drconv.layers import DynamicLayer, RegionLayer, plain_twin, set_backend
from drconv.ops import region_conv2d

__all__ = ["AGREEMENT", "BASELINE", "profile_model"]

BASELINE = "conv2d"
"""Name of the candidate that has `nn.Conv2d` in place of every dynamic layer."""

AGREEMENT = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 4e-2}
"""Largest |y - reference| / max|reference| at which a backend counts as right."""


@dataclass(frozen=True, eq=False)
class _LayerCall:
    """A call of a dynamic layer, with the inputs of the layer and those of its operator."""

    name: str
    layer: DynamicLayer
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    operands: tuple[Tensor, ...]


def profile_model(
    model: nn.Module,
    input: Tensor,
    *,
    backends: Sequence[str] | None = None,
    rounds: int = 20,
    warmup: int = 3,
    progress: Callable[[str, int, int], object] | None = None,
) -> ProfileReport:
    """Time every dynamic layer of a model, and the model, in eval mode without gradients.

    The model's backends and mode are restored.

    Args:
        model: any module with dynamic layers, on the device of `input`.
        input: `[B, C, H, W]`; real images give real regions.
        backends: to time beside `conv2d` and `naive`; None times those that a call would choose from.
        rounds: timed calls per candidate.
        warmup: calls before those.
        progress: called with (name of the target, targets done, targets) before each is timed.

    Returns:
        Times, ratios, and how far each backend is from the reference.

    Raises:
        ArgumentError: `rounds` or `warmup` is too small.
        ModelError: the model has no dynamic layer, or fails on the input.
        UnknownNameError: no backend has that name.
    """
    if rounds < 1 or warmup < 0:
        raise ArgumentError(f"rounds must be at least 1 and warmup at least 0, got {rounds=}, {warmup=}")
    if backends is None:
        backends = [name for name, backend in BACKENDS.items() if backend.automatic]
    names = list(dict.fromkeys([*backends, "naive"]))
    for name in names:
        BACKENDS[name]
    report = progress or (lambda name, done, total: None)
    kept = {module: module.backend for module in model.modules() if isinstance(module, DynamicLayer)}
    plan = _Plan(names, rounds, warmup, input.device)
    try:
        with eval_mode(model), torch.inference_mode():
            targets: list[TargetProfile] = []
            calls = _record_calls(model, input)
            for call in calls:
                report(call.name, len(targets), len(calls) + 1)
                targets.append(_profile_layer(call, plan))
            report("network", len(targets), len(calls) + 1)
            targets.append(_profile_network(model, input, plan, _refused(targets)))
    finally:
        for module, backend in kept.items():
            module.backend = backend
    dtype = str(input.dtype).removeprefix("torch.")
    return ProfileReport(tuple(targets), tuple(input.shape), dtype, rounds, warmup, environment(input.device))


@dataclass(frozen=True)
class _Plan:
    backends: list[str]
    rounds: int
    warmup: int
    device: torch.device

    def time(self, candidates: dict[str, Candidate]) -> dict[str, Timing]:
        return time_interleaved(candidates, rounds=self.rounds, warmup=self.warmup, device=self.device)


def _record_calls(model: nn.Module, input: Tensor) -> list[_LayerCall]:
    """Run the model once and keep what every dynamic layer was called with."""
    calls: list[_LayerCall] = []
    arguments: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    handles = []
    for name, layer in model.named_modules():
        if not isinstance(layer, DynamicLayer):
            continue

        # Cloned, because what comes after may write in place.
        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            arguments[module] = (_clone(args), dict(zip(kwargs, _clone(tuple(kwargs.values())), strict=True)))

        def inside(module: nn.Module, args: tuple[Any, ...], name: str = name, layer: DynamicLayer = layer) -> None:
            calls.append(_LayerCall(name, layer, *arguments[layer], _clone(args[:4])))

        handles.append(layer.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(layer.region_conv.register_forward_pre_hook(inside))
    if not handles:
        raise ModelError(
            f"{type(model).__name__} has no dynamic layer (DRConv2d, DynamicConv2d), so there is nothing to profile"
        )
    try:
        with model_errors(model, input.shape):
            model(input)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _clone(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)


def _profile_layer(call: _LayerCall, plan: _Plan) -> TargetProfile:
    """Check every backend on the operator's recorded inputs, then time the whole layer with those that agree."""
    twin = plain_twin(call.layer)
    run = partial(call.layer, *call.args, **call.kwargs)
    candidates = {BASELINE: Candidate(partial(twin, *call.args, **call.kwargs))}
    errors: dict[str, float | None] = {BASELINE: None}
    refusals: dict[str, str] = {}
    truth = _operate(call, "reference").cpu().double()
    tolerance = AGREEMENT[call.operands[0].dtype]
    for name in plan.backends:
        try:
            output = _operate(call, name).cpu().double()
        except BackendError as error:
            errors[name], refusals[name] = None, str(error)
            continue
        errors[name] = float((output - truth).abs().max() / truth.abs().max().clamp(min=1e-30))
        if not errors[name] <= tolerance:  # type: ignore[operator]
            refusals[name] = f"differs from the reference by {errors[name]:.1e}, more than {tolerance:.0e}: not timed"
            continue
        candidates[name] = Candidate(run, prepare=partial(set_backend, call.layer, name))
    timings = plan.time(candidates)
    input, output_shape = call.operands[0], tuple(truth.shape)
    shape = f"{input.shape[1]}->{output_shape[1]} @ {output_shape[2]}x{output_shape[3]}"
    return TargetProfile(call.name, shape, _candidates(timings, errors, {}, refusals))


def _operate(call: _LayerCall, backend: str) -> Tensor:
    conv = call.layer.region_conv
    return region_conv2d(
        *call.operands,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        backend=backend,
    )


def _refused(layers: Sequence[TargetProfile]) -> dict[str, str]:
    """Return, for each backend that a layer refused, the first such layer and its reason."""
    found: dict[str, str] = {}
    for layer in layers:
        for candidate in layer.candidates:
            if candidate.refusal is not None:
                found.setdefault(candidate.candidate, f"refused in layer {layer.name}: {candidate.refusal}")
    return found


def _profile_network(model: nn.Module, input: Tensor, plan: _Plan, refusals: dict[str, str]) -> TargetProfile:
    """Time the network with each backend that no layer refused, and compare the regions it ends up with."""
    candidates: dict[str, Candidate] = {}
    twin = plain_twin(model)
    try:
        with model_errors(twin, input.shape):
            twin(input)
        candidates[BASELINE] = Candidate(partial(twin, input))
    except ModelError as error:
        # A model may do more with a shared guided feature than hand it to its layers.
        refusals = {**refusals, BASELINE: f"without its guides: {error}"}
    equal: dict[str, float] = {}
    has_regions = any(isinstance(module, RegionLayer) for module in model.modules())
    truth = _regions(model, input, "reference") if has_regions else None
    for name in plan.backends:
        if name not in refusals:
            if truth is not None:
                equal[name] = _equal_share(_regions(model, input, name), truth)
            candidates[name] = Candidate(partial(model, input), prepare=partial(set_backend, model, name))
    timings = plan.time(candidates)
    errors: dict[str, float | None] = dict.fromkeys([BASELINE, *plan.backends])
    return TargetProfile("network", type(model).__name__, _candidates(timings, errors, equal, refusals))


def _regions(model: nn.Module, input: Tensor, backend: str) -> RegionRecording:
    set_backend(model, backend)
    with record_regions(model) as recording:
        model(input)
    return recording


def _equal_share(a: RegionRecording, b: RegionRecording) -> float:
    equal = sum(int((x.guided_mask == y.guided_mask).sum()) for x, y in zip(a.layers, b.layers, strict=True))
    return equal / max(1, sum(x.guided_mask.numel() for x in b.layers))


def _candidates(
    timings: dict[str, Timing],
    errors: dict[str, float | None],
    equal: dict[str, float],
    refusals: dict[str, str],
) -> tuple[CandidateProfile, ...]:
    conv, naive = timings.get(BASELINE), timings.get("naive")
    found = []
    for name, error in errors.items():
        timing = timings.get(name)
        found.append(
            CandidateProfile(
                name,
                error,
                equal.get(name),
                timing,
                None if timing is None or conv is None else timing.ratio_to(conv),
                None if timing is None or naive is None else timing.ratio_to(naive),
                refusals.get(name),
            )
        )
    return tuple(found)
