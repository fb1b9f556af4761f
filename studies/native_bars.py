"""Time the compiled CPU kernels against the bars of docs/backends.md, and print its Markdown tables.

Candidates are interleaved, on noise; forward results are checked against `reference` first. 1.0 is `nn.Conv2d` in the
faster of its two layouts. The mask and the filters are given, the filters in the order that the kernels read without
packing (`[B, M, K, K, C, O]` in memory) unless the case says otherwise; the rows of per-call costs time the public
function.
Run from the repository root on a quiet machine: `python studies/native_bars.py`.
"""

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drconv import region_conv2d
from drconv.analysis import environment
from drconv.analysis.timing import Candidate, StopRule, Timing, time_interleaved
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.kernels.native import library

NUM_REGIONS = 8
TOLERANCE = 1e-5
"""Largest deviation from `reference`, over the largest value of it."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shape:
    """A convolution that keeps the map's size."""

    batch: int
    channels: int
    out_channels: int
    size: int
    kernel_size: int = 1
    groups: int = 1

    def __str__(self) -> str:
        kind = "depthwise " if self.groups > 1 else ""
        sizes = f"{self.channels}->{self.out_channels} @ {self.size}x{self.size}"
        return f"{kind}{self.kernel_size}x{self.kernel_size}, {sizes}, batch {self.batch}"

    @property
    def madds(self) -> int:
        """Multiply-adds of one filter per position."""
        per_position = self.out_channels * self.channels // self.groups * self.kernel_size**2
        return self.batch * self.size**2 * per_position

    @property
    def filter_bytes(self) -> int:
        """Bytes of all regions' filters."""
        return 4 * self.batch * NUM_REGIONS * self.out_channels * self.channels // self.groups * self.kernel_size**2


@dataclass(frozen=True)
class Problem:
    """Tensors of a shape, in both layouts."""

    shape: Shape
    inputs: Mapping[str, Tensor]
    grads: Mapping[str, Tensor]
    filters: Tensor
    mask: Tensor

    def of(self, layout: str) -> RegionConvProblem:
        """Return the sizes as a backend sees them."""
        shape, pad = self.shape, self.shape.kernel_size // 2
        size = (shape.size, shape.size)
        return RegionConvProblem.of(self.inputs[layout], self.filters, size, (1, 1), (pad, pad), (1, 1), shape.groups)


LAYOUTS = {"channels_last": torch.channels_last, "NCHW": torch.contiguous_format}
S, M = "ShuffleNetV2", "MobileNetV2"
FORWARD = (
    # name, shapes, bars of channels_last and NCHW
    (f"1x1, batch 1, {S}", ((24, 24, 28), (48, 48, 14), (96, 96, 7), (24, 24, 56), (48, 48, 28), (96, 96, 14),
                            (58, 58, 28), (116, 116, 14), (232, 232, 7)), 1, 0.9, 1.15),
    (f"1x1, batch 1, {M}", ((16, 96, 112), (24, 144, 56), (32, 192, 28), (64, 384, 14), (384, 64, 14),
                            (960, 160, 7)), 1, 1.1, 1.6),
    ("1x1, batch 32, square", ((48, 48, 14), (48, 48, 28), (96, 96, 14), (58, 58, 28), (116, 116, 14)), 32, 1.25, 1.45),
    ("1x1, batch 32, expanding", ((24, 144, 56), (32, 192, 28), (64, 384, 14)), 32, 1.6, 1.9),
    ("1x1, batch 32, projecting", ((384, 64, 14),), 32, 1.3, 1.7),
    ("1x1, batch 32, C = 24", ((24, 24, 28),), 32, 1.1, 1.3),
    ("1x1, batch 32, C = 24, large", ((24, 24, 56),), 32, 1.5, 1.6),
    ("1x1, large image", ((64, 64, 256),), 1, 1.25, 2.1),
)  # fmt: skip


def make(shape: Shape, mask: str) -> Problem:
    """Draw tensors; regions are smooth blobs or random per position."""
    torch.manual_seed(0)
    x = torch.randn(shape.batch, shape.channels, shape.size, shape.size)
    grad = torch.randn(shape.batch, shape.out_channels, shape.size, shape.size)
    k, into = shape.kernel_size, shape.channels // shape.groups
    filters = torch.randn(shape.batch, NUM_REGIONS, k, k, into, shape.out_channels).permute(0, 1, 5, 4, 2, 3)
    scores = torch.randn(shape.batch, NUM_REGIONS, *((shape.size,) * 2 if mask == "random" else (4, 4)))
    scores = scores if mask == "random" else F.interpolate(scores, size=(shape.size,) * 2, mode="bicubic")
    both = ({n: t.contiguous(memory_format=f) for n, f in LAYOUTS.items()} for t in (x, grad))
    return Problem(shape, *both, filters, scores.argmax(1).to(torch.int32))


def convolutions(problem: Problem) -> dict[str, Callable[[], Tensor]]:
    """Return `nn.Conv2d` in both layouts."""
    s = problem.shape
    calls = {}
    for layout, form in LAYOUTS.items():
        conv = nn.Conv2d(
            s.channels, s.out_channels, s.kernel_size, padding=s.kernel_size // 2, groups=s.groups, bias=False
        )
        calls[f"conv {layout}"] = partial(conv.to(memory_format=form), problem.inputs[layout])
    return calls


def native(problem: Problem, layout: str, filters: Tensor | None = None) -> Callable[[], Tensor]:
    """Return the forward pass of the compiled kernels."""
    forward = BACKENDS["native"].forward()
    w = problem.filters if filters is None else filters
    return partial(forward, problem.of(layout), problem.inputs[layout], w, problem.mask)


def check(problem: Problem, layout: str, output: Tensor) -> None:
    """Stop if a result is wrong; a few samples tell."""
    few = slice(0, 2)
    reference = BACKENDS["reference"].forward()
    part = replace(problem.of(layout), batch=min(2, problem.shape.batch))
    truth = reference(part, problem.inputs[layout][few], problem.filters[few], problem.mask[few].long())
    error = float((output[few] - truth).abs().max() / truth.abs().max())
    if not error <= TOLERANCE:
        raise SystemExit(f"native differs from reference by {error:.1e} on {problem.shape}")


def best(timings: Mapping[str, Timing]) -> Timing:
    """Return the convolution in its faster layout."""
    return min((t for name, t in timings.items() if name.startswith("conv ")), key=lambda t: t.median)


class Study:
    """Everything measured, as rows for the page and as numbers for the file."""

    def __init__(self, rounds: int) -> None:
        self.stop = StopRule(rounds=rounds, sample_time=0)
        self.rows: list[str] = []
        self.results: list[dict[str, object]] = []

    def time(self, calls: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        """Time calls against each other."""
        return time_interleaved({name: Candidate(call) for name, call in calls.items()}, self.stop, CPU)

    def note(
        self, case: str, bar: float, ratios: Sequence[float], details: Mapping[str, float], most: bool = True
    ) -> None:
        """Hold the worst of some ratios against a bar."""
        worst = max(ratios) if most else min(ratios)
        met = worst <= bar if most else worst >= bar
        sign = "<=" if most else ">="
        span = f"{min(ratios):.2f}" if len(ratios) == 1 else f"{min(ratios):.2f}-{max(ratios):.2f}"
        self.rows.append(f"| {case} | {sign} {bar:g} | {span} | {'met' if met else '**missed**'} |")
        self.results.append({"case": case, "bar": bar, "at_most": most, "ratios": dict(details)})
        print(self.rows[-1], {name: round(ratio, 2) for name, ratio in details.items()}, flush=True)

    def forward(self, name: str, shapes: Sequence[Shape], bars: tuple[float, float], mask: str = "smooth") -> None:
        """Measure forward passes over the best convolution, in both layouts."""
        found: dict[str, dict[str, float]] = {layout: {} for layout in LAYOUTS}
        for shape in shapes:
            problem = make(shape, mask)
            calls = convolutions(problem) | {layout: native(problem, layout) for layout in LAYOUTS}
            with torch.inference_mode():
                for layout in LAYOUTS:
                    check(problem, layout, calls[layout]())
                timings = self.time(calls)
            for layout in LAYOUTS:
                found[layout][str(shape)] = timings[layout].ratio_to(best(timings)).median
        for layout, bar in zip(LAYOUTS, bars, strict=True):
            self.note(f"forward {name}, {layout}", bar, list(found[layout].values()), found[layout])

    def small_maps(self, bandwidth: float) -> None:
        """Measure where the filters outweigh the map."""
        found = {}
        for channels, out_channels in ((96, 96), (232, 232), (960, 160)):
            shape = Shape(32, channels, out_channels, 7)
            problem = make(shape, "smooth")
            calls = convolutions(problem) | {"native": native(problem, "channels_last")}
            with torch.inference_mode():
                timings = self.time(calls)
            floor = max(best(timings).median, shape.filter_bytes / bandwidth)
            found[str(shape)] = timings["native"].median / floor
        self.note("forward 1x1 at 7x7, over max(conv, filter bytes / bandwidth)", 1.4, list(found.values()), found)

    def masks(self) -> None:
        """Measure what scattered regions cost."""
        found = {}
        for shape in (Shape(1, 48, 48, 28), Shape(1, 96, 96, 14), Shape(32, 48, 48, 14), Shape(32, 96, 96, 7)):
            calls = {mask: native(make(shape, mask), "channels_last") for mask in ("smooth", "random")}
            with torch.inference_mode():
                timings = self.time(calls)
            found[str(shape)] = timings["random"].ratio_to(timings["smooth"]).median
        self.note("random over smooth regions", 1.1, list(found.values()), found)

    def user_order(self) -> None:
        """Measure what packing the filters adds."""
        found = {}
        for shape in (Shape(1, 24, 24, 28), Shape(1, 48, 48, 28), Shape(32, 48, 48, 28), Shape(32, 24, 24, 28)):
            problem = make(shape, "smooth")
            calls = convolutions(problem) | {
                "native": native(problem, "channels_last"),
                "packed": native(problem, "channels_last", problem.filters.contiguous()),
            }
            with torch.inference_mode():
                timings = self.time(calls)
            found[str(shape)] = (
                timings["packed"].ratio_to(best(timings)).median - timings["native"].ratio_to(best(timings)).median
            )
        self.note("filters in PyTorch's order, P >= 784: added", 0.25, list(found.values()), found)

    def backward(self, peak: float) -> None:
        """Measure the gradients, each apart, and whole training steps."""
        gradients, guide, step, over_naive = ({}, {}), {}, {}, {}
        sizes = ((24, 28), (48, 14), (48, 28), (96, 14), (116, 14))
        for batch in (1, 32):
            for channels, size in sizes:
                shape = Shape(batch, channels, channels, size)
                problem = make(shape, "smooth")
                calls = self._training(problem, "channels_last")
                timings = self.time(calls)
                conv = best({n: t for n, t in timings.items() if n.endswith("backward")})
                gradients[batch > 1][str(shape)] = timings["native x+W"].ratio_to(conv).median
                guide[str(shape)] = 2 * NUM_REGIONS * shape.madds / timings["native guide"].median / peak
                if batch > 1:
                    whole = best({n: t for n, t in timings.items() if n.endswith("step")})
                    step[str(shape)] = timings["native step"].ratio_to(whole).median
                    over_naive[str(shape)] = timings["native step"].ratio_to(timings["naive step"]).median
        self.note("backward of input and filters, batch 1", 1.0, list(gradients[0].values()), gradients[0])
        self.note("backward of input and filters, batch 32", 1.75, list(gradients[1].values()), gradients[1])
        self.note("guide products, share of FMA peak", 0.5, list(guide.values()), guide, most=False)
        self.note("training step, batch 32, P >= 196, over nn.Conv2d", 4.5, list(step.values()), step)
        self.note("training step, batch 32, P >= 196, over naive", 0.25, list(over_naive.values()), over_naive)

    def _training(self, problem: Problem, layout: str) -> dict[str, Callable[[], object]]:
        s, x, grad = problem.shape, problem.inputs[layout], problem.grads[layout]
        backward, p, filters = BACKENDS["native"].backward(), problem.of(layout), problem.filters.contiguous()
        guide = F.one_hot(problem.mask.long(), NUM_REGIONS).permute(0, 3, 1, 2).float()
        calls: dict[str, Callable[[], object]] = {}
        for name in LAYOUTS:
            weight = torch.randn(s.out_channels, s.channels, 1, 1).contiguous(memory_format=LAYOUTS[name])
            of_conv = ([0], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [True, True, False])
            calls[f"conv {name} backward"] = partial(
                torch.ops.aten.convolution_backward, problem.grads[name], problem.inputs[name], weight, *of_conv
            )
            leaves = (problem.inputs[name].detach().requires_grad_(), weight.requires_grad_())
            calls[f"conv {name} step"] = partial(_step, partial(F.conv2d, *leaves), leaves, problem.grads[name])
        mask = problem.mask
        calls["native x+W"] = partial(backward, p, grad, x, filters, mask, (True, True, False))
        calls["native guide"] = partial(backward, p, grad, x, filters, mask, (False, False, True))
        if s.batch > 1:
            ours = tuple(t.detach().requires_grad_() for t in (x, filters, guide))
            for name in ("native", "naive"):
                calls[f"{name} step"] = partial(_step, partial(region_conv2d, *ours, backend=name), ours, grad)
        return calls

    def naive(self) -> None:
        """Measure how much faster this is than applying all filters."""
        for name, bar, shapes in (
            ("1x1, ShuffleNetV2", 10, (Shape(32, 24, 24, 28), Shape(32, 48, 48, 14), Shape(32, 96, 96, 7))),
            ("3x3 and MobileNetV2", 7, (Shape(32, 64, 64, 28, 3), Shape(32, 384, 64, 14), Shape(32, 32, 192, 28))),
        ):
            found = {}
            for shape in shapes:
                problem = make(shape, "smooth")
                x, mask = problem.inputs["NCHW"], problem.mask.long()
                every = partial(BACKENDS["naive"].forward(), problem.of("NCHW"), x, problem.filters.contiguous(), mask)
                with torch.inference_mode():
                    timings = self.time({"native": native(problem, "NCHW"), "naive": every})
                found[str(shape)] = timings["naive"].ratio_to(timings["native"]).median
            self.note(f"naive over native, batch 32, {name}", bar, list(found.values()), found, most=False)

    def per_call(self) -> None:
        """Measure what a call costs that has nothing to compute."""
        x, filters, guide = torch.randn(1, 4, 1, 1), torch.randn(1, 8, 4, 4, 1, 1), torch.randn(1, 8, 1, 1)
        conv = nn.Conv2d(4, 4, 1, bias=False)
        leaves = [t.clone().requires_grad_() for t in (x, filters, guide)]
        stop, self.stop = self.stop, StopRule(rounds=2000)
        with torch.inference_mode():
            off = self.time({"conv": partial(conv, x), "native": partial(region_conv2d, x, filters, guide)})
        on = self.time({"conv": partial(conv, leaves[0]), "native": partial(region_conv2d, *leaves)})
        self.stop = stop
        for name, bar, timings in (("inference_mode", 5, off), ("recording gradients", 20, on)):
            added = 1e6 * (timings["native"].median - timings["conv"].median)
            self.note(f"microseconds that a call adds to nn.Conv2d's, {name}", bar, [added], {"us": added})


def _step(call: Callable[[], Tensor], leaves: Sequence[Tensor], grad: Tensor) -> object:
    return torch.autograd.grad(call(), leaves, grad)


def peaks() -> tuple[float, float]:
    """Return this machine's own best at FLOP/s (a large product) and at reading bytes/s from memory."""
    a, big = torch.randn(1536, 1536), torch.zeros(1 << 26)
    timings = time_interleaved(
        {"multiply": Candidate(partial(torch.mm, a, a)), "read": Candidate(big.sum)}, StopRule(rounds=9, warmup=2), CPU
    )
    return 2 * 1536**3 / min(timings["multiply"].samples), 4 * big.numel() / min(timings["read"].samples)


def main() -> None:
    """Print one row per bar, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="also write every ratio as JSON")
    options = parser.parse_args()
    study, load_before = Study(options.rounds), os.getloadavg()
    peak, bandwidth = peaks()
    for name, shapes, batch, *bars in FORWARD:
        study.forward(name, [Shape(batch, *shape) for shape in shapes], (bars[0], bars[1]))
    study.small_maps(bandwidth)
    study.masks()
    study.user_order()
    dense = [Shape(1, 64, 64, 56, 3), Shape(1, 128, 128, 28, 3), Shape(32, 64, 64, 28, 3)]
    study.forward("3x3", dense, (1.2, 1.4))
    depthwise = [Shape(batch, 96, 96, 56, 3, groups=96) for batch in (1, 8)]
    study.forward("depthwise 3x3", depthwise, (1.3, 1.1))
    study.backward(peak)
    study.naive()
    study.per_call()
    where = environment("cpu")
    stamp = {
        **where, "native": library.load().isa_name,
        "peak_gflops": round(peak / 1e9), "gbytes": round(bandwidth / 1e9, 1),
        "load_before": load_before, "load_after": os.getloadavg(), "rounds": options.rounds,
    }  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps({"environment": stamp, "results": study.results}, indent=1) + "\n")
    print("\n| case | bar | measured | |\n|---|---|---|---|")
    print("\n".join(study.rows))
    print(f"\n{stamp}")


if __name__ == "__main__":
    main()
