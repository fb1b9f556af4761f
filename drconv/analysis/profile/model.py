"""`profile_model`: every dynamic layer of a network, on the inputs that it gets there, and the network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from drconv.analysis.profile.agreement import Agreement, check_calls, worst
from drconv.analysis.profile.attempts import Attempt, layer_attempts
from drconv.analysis.profile.counts import LayerCounts, count_layers
from drconv.analysis.profile.layouts import arguments_in, layout_of, module_in, tensor_in
from drconv.analysis.profile.maps import map_statistics
from drconv.analysis.profile.measure import Measured, measure
from drconv.analysis.profile.options import LAYOUTS, ProfileOptions
from drconv.analysis.profile.overhead import CONV2D, layer_overheads
from drconv.analysis.profile.passes import work_of
from drconv.analysis.profile.peaks import Peaks, measure_peaks
from drconv.analysis.profile.report import ProfileReport, StageSplit, TargetProfile
from drconv.analysis.profile.stages import stage_split
from drconv.analysis.profile.stamp import stamp
from drconv.analysis.profile.targets import LayerCall, group_calls, record_calls
from drconv.analysis.profile.trace import write_trace
from drconv.analysis.record import RegionRecording, record_regions
from drconv.analysis.running import eval_mode, model_errors
from drconv.analysis.timing import Candidate
from drconv.errors import ModelError
from drconv.layers import DynamicLayer, RegionLayer, plain_twin, set_backend
from drconv.ops import guided_mask

__all__ = ["NETWORK", "Progress", "profile_model"]

NETWORK = "network"
"""Name of the target that is the whole model."""

Progress = Callable[[str, int, int], object]


def profile_model(
    model: nn.Module, input: Tensor, options: ProfileOptions | None = None, *, progress: Progress | None = None
) -> ProfileReport:
    """Time the dynamic layers of a model, and the model, against `nn.Conv2d` and against applying all filters.

    A backend is timed on a layer only if it agrees with the reference on every layer of equal sizes, on the inputs
    that these really get; and on the network only if it does so on every layer. The model's backends and mode are
    restored, its parameters' gradients are left alone.

    Args:
        model: any module with dynamic layers, on the device of `input`.
        input: `[B, C, H, W]`; real images give real regions.
        options: what to time, and for how long.
        progress: called with (name of the target, targets done, targets) before each is timed.

    Returns:
        Times, ratios, peak memory, and how far each backend is from the reference.

    Raises:
        ModelError: the model has no dynamic layer, or fails on the input.
        FileError: the trace cannot be written.

    Example:
        >>> model = create_model("drconv_shufflenet_v2_x0_5")
        >>> report = profile_model(model, torch.randn(1, 3, 224, 224), ProfileOptions(network=False))
        >>> report.targets[0].candidates[2].to_conv2d.median
    """
    asked, device = options or ProfileOptions(), input.device
    report = progress or (lambda name, done, total: None)
    runs: dict[str, Candidate] = {}
    targets: list[TargetProfile] = []
    with restored(model):
        calls = record_calls(model, input)
        groups = group_calls(calls, asked.every_layer)
        checked = dict(zip((c.name for c in calls), check_calls(calls, asked.names, asked.which), strict=True))
        total = len(groups) * asked.layers + asked.network
        peaks = measure_peaks(device, input.dtype) if asked.roofline else None
        counts = count_layers(model, input.shape, calls, asked.which) if asked.layers else {}
        for group in groups if asked.layers else ():
            report(group[0].name, len(targets), total)
            target, measured = profile_group(group, checked, counts, asked, peaks)
            targets.append(target)
            runs.update({f"{target.name}: {label}": run for label, run in measured.runs.items()})
        if asked.network:
            report(NETWORK, len(targets), total)
            target, measured = _profile_network(model, input, asked, _refused(checked))
            targets.append(target)
            runs.update({f"{NETWORK}: {label}": run for label, run in measured.runs.items()})
        if asked.trace is not None:
            write_trace(asked.trace, runs, device)
    mode = "eval mode" if asked.which == "forward" else "layers in eval mode, the network in train mode"
    notes = [
        f"Layers are timed whole (with all that makes their filters), on the inputs they get in the network; {mode}."
    ]
    occurring = [target.maps.regions for target in targets if target.maps is not None]
    if occurring:
        span = sorted({f"{min(occurring):.1f}", f"{max(occurring):.1f}"})
        notes.append(f"Regions that occur in a sample, on average: {' to '.join(span)} over the layers.")
    return ProfileReport(
        tuple(targets), tuple(input.shape), str(input.dtype).removeprefix("torch."), stamp(device), asked.which,
        stop=asked.stop, peaks=peaks, notes=tuple(notes),
    )  # fmt: skip


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put a model in eval mode; restore modes and backends at the end, also after an error."""
    kept = {module: module.backend for module in model.modules() if isinstance(module, DynamicLayer)}
    try:
        with eval_mode(model):
            yield
    finally:
        for module, backend in kept.items():
            module.backend = backend


def profile_group(
    group: Sequence[LayerCall],
    checked: Mapping[str, Mapping[str, Agreement]],
    counts: Mapping[str, LayerCounts],
    options: ProfileOptions,
    peaks: Peaks | None,
    attempts: Sequence[Attempt] | None = None,
    overheads: Mapping[str, float] | None = None,
) -> tuple[TargetProfile, Measured]:
    """Time the first of some layers of equal sizes, for all of them.

    Args:
        group: calls of equal sizes.
        checked: name of a call -> backend -> how far it is from the reference.
        counts: name of a call -> its multiply-adds.
        options: what to time.
        peaks: of the machine.
        attempts: candidates; None times the whole layer.
        overheads: candidate -> seconds of an empty call; None measures those of the layer.
    """
    call, device = group[0], group[0].operands[0].device
    agreements = {name: worst([(each.name, checked[each.name][name]) for each in group]) for name in options.names}
    counted = counts.get(call.name, LayerCounts())
    if attempts is None:
        attempts = layer_attempts(call, agreements, counted.whole, options)
    if overheads is None and peaks is not None:
        overheads = layer_overheads(call.layer, _able(agreements), options.which, device)
    measured = measure(attempts, options, device, peaks, overheads)
    stages = _stages(call, agreements, counted, options) if options.stages else None
    mask = guided_mask(call.operands[2])
    return TargetProfile(
        call.name, call.shape, measured.candidates, tuple(each.name for each in group),
        map_statistics(mask) if isinstance(call.layer, RegionLayer) else None,
        stages, measured.binds, measured.ranking,
    ), measured  # fmt: skip


def _able(agreements: Mapping[str, Agreement]) -> list[str]:
    return [name for name, agreement in agreements.items() if agreement.refusal is None]


def _stages(
    call: LayerCall, agreements: Mapping[str, Agreement], counts: LayerCounts, options: ProfileOptions
) -> StageSplit | None:
    """Split the layer with the first backend that can run it."""
    able = _able(agreements)
    if not able:
        return None
    own, device = layout_of(call.args[0]), call.operands[0].device
    layout = own if options.layout == "both" else options.layouts(own)[0]
    if layout != own:
        args, operands = (arguments_in(tensors, layout) for tensors in (call.args, call.operands))
        call = replace(call, layer=module_in(call.layer, layout), args=args, operands=operands)
    return stage_split(call, able[0], layout, counts.stages, options.stop, device)


def _refused(checked: Mapping[str, Mapping[str, Agreement]]) -> dict[str, str]:
    """Return, for each backend that a layer refused, the first such layer and its reason."""
    found: dict[str, str] = {}
    for name, agreements in checked.items():
        for backend, agreement in agreements.items():
            if agreement.refusal is not None:
                found.setdefault(backend, f"refused in layer {name}: {agreement.refusal}")
    return found


def _profile_network(
    model: nn.Module, input: Tensor, options: ProfileOptions, refusals: dict[str, str]
) -> tuple[TargetProfile, Measured]:
    """Time the network with each backend that no layer refused, and compare the regions it ends up with."""
    which = options.which
    attempts = _plain_networks(model, input, options)
    has_regions = any(isinstance(module, RegionLayer) for module in model.modules())
    truth = _regions(model, input, "reference") if has_regions else None
    equal = {
        name: _equal_share(_regions(model, input, name), truth)
        for name in options.names
        if truth is not None and name not in refusals
    }
    own = layout_of(input)
    for layout in options.layouts(own):
        network = model if layout == own else module_in(model, layout)
        if which != "forward":
            # A copy: statistics of BatchNorm move in train mode.
            network = deepcopy(network).train()
        for name in options.names:
            agreement = Agreement(None, refusals.get(name))
            select = partial(set_backend, network, name)
            work = work_of(network, (tensor_in(input, layout),), which, select, reduces=True)
            runs = work if agreement.refusal is None else None
            attempts.append(Attempt(name, layout, runs, None, agreement, equal.get(name)))
    measured = measure(attempts, options, input.device)
    target = TargetProfile(NETWORK, type(model).__name__, measured.candidates, ranking=measured.ranking)
    return target, measured


def _plain_networks(model: nn.Module, input: Tensor, options: ProfileOptions) -> list[Attempt]:
    """Return the network with `nn.Conv2d` in place of every dynamic layer, in both layouts."""
    twin, refusal = plain_twin(model), None
    try:
        with torch.no_grad(), model_errors(twin, input.shape):
            twin(input)
    except ModelError as error:
        # A model may do more with a shared guided feature than hand it to its layers.
        refusal = f"without its guides: {error}"
    attempts = []
    for layout in LAYOUTS:
        plain = module_in(twin, layout).train(options.which != "forward")
        work = work_of(plain, (tensor_in(input, layout),), options.which, reduces=True)
        attempts.append(Attempt(CONV2D, layout, None if refusal else work, agreement=Agreement(None, refusal)))
    return attempts


def _regions(model: nn.Module, input: Tensor, backend: str) -> RegionRecording:
    set_backend(model, backend)
    with torch.no_grad(), record_regions(model) as recording:
        model(input)
    return recording


def _equal_share(a: RegionRecording, b: RegionRecording) -> float:
    equal = sum(int((x.guided_mask == y.guided_mask).sum()) for x, y in zip(a.layers, b.layers, strict=True))
    return equal / max(1, sum(x.guided_mask.numel() for x in b.layers))
