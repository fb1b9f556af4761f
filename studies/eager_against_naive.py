"""Time the `eager` backend against `naive` and against `F.conv2d`, and print the Markdown table of docs/backends.md.

Candidates are interleaved, on noise, after `eager` and `naive` were checked against `reference`. Run from the
repository root: `python studies/eager_against_naive.py`.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from drconv import region_conv2d
from drconv.analysis import environment
from drconv.analysis.timing import Candidate, Timing, time_interleaved

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
    Shape(96, 28, 8, kernel_size=3, groups=96),
)


def main() -> None:
    """Print one row per shape, and where it was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=2)
    options = parser.parse_args()
    print("| convolution | batch | forward: eager | naive | eager/naive | eager/conv2d "
          "| forward and backward: eager | naive | eager/naive |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for shape in SHAPES:
        forward, both = measure(shape, options.rounds, options.warmup)
        cells = (
            *(f"{1e3 * forward[name].median:.2f} ms" for name in ("eager", "naive")),
            *(f"{forward['eager'].ratio_to(forward[name]):.2f}x" for name in ("naive", "conv2d")),
            *(f"{1e3 * both[name].median:.2f} ms" for name in ("eager", "naive")),
            f"{both['eager'].ratio_to(both['naive']):.2f}x",
        )
        print(f"| {shape} | {shape.batch} | {' | '.join(cells)} |", flush=True)
    where = environment("cpu")
    print(
        f"\nMedians over {options.rounds} interleaved rounds; ratios are medians of per-round ratios, below 1 is "
        f"faster. float32, M = {NUM_REGIONS}, regions drawn at random per position. {where['cpu']}, "
        f"{where['cpu_capability']}, {where['threads']} threads, torch {where['torch']}, drconv {where['drconv']}."
    )


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
    plan = {"rounds": rounds, "warmup": warmup, "device": torch.device("cpu")}
    with torch.inference_mode():
        forward = time_interleaved(
            {name: Candidate(call) for name, call in (calls | {"conv2d": plain}).items()}, **plan
        )
    leaves = [tensor.requires_grad_() for tensor in (input, filters, guided_feature)]
    gradient = torch.randn_like(truth)

    def train(call: Callable[[], Tensor]) -> object:
        return torch.autograd.grad(call(), leaves, gradient)

    both = time_interleaved({name: Candidate(partial(train, call)) for name, call in calls.items()}, **plan)
    return forward, both


if __name__ == "__main__":
    main()
