"""Time the `eager` backend against `naive` and against `F.conv2d`, and print the Markdown table of docs/backends.md.

Candidates are interleaved, on noise, after `eager` and `naive` were checked against `reference`. All of it is repeated
in fresh processes, because some ratios differ from one process to the next by far more than the rounds within one show.
Run from the repository root: `python studies/eager_against_naive.py`.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv import region_conv2d
from drconv.analysis import environment
from drconv.analysis.timing import Candidate, StopRule, Timing, time_interleaved

NUM_REGIONS = 8
TOLERANCE = 1e-4
"""Largest deviation from `reference`, over the largest value of it."""


@dataclass(frozen=True)
class Shape:
    """A convolution of C to C channels that keeps the map's size."""

    channels: int
    size: int
    batch: int
    kernel_size: int = 1
    groups: int = 1

    def __str__(self) -> str:
        kind = "depthwise " if self.groups > 1 else ""
        return f"{kind}{self.kernel_size}x{self.kernel_size}, {self.channels} @ {self.size}x{self.size}"


POINTWISE = ((24, 56), (24, 28), (48, 28), (48, 14), (96, 14), (96, 7))
"""Channels and map size of the right-branch 1x1 convolutions of ShuffleNetV2 x0.5 at 224x224."""

SHAPES = (
    *(Shape(channels, size, batch) for batch in (1, 32) for channels, size in POINTWISE),
    Shape(64, 56, 1, kernel_size=3),
    Shape(32, 16, 16, kernel_size=3),
    Shape(96, 28, 8, kernel_size=3, groups=96),
)


def main() -> None:
    """Print one row per shape, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as fresh:
        tasks = [fresh.submit(measure_all, options.rounds, options.warmup) for _ in range(options.processes)]
        runs = [task.result() for task in tasks]
    print("| convolution | batch | forward: eager | naive | eager/naive | eager/conv2d "
          "| forward and backward: eager | naive | eager/naive |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for shape, repeats in zip(SHAPES, zip(*runs, strict=True), strict=True):
        forward, both = zip(*repeats, strict=True)
        cells = (
            *(_milliseconds(forward, name) for name in ("eager", "naive")),
            *(_ratio(forward, name) for name in ("naive", "conv2d")),
            *(_milliseconds(both, name) for name in ("eager", "naive")),
            _ratio(both, "naive"),
        )
        print(f"| {shape} | {shape.batch} | {' | '.join(cells)} |")
    where = environment("cpu")
    print(
        f"\nMedian of {options.processes} processes, of the medians of {options.rounds} interleaved rounds in each. "
        "Ratios are medians of per-round ratios, below 1 is faster; in brackets the smallest and the largest over the "
        f"processes. float32, M = {NUM_REGIONS}, regions drawn at random per position. {where['cpu']}, "
        f"{where['cpu_capability']}, {where['threads']} threads, torch {where['torch']}, drconv {where['drconv']}."
    )


def _milliseconds(repeats: Sequence[dict[str, Timing]], name: str) -> str:
    return f"{1e3 * median(timings[name].median for timings in repeats):.2f} ms"


def _ratio(repeats: Sequence[dict[str, Timing]], other: str) -> str:
    ratios = [timings["eager"].ratio_to(timings[other]).median for timings in repeats]
    return f"{median(ratios):.2f}x ({min(ratios):.2f}-{max(ratios):.2f})"


def measure_all(rounds: int, warmup: int) -> list[tuple[dict[str, Timing], dict[str, Timing]]]:
    """Measure every shape once, in this process."""
    return [measure(shape, rounds, warmup) for shape in SHAPES]


def measure(shape: Shape, rounds: int, warmup: int) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Return the times of the forward pass, and of forward and backward, by candidate."""
    torch.manual_seed(0)
    in_per_group, kernel = shape.channels // shape.groups, (shape.kernel_size, shape.kernel_size)
    input = torch.randn(shape.batch, shape.channels, shape.size, shape.size)
    filters = torch.randn(shape.batch, NUM_REGIONS, shape.channels, in_per_group, *kernel)
    guided_feature = torch.randn(shape.batch, NUM_REGIONS, shape.size, shape.size)
    settings = {"padding": shape.kernel_size // 2, "groups": shape.groups}

    def with_backend(name: str) -> Callable[[], Tensor]:
        return partial(region_conv2d, input, filters, guided_feature, backend=name, **settings)

    calls = {"eager": with_backend("eager"), "naive": with_backend("naive")}
    with torch.no_grad():
        truth = with_backend("reference")()
        for name, call in calls.items():
            error = float((call() - truth).abs().max() / truth.abs().max())
            if error > TOLERANCE:
                raise SystemExit(f"{name} differs from reference by {error:.1e} on {shape}")

    plain = partial(F.conv2d, input, filters[0, 0], **settings)
    plan = (StopRule(rounds=rounds, warmup=warmup), torch.device("cpu"))
    with torch.inference_mode():
        forward = time_interleaved({name: Candidate(call) for name, call in (calls | {"conv2d": plain}).items()}, *plan)
    leaves = [tensor.requires_grad_() for tensor in (input, filters, guided_feature)]
    gradient = torch.randn_like(truth)

    def train(call: Callable[[], Tensor]) -> object:
        return torch.autograd.grad(call(), leaves, gradient)

    both = time_interleaved({name: Candidate(partial(train, call)) for name, call in calls.items()}, *plan)
    return forward, both


if __name__ == "__main__":
    main()
