"""Hold the compiled CPU kernels against their bars: sizes, bars, what was measured, met or missed.

1.0 is `nn.Conv2d` in the faster of its two layouts, or the plain network in the layout that a row names. Every
candidate is checked against `reference` before it is timed, and timed by `drconv.analysis.profile_layer` and
`profile_model`: interleaved rounds until a noise target or a time limit, each sample right after a call of the same
candidate. Each layer is profiled three times, and the median ratio counts. Operators get filters and scores in memory,
filters output channels innermost unless the case says otherwise, and are called through the public function.

Run from the repository root on a quiet machine, for instance one part after the other:
`python studies/native_bars.py --output bars.json --only forward`. Parts already in the file are kept; the table printed
at the end is of all parts in it.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from drconv import count_flops, create_model, optimize_for_inference, record_regions
from drconv.analysis import LayerSpec, ProfileOptions, StopRule, parse_layer, profile_layer, profile_model
from drconv.analysis.profile import CandidateProfile, layer_problem, measure_peaks, stamp
from drconv.analysis.profile.attempts import operator_calls
from drconv.analysis.timing import Candidate, Timing, time_interleaved
from drconv.kernels import BACKENDS
from drconv.models import calibrate_batch_norm

CPU = torch.device("cpu")
M = 8
REPEATS = 3
LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
QUICK = StopRule(max_time=0.5, min_rounds=9, warmup=2)
SLOW = StopRule(max_time=0.8, min_rounds=7, warmup=1)
ONE_LAYOUT = ProfileOptions(("native",), roofline=False, memory=False, stop=QUICK, naive=False)
BOTH = replace(ONE_LAYOUT, layout="both")


@dataclass(frozen=True)
class Row:
    """One bar and what was measured against it.

    Attributes:
        case: what.
        bar: None where a number is only reported.
        at_most: whether the bar is an upper one.
        measured: by shape.
    """

    case: str
    bar: float | None
    at_most: bool
    measured: dict[str, float]

    @property
    def is_met(self) -> bool | None:
        """Whether all shapes keep to the bar."""
        if self.bar is None:
            return None
        values = self.measured.values()
        return max(values) <= self.bar if self.at_most else min(values) >= self.bar

    def line(self) -> str:
        """Return a line of the Markdown table."""
        low, high = min(self.measured.values()), max(self.measured.values())
        span = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f}-{high:.2f}"
        bar = "" if self.bar is None else f"{'<=' if self.at_most else '>='} {self.bar:g}"
        verdict = {None: "", True: "met", False: "**missed**"}[self.is_met]
        return f"| {self.case} | {bar} | {span} | {verdict} |"


Rows = Iterator[Row]


def spec_of(channels: int, out: int, size: int, kernel: int = 1, groups: int = 1) -> LayerSpec:
    """Return a layer that keeps the map's size."""
    return parse_layer(f"in={channels},out={out},size={size},kernel={kernel},groups={groups},regions={M}")


def name_of(spec: LayerSpec, batch: int) -> str:
    """Return a layer's sizes as a key."""
    kind = "depthwise " if spec.groups > 1 else ""
    side = f" {spec.kernel_size[0]}x{spec.kernel_size[0]}" if spec.kernel_size[0] > 1 else ""
    return f"{kind}{spec.in_channels}->{spec.out_channels}{side} @ {spec.size[0]}, batch {batch}"


def operator(spec: LayerSpec, batch: int, options: ProfileOptions = BOTH, **other: Any) -> dict[str, CandidateProfile]:
    """Time the operator; return candidates by label, and stop if one was refused."""
    settings = {"maps": "blocky", "filter_order": "out-innermost", **other}
    return repeated(spec, options, batch=batch, scope="operator", **settings)


def repeated(spec: LayerSpec, options: ProfileOptions, **settings: Any) -> dict[str, CandidateProfile]:
    """Profile a few times, and return of each candidate the run with the median ratio.

    Ratios differ more from run to run, as buffers come to lie elsewhere and neighbours on the machine change, than the
    rounds of one run show.
    """
    runs = [timed(profile_layer(spec, options, **settings)) for _ in range(REPEATS)]
    return {label: sorted((run[label] for run in runs), key=ratio)[REPEATS // 2] for label in runs[0]}


def timed(report: Any) -> dict[str, CandidateProfile]:
    """Return the candidates of the last target by label."""
    found = {candidate.label: candidate for candidate in report.targets[-1].candidates}
    refused = {label: c.refusal for label, c in found.items() if c.timing is None}
    if refused:
        raise SystemExit(f"not timed: {refused}")
    return found


def ratio(candidate: CandidateProfile) -> float:
    """Return a time over that of the best convolution."""
    return candidate.to_conv2d.median


SHUFFLENET = ((24, 28), (48, 14), (96, 7), (24, 56), (48, 28), (96, 14), (58, 28), (116, 14), (232, 7))
MOBILENET = ((16, 96, 112), (24, 144, 56), (32, 192, 28), (64, 384, 14), (384, 64, 14), (960, 160, 7))
FORWARD = (
    # case, batch, shapes, bars of channels_last and NCHW
    ("1x1, batch 1, ShuffleNetV2", 1, [(c, c, size) for c, size in SHUFFLENET], 0.9, 1.15),
    ("1x1, batch 1, MobileNetV2", 1, MOBILENET, 1.1, 1.6),
    ("1x1, batch 32, square", 32, [(c, c, s) for c, s in ((48, 14), (48, 28), (96, 14), (58, 28), (116, 14))], 1.25,
     1.45),
    ("1x1, batch 32, expanding", 32, [(24, 144, 56), (32, 192, 28), (64, 384, 14)], 1.6, 1.9),
    ("1x1, batch 32, projecting", 32, [(384, 64, 14)], 1.3, 1.7),
    ("1x1, batch 32, C = 24", 32, [(24, 24, 28)], 1.1, 1.3),
    ("1x1, batch 32, C = 24, large", 32, [(24, 24, 56)], 1.5, 1.6),
    ("1x1, large image", 1, [(64, 64, 256)], 1.25, 2.1),
    ("3x3, batch 1", 1, [(64, 64, 56, 3), (128, 128, 28, 3)], 1.2, 1.4),
    ("3x3, batch 32", 32, [(64, 64, 28, 3)], 1.2, 1.4),
    ("depthwise 3x3, batch 1", 1, [(96, 96, 56, 3, 96)], 1.3, 1.1),
    ("depthwise 3x3, batch 8", 8, [(96, 96, 56, 3, 96)], 1.3, 1.1),
)  # fmt: skip


def forward() -> Rows:
    """Measure the operator's forward pass in both layouts."""
    for case, batch, shapes, *bars in FORWARD:
        found: dict[str, dict[str, float]] = {layout: {} for layout in LAYOUTS}
        for shape in shapes:
            spec = spec_of(*shape)
            candidates = operator(spec, batch)
            for layout in LAYOUTS:
                found[layout][name_of(spec, batch)] = ratio(candidates[f"native {layout}"])
        for layout, bar in zip(LAYOUTS, bars, strict=True):
            yield Row(f"forward {case}, {layout}", bar, True, found[layout])


def small_operators() -> Rows:
    """Measure where the filters outweigh the map."""
    bandwidth, found = measure_peaks(CPU, torch.float32).read, {}
    options = replace(ONE_LAYOUT, layout="channels_last")
    for channels, out in ((96, 96), (232, 232), (960, 160)):
        spec = spec_of(channels, out, 7)
        candidates = operator(spec, 32, options)
        conv = min(c.timing.median for label, c in candidates.items() if label.startswith("conv2d"))
        floor = max(conv, 4 * 32 * M * channels * out / bandwidth)
        found[name_of(spec, 32)] = candidates["native channels_last"].timing.median / floor
    yield Row("forward 1x1 at 7x7, over max(conv, filter bytes / read bandwidth)", 1.4, True, found)


def maps_and_orders() -> Rows:
    """Measure what scattered regions and filters in PyTorch's order add."""
    options, found = replace(ONE_LAYOUT, layout="channels_last"), {}
    for channels, size, batch in ((48, 28, 1), (96, 14, 1), (48, 14, 32), (96, 7, 32)):
        spec = spec_of(channels, channels, size)
        salt, blocky = (operator(spec, batch, options, maps=maps) for maps in ("salt", "blocky"))
        found[name_of(spec, batch)] = ratio(salt["native channels_last"]) / ratio(blocky["native channels_last"])
    yield Row("random over smooth regions", 1.1, True, found)
    found = {}
    for channels, size, batch in ((24, 28, 1), (48, 28, 1), (48, 28, 32), (24, 28, 32)):
        spec = spec_of(channels, channels, size)
        torch_order, own = (operator(spec, batch, options, filter_order=o) for o in ("torch", "out-innermost"))
        found[name_of(spec, batch)] = ratio(torch_order["native channels_last"]) - ratio(own["native channels_last"])
    yield Row("filters in PyTorch's order, P >= 784: added to the ratio", 0.25, True, found)


STEPS = ((24, 28), (48, 14), (48, 28), (96, 14), (116, 14))


def backward() -> Rows:
    """Measure gradients of input and filters, and of the scores."""
    options = replace(ONE_LAYOUT, layout="channels_last", which="backward")
    for batch, bar in ((1, 1.0), (32, 1.75)):
        found = {}
        for channels, size in STEPS:
            spec = spec_of(channels, channels, size)
            candidates = operator(spec, batch, options, guide_gradient=False)
            found[name_of(spec, batch)] = ratio(candidates["native channels_last"])
        yield Row(f"backward of input and filters, batch {batch}", bar, True, found)
    peak, found = measure_peaks(CPU, torch.float32).flops, {}
    for batch in (1, 32):
        for channels, size in STEPS:
            spec = spec_of(channels, channels, size)
            found[name_of(spec, batch)] = products_share(spec, batch, peak)
    wide = {name: share for name, share in found.items() if not name.startswith("24")}
    yield Row("gradient of the scores, share of FMA peak, C >= 48", 0.7, False, wide)
    rest = {name: share for name, share in found.items() if name.startswith("24")}
    yield Row("gradient of the scores, share of FMA peak, C = 24", 0.5, False, rest)


def products_share(spec: LayerSpec, batch: int, peak: float) -> float:
    """Return how near the kernel behind the gradient of the scores comes to the peak."""
    call = layer_problem(spec, batch=batch, scope="operator", maps="blocky", filter_order="out-innermost")
    x, filters, scores, _ = call.operands
    x = x.contiguous(memory_format=torch.channels_last)
    problem = replace(call.problem, memory_format=torch.channels_last)
    grad = torch.randn(batch, spec.out_channels, *spec.size).contiguous(memory_format=torch.channels_last)
    mask = scores.argmax(1).to(torch.int32)
    run = partial(BACKENDS["native"].backward(), problem, grad, x, filters, mask, (False, False, True))
    timing = time_interleaved({"products": Candidate(run, primed=True)}, QUICK, CPU)["products"]
    return 2 * M * problem.madds / timing.median / peak


def steps() -> Rows:
    """Measure the operator's training step, batch 32."""
    options = replace(ONE_LAYOUT, layout="channels_last", which="step", naive=True, stop=SLOW)
    over_conv, over_naive = {}, {}
    for channels, size in (*STEPS, (96, 7), (232, 7)):
        spec = spec_of(channels, channels, size)
        native = operator(spec, 32, options)["native channels_last"]
        over_conv[name_of(spec, 32)] = ratio(native)
        over_naive[name_of(spec, 32)] = native.to_naive.median
    large = {name_of(spec_of(c, c, size), 32) for c, size in STEPS}
    for case, bar, found in (("nn.Conv2d", 4.5, over_conv), ("naive", 0.25, over_naive)):
        yield Row(
            f"training step, batch 32, P >= 196, over {case}", bar, True, {n: v for n, v in found.items() if n in large}
        )
        yield Row(f"training step, batch 32, 7x7, over {case}", None, True,
                  {n: v for n, v in found.items() if n not in large})  # fmt: skip


def naive() -> Rows:
    """Measure how much faster this is than applying all filters."""
    options = replace(ONE_LAYOUT, layout="channels_last", naive=True, stop=SLOW)
    for case, bar, shapes in (
        ("1x1, ShuffleNetV2", 10, ((24, 24, 28), (48, 48, 14), (96, 96, 7), (96, 96, 14), (116, 116, 14))),
        ("3x3 and MobileNetV2", 7, ((64, 64, 28, 3), (384, 64, 14), (32, 192, 28))),
    ):
        found = {}
        for shape in shapes:
            spec = spec_of(*shape)
            found[name_of(spec, 32)] = 1 / operator(spec, 32, options)["native channels_last"].to_naive.median
        yield Row(f"naive over native, batch 32, {case}", bar, False, found)


def per_call() -> Rows:
    """Measure what a call adds to one of `nn.Conv2d` that has nothing to compute."""
    spec = parse_layer("in=4,out=4,size=1,regions=8")
    found = operator(spec, 1, ONE_LAYOUT, maps="single")
    conv = min(c.timing.median for label, c in found.items() if label.startswith("conv2d"))
    added = 1e6 * (found["native NCHW"].timing.median - conv)
    yield Row("microseconds that a call adds, inference mode", 5, True, {"4->4 @ 1": added})
    call = layer_problem(spec, scope="operator", maps="single")
    ours = operator_calls(call, "NCHW", ["native"], "step")["native"].call
    leaf, conv2d = call.args[0].clone().requires_grad_(), nn.Conv2d(4, 4, 1, bias=False)
    timings = race({"ours": ours, "conv": partial(conv2d, leaf)}, torch.enable_grad())
    added = 1e6 * (timings["ours"].median - timings["conv"].median)
    yield Row("microseconds that a call adds, recording gradients", 20, True, {"4->4 @ 1": added})


def modules() -> Rows:
    """Measure the whole layer in inference: batch 1, and small maps at batch 32."""
    found = {}
    for channels, size in ((24, 28), (48, 14), (96, 7)):
        spec = spec_of(channels, channels, size)
        candidates = repeated(spec, replace(ONE_LAYOUT, layout="channels_last"), maps="blocky")
        found[name_of(spec, 1)] = 1e6 * candidates["native channels_last"].timing.median
    yield Row("module, batch 1, microseconds", 60, True, found)
    options = replace(ONE_LAYOUT, layout="channels_last", stop=SLOW)
    peak, shares = measure_peaks(CPU, torch.float32).flops, {}
    for channels, out, size, all_bar, half_bar in (
        (96, 96, 7, 2.35, 1.7), (232, 232, 7, 2.65, 1.8), (960, 160, 7, 3.2, 2.25), (96, 96, 14, 1.75, 1.6),
        (116, 116, 14, 1.6, 1.45),
    ):  # fmt: skip
        spec = spec_of(channels, out, size)
        for case, bar, occurring in (("all", all_bar, None), ("half of the", half_bar, M // 2)):
            native = repeated(spec, options, batch=32, maps="uniform", occurring=occurring)["native channels_last"]
            yield Row(f"module, batch 32, {case} regions, {name_of(spec, 32)}", bar, True, {"": ratio(native)})
            if occurring is None:
                positions = size * size
                # Convolution, filters of the regions, which all occur, and guide, in the convolution's multiply-adds.
                floor = 1 + M * M / positions + M / out
                madds = 32 * positions * channels * out
                shares[name_of(spec, 32)] = 2 * floor * madds / native.timing.median / peak
    yield Row("module, batch 32, all regions, share of FMA peak", 0.65, False, shares)


def network(**keywords: Any) -> nn.Module:
    """Return ShuffleNetV2 x0.5 with both 1x1 convolutions of each block dynamic, in eval mode, regions as in use."""
    torch.manual_seed(0)
    model = create_model("drconv_shufflenet_v2_x0_5", placement="both", **keywords)
    calibrate_batch_norm(model, torch.randn(4, 3, 224, 224))
    return model.eval()


def networks() -> Rows:
    """Measure whole networks in inference against the plain one, and against the plain one with BatchNorm folded."""
    torch.manual_seed(0)
    plain = create_model("shufflenet_v2_x0_5").eval()
    ours = network()
    folded, optimized = fold_batch_norm(plain), optimize_for_inference(ours)
    fresh = create_model("drconv_shufflenet_v2_x0_5", placement="both").eval()
    madds = count_flops(ours).madds / count_flops(plain).madds
    yield Row("network, multiply-adds over plain, every region occurring", None, True, {"": madds})
    bars = {1: (1.25, 1.35), 32: (1.35, 1.35)}
    for batch, (eager_bar, folded_bar) in bars.items():
        image = torch.randn(batch, 3, 224, 224)
        calls: dict[str, Callable[[], object]] = {}
        for layout, form in LAYOUTS.items():
            models = {"plain": plain, "ours": ours, "folded": folded, "optimized": optimized, "fresh": fresh}
            x = image.contiguous(memory_format=form)
            for name, model in models.items():
                calls[f"{name} {layout}"] = partial(deepcopy(model).to(memory_format=form), x)
        timings = race(calls)
        for layout in LAYOUTS:
            over = timings[f"ours {layout}"].ratio_to(timings[f"plain {layout}"]).median
            yield Row(f"network, inference, batch {batch}, over plain eager, {layout}", eager_bar, True, {"": over})
        over = timings["optimized channels_last"].ratio_to(timings["folded channels_last"]).median
        case = f"network, inference, batch {batch}, optimize_for_inference over BatchNorm-folded plain"
        yield Row(f"{case}, channels_last", folded_bar, True, {"": over})
        over = timings["fresh channels_last"].ratio_to(timings["plain channels_last"]).median
        few = f"{occurring(fresh, image):.1f} of {M} regions occurring instead of {occurring(ours, image):.1f}"
        yield Row(f"network, inference, batch {batch}, over plain eager, channels_last, {few}", None, True, {"": over})
        over = timings["optimized NCHW"].ratio_to(timings["folded NCHW"]).median
        yield Row(f"{case}, NCHW", None, True, {"": over})
        for name in ("plain", "folded", "ours", "optimized"):
            milliseconds = 1e3 * timings[f"{name} channels_last"].median
            yield Row(f"network, inference, batch {batch}, milliseconds, {name}, channels_last", None, True,
                      {"": milliseconds})  # fmt: skip


def occurring(model: nn.Module, images: torch.Tensor) -> float:
    """Return how many regions occur in a sample of a layer, on average."""
    with torch.no_grad(), record_regions(model) as recording:
        model(images)
    counts = [len(mask.unique()) for layer in recording.layers for mask in layer.guided_mask]
    return sum(counts) / len(counts)


def compiled() -> Rows:
    """Measure `torch.compile` with freezing beside ours, without a bar; takes a minute and needs a C++ compiler."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    torch.manual_seed(0)
    plain = create_model("shufflenet_v2_x0_5").eval()
    optimized = optimize_for_inference(network())
    for batch in (1, 32):
        x = torch.randn(batch, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        models = [deepcopy(m).to(memory_format=torch.channels_last) for m in (plain, optimized)]
        with torch.no_grad():
            frozen = torch.compile(models[0])
            frozen(x)
            calls = {"frozen": partial(frozen, x), "ours": partial(models[1], x)}
            timings = race(calls, torch.no_grad())
        over = timings["ours"].ratio_to(timings["frozen"]).median
        case = f"network, inference, batch {batch}, optimize_for_inference over torch.compile of plain, frozen"
        yield Row(case, None, True, {"": over})


def race(calls: Mapping[str, Callable[[], object]], mode: Any = None) -> dict[str, Timing]:
    """Time calls against each other."""
    stop = StopRule(target_noise=0.015, max_time=12, min_rounds=9, warmup=2)
    with mode or torch.inference_mode():
        return time_interleaved({name: Candidate(call, primed=True) for name, call in calls.items()}, stop, CPU)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of a network with every BatchNorm that follows a convolution folded into it by PyTorch."""
    copy = deepcopy(model)
    for parent in copy.modules():
        children = list(parent.named_children())
        for (name, conv), (other, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, other, nn.Identity())
    left = sum(isinstance(module, nn.BatchNorm2d) for module in copy.modules())
    with torch.inference_mode():
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(copy(x), model(x), rtol=1e-3, atol=1e-4)
    if left:
        raise SystemExit(f"{left} BatchNorm were not folded")
    return copy


def training() -> Rows:
    """Measure time and peak memory of a network's training step, batch 32."""
    stop = StopRule(rounds=5, warmup=1)
    options = ProfileOptions(("native",), which="step", stop=stop, layers=False, roofline=False)
    found = timed(profile_model(network(), torch.randn(32, 3, 224, 224), options))
    plain = found["conv2d NCHW"]
    case = "training step of the network, batch 32, NCHW"
    for name, bar in (("native", 1.5), ("naive", None)):
        memory = found[f"{name} NCHW"].peak_memory / plain.peak_memory
        yield Row(f"{case}, peak memory, {name} over plain", bar, True, {"": memory})
        time = found[f"{name} NCHW"].timing.ratio_to(plain.timing).median
        yield Row(f"{case}, time, {name} over plain", None, True, {"": time})


PARTS: dict[str, Callable[[], Rows]] = {
    "forward": forward, "small_operators": small_operators, "maps_and_orders": maps_and_orders, "backward": backward,
    "steps": steps, "naive": naive, "per_call": per_call, "modules": modules, "networks": networks,
    "training": training, "compiled": compiled,
}  # fmt: skip


def environment(seconds: float, load_before: Sequence[float]) -> dict[str, Any]:
    """Return where and how a part was measured."""
    peaks = asdict(measure_peaks(CPU, torch.float32))
    return {**stamp(CPU), "peaks": peaks, "load_before": list(load_before), "seconds": round(seconds, 1)}


def main() -> None:
    """Measure the parts, write them, and print the table of all parts in the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, with commas between; all but compiled without it", default="")
    parser.add_argument("--output", type=Path, help="JSON; parts that are in it already are kept")
    parser.add_argument("--show", action="store_true", help="print the table of --output, and measure nothing")
    options = parser.parse_args()
    done: dict[str, Any] = {}
    if options.output and options.output.exists():
        done = json.loads(options.output.read_text())
    asked = [name for name in options.only.split(",") if name] or [name for name in PARTS if name != "compiled"]
    for name in () if options.show else asked:
        load, start = os.getloadavg(), perf_counter()
        rows = []
        for row in PARTS[name]():
            rows.append(row)
            print(row.line(), {k: round(v, 3) for k, v in row.measured.items() if k}, flush=True)
        done[name] = {
            "environment": environment(perf_counter() - start, load),
            "rows": [{**asdict(row), "met": row.is_met} for row in rows],
        }
        if options.output:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(done, indent=1) + "\n")
    print("\n| case | bar | measured | |\n|---|---|---:|---|")
    for part in done.values():
        for row in part["rows"]:
            print(Row(row["case"], row["bar"], row["at_most"], row["measured"]).line())
    where = [part["environment"] for part in done.values()]
    flops = median(w["peaks"]["flops"] for w in where)
    loads = sorted(w["load_before"][0] for w in where)
    print(
        f"\n{where[0]['cpu']} ({where[0]['native_isa']}), {where[0]['threads']} threads, torch {where[0]['torch']}; "
        f"peak {flops / 1e9:.0f} GFLOP/s; load average before the parts {loads[0]:.1f}-{loads[-1]:.1f}; "
        f"{sum(w['seconds'] for w in where):.0f} s in all."
    )


if __name__ == "__main__":
    main()
