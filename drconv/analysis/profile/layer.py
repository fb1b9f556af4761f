"""`profile_layer`: one layer of any sizes, on a region map of one's choice."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from drconv.analysis.profile.agreement import Agreement, check_calls
from drconv.analysis.profile.attempts import operator_attempts, operator_calls
from drconv.analysis.profile.counts import count_layers
from drconv.analysis.profile.layer_spec import LayerSpec
from drconv.analysis.profile.maps import MapStatistics, draw_map, force_map
from drconv.analysis.profile.model import Progress, profile_group, restored
from drconv.analysis.profile.options import ProfileOptions
from drconv.analysis.profile.overhead import CONV2D, layer_overheads, time_calls
from drconv.analysis.profile.peaks import measure_peaks
from drconv.analysis.profile.report import ProfileReport
from drconv.analysis.profile.stamp import stamp
from drconv.analysis.profile.targets import LayerCall, record_calls
from drconv.analysis.profile.trace import write_trace
from drconv.checks import pick, positive
from drconv.errors import ArgumentError
from drconv.ops import guided_mask

__all__ = ["FILTER_ORDERS", "SCOPES", "FilterOrder", "Scope", "layer_problem", "profile_layer"]

Scope = Literal["module", "operator"]
SCOPES = ("module", "operator")
FilterOrder = Literal["generator", "out-innermost", "torch"]
FILTER_ORDERS = ("generator", "out-innermost", "torch")
"""As the generator makes them; [B, M, K, K, C, O] in memory; or [B, M, O, C, K, K], contiguous as PyTorch has it."""


def profile_layer(
    spec: LayerSpec,
    options: ProfileOptions | None = None,
    *,
    batch: int = 1,
    scope: Scope = "module",
    maps: str = "uniform",
    image: Tensor | None = None,
    occurring: int | None = None,
    filter_order: FilterOrder = "generator",
    guide_gradient: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Progress | None = None,
) -> ProfileReport:
    """Time one layer on a wanted region map.

    Args:
        spec: sizes.
        options: what to time, and for how long.
        batch: B.
        scope: "module", the whole layer; or "operator", `region_conv2d` with filters and scores given.
        maps: kind of region map, see `draw_map`; "own" is what the layer's own random guide makes of noise.
        image: for maps="image", `[3, H, W]`.
        occurring: regions that may occur in a sample; None is all.
        filter_order: of the operator's filters in memory.
        guide_gradient: whether the operator's backward pass makes the gradient of the scores, too.
        dtype: of input and parameters.
        device: where to run.
        seed: of weights, input and map.
        progress: called with (name of the target, targets done, targets).

    Returns:
        A profile with one target, "layer".

    Raises:
        ArgumentError: an argument is not in its range, or the map cannot be had from this layer.

    Example:
        >>> spec = LayerSpec(96, 96, (14, 14))
        >>> profile_layer(spec, batch=32, maps="salt").targets[0].candidates[2].to_conv2d.median
    """
    asked = options or ProfileOptions()
    if progress is not None:
        progress("layer", 0, 1)
    call = layer_problem(
        spec, batch=batch, scope=scope, maps=maps, image=image, occurring=occurring, filter_order=filter_order,
        dtype=dtype, device=device, seed=seed,
    )  # fmt: skip
    where = torch.device(device)
    peaks = measure_peaks(where, dtype) if asked.roofline else None
    with restored(call.layer):
        (agreed,) = check_calls([call], asked.names, asked.which)
        counts = count_layers(call.layer, call.args[0].shape, [call], asked.which)
        attempts = overheads = None
        if scope == "operator":
            attempts = operator_attempts(call, agreed, asked, guide_gradient=guide_gradient)
            overheads = _operator_overheads(call, agreed, asked, where, guide_gradient) if peaks else None
        target, measured = profile_group([call], {call.name: agreed}, counts, asked, peaks, attempts, overheads)
        if asked.trace is not None:
            write_trace(asked.trace, {f"{call.name}: {label}": run for label, run in measured.runs.items()}, where)
    notes = tuple(_notes(spec, scope, maps, occurring, filter_order, guide_gradient, target.maps, asked))
    return ProfileReport(
        (replace(target, members=()),), tuple(call.args[0].shape), str(dtype).removeprefix("torch."), stamp(where),
        asked.which, scope, asked.stop, peaks, notes,
    )  # fmt: skip


def layer_problem(
    spec: LayerSpec,
    *,
    batch: int = 1,
    scope: Scope = "module",
    maps: str = "uniform",
    image: Tensor | None = None,
    occurring: int | None = None,
    filter_order: FilterOrder = "generator",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> LayerCall:
    """Make a layer, its input and its map; see `profile_layer`.

    Raises:
        ArgumentError: an argument is not in its range, or the map cannot be had from this layer.
    """
    pick("scope", scope, SCOPES)
    pick("filter_order", filter_order, FILTER_ORDERS)
    positive("batch", batch)
    if scope == "module" and filter_order != "generator":
        raise ArgumentError(
            f"filter_order is of filters that are given, got {filter_order!r} with scope='module'; use scope='operator'"
        )
    if maps == "own" and occurring is not None:
        raise ArgumentError("occurring is for maps that are drawn, got it with maps='own'")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = spec.build(dtype).to(device).eval()
        noise = torch.randn(batch, spec.in_channels, *spec.size)
    input = noise.to(device, dtype)
    if maps == "own":
        (call,) = record_calls(layer, input)
        return _ordered(replace(call, name="layer"), filter_order)
    size = layer.output_size(*spec.size)
    mask = draw_map(maps, batch, spec.num_regions, size, image=image, occurring=occurring, seed=seed).to(device)
    if scope == "operator":
        (call,) = record_calls(layer, input)
        scores = torch.nn.functional.one_hot(mask, spec.num_regions).permute(0, 3, 1, 2).to(dtype).contiguous()
        x, filters, _, bias = call.operands
        call = replace(call, args=(input, scores), operands=(x, filters, scores, bias))
    else:
        (call,) = record_calls(layer, force_map(layer, input, mask))
    if not torch.equal(guided_mask(call.operands[2]), mask):
        raise ArgumentError(f"the layer did not take the wanted map (maps={maps!r}, {spec}); use scope='operator'")
    return _ordered(replace(call, name="layer"), filter_order)


def _ordered(call: LayerCall, order: FilterOrder) -> LayerCall:
    """Return a call whose filters lie in memory as asked, their shape unchanged."""
    x, filters, scores, bias = call.operands
    if order == "torch":
        filters = filters.contiguous()
    elif order == "out-innermost":
        # [..., O, C, K, K] -> [..., K, K, C, O] in memory.
        outer = list(range(filters.dim() - 4))
        out, into, rows, columns = (len(outer) + i for i in range(4))
        packed = filters.permute(*outer, rows, columns, into, out).contiguous()
        filters = packed.permute(*outer, len(outer) + 3, len(outer) + 2, len(outer), len(outer) + 1)
    return replace(call, operands=(x, filters, scores, bias))


def _operator_overheads(
    call: LayerCall, agreed: dict[str, Agreement], options: ProfileOptions, device: torch.device, guide_gradient: bool
) -> dict[str, float]:
    """Time the operator with 4 channels on one position."""
    p = call.problem
    channels, groups = 4, 4 if p.groups > 1 else 1
    size = tuple(d * (k - 1) + 1 for k, d in zip(p.kernel_size, p.dilation, strict=True))
    spec = LayerSpec(
        channels, channels, (size[0], size[1]), p.kernel_size, p.stride, (0, 0), p.dilation, groups, p.num_regions,
        bias=call.layer.has_bias,
    )  # fmt: skip
    tiny = layer_problem(spec, scope="operator", maps="single", dtype=p.dtype, device=device)
    able = [name for name, agreement in agreed.items() if agreement.refusal is None]
    works = operator_calls(tiny, "NCHW", able, options.which, guide_gradient=guide_gradient)
    found = time_calls(works, options.which, device)
    conv = layer_overheads(tiny.layer, [], options.which, device)
    return {CONV2D: conv[CONV2D], **found}


def _notes(
    spec: LayerSpec,
    scope: str,
    maps: str,
    occurring: int | None,
    order: str,
    guide_gradient: bool,
    found: MapStatistics | None,
    options: ProfileOptions,
) -> list[str]:
    """Return what was timed, and on which map."""
    parts = {"module": "pool, generator, guide and convolution", "operator": "the operator, filters and scores given"}
    notes = [f"Layer {spec}: {parts[scope]}."]
    if scope == "operator" and order != "generator":
        notes.append(f"Filters in memory: {order}.")
    if scope == "operator" and options.which != "forward" and not guide_gradient:
        notes.append("Without the gradient of the scores.")
    line = f"Region map {maps}" + ("" if occurring is None else f", {occurring} regions may occur in a sample")
    if found is not None:
        line += f": {found.regions:.1f} regions and {found.runs:.0f} runs in a sample, "
        line += f"{found.boundary_share:.1%} of neighbours differ"
    return [*notes, f"{line}."]
