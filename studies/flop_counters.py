"""One small network with a DRConv layer, counted by every counter that is installed.

The layer is spelled twice: as the popular re-implementation has it (all filters in one grouped convolution, then one
of them per position) and as `drconv.DRConv2d`. Prints the Markdown table of docs/counting.md, with versions.

Run from the repository root, with the counters installed beside drconv:

    pip install torchinfo thop ptflops calflops transformers
    python studies/flop_counters.py
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drconv import DRConv2d, count_flops, register_counter

C, O, M, SIDE = 32, 64, 4, 32  # noqa: E741
STEM, HEAD = SIDE * SIDE * 3 * C * 9, O * 10
LAYER = M * M * C + M * M * C * O + SIDE * SIDE * C * (M + O)
TRUTH = STEM + LAYER + HEAD
"""Multiply-adds with one filter per position, by hand."""


class DenseDRConv(nn.Module):
    """DRConv with 1x1 filters as tensors alone: every filter everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(C, M * M, 1)
        self.expand = nn.Conv2d(M * M, M * O * C, 1, groups=M)
        self.guide = nn.Conv2d(C, M, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Select with a one-hot mask."""
        batch, _, height, width = x.shape
        filters = self.expand(self.reduce(F.adaptive_avg_pool2d(x, 1)).sigmoid()).reshape(-1, C, 1, 1)
        outputs = F.conv2d(x.reshape(1, -1, height, width), filters, groups=batch).view(batch, M, O, height, width)
        scores = self.guide(x)
        mask = torch.zeros_like(scores).scatter_(1, scores.argmax(1, keepdim=True), 1)
        return (outputs * mask[:, :, None]).sum(1)


class Toy(nn.Module):
    """Stem, one DRConv layer, classifier; 1x3x32x32 to 10 classes."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, C, 3, padding=1, bias=False), nn.BatchNorm2d(C), nn.ReLU())
        self.layer = layer
        self.fc = nn.Linear(O, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        return self.fc(self.layer(self.stem(x)).mean((2, 3)))


def dense_counter(layer: DenseDRConv, input: tuple[int, ...], output: tuple[int, ...]) -> int:
    """What a user writes once to have the dense layer counted by its definition."""
    batch, _, height, width = output
    return batch * (M * M * C + M * M * C * O + height * width * C * (M + O))


@dataclass(frozen=True)
class Tool:
    """A counter: how it is named, the package it comes from, what it calls its number, and how to ask for it."""

    name: str
    package: str
    unit: str
    count: Callable[[nn.Module, Tensor], Any]


def _fvcore(model: nn.Module, x: Tensor) -> int:
    return int(import_module("fvcore.nn").FlopCountAnalysis(model, x).total())


def _flop_counter_mode(model: nn.Module, x: Tensor) -> int:
    with import_module("torch.utils.flop_counter").FlopCounterMode(display=False) as counter:
        model(x)
    return int(counter.get_total_flops())


def _torchinfo(model: nn.Module, x: Tensor) -> int:
    return int(import_module("torchinfo").summary(model, input_data=x, verbose=0).total_mult_adds)


def _thop(model: nn.Module, x: Tensor) -> int:
    return int(import_module("thop").profile(model, inputs=(x,), verbose=False)[0])


def _ptflops(backend: str) -> Callable[[nn.Module, Tensor], int]:
    def count(model: nn.Module, x: Tensor) -> int:
        ask = import_module("ptflops").get_model_complexity_info
        shape = tuple(x.shape[1:])
        return int(ask(model, shape, False, False, backend=backend, verbose=False)[0])

    return count


def _calflops(model: nn.Module, x: Tensor) -> int:
    ask = import_module("calflops").calculate_flops
    return int(ask(model, input_shape=tuple(x.shape), print_results=False, output_as_string=False)[1])


def _ours(model: nn.Module, x: Tensor) -> int:
    return count_flops(model, tuple(x.shape[1:])).madds


TOOLS = (
    Tool("fvcore alone", "fvcore", "flops (multiply-adds)", _fvcore),
    Tool("torchinfo", "torchinfo", "mult-adds", _torchinfo),
    Tool("thop", "thop", "MACs", _thop),
    Tool("ptflops, aten", "ptflops", "MACs", _ptflops("aten")),
    Tool("ptflops, pytorch", "ptflops", "MACs", _ptflops("pytorch")),
    Tool("calflops", "calflops", "MACs", _calflops),
    Tool("FlopCounterMode", "torch", "FLOPs (2 per multiply-add)", _flop_counter_mode),
    Tool("drconv flops", "drconv", "MAdds", _ours),
)


def measure(tool: Tool, make_layer: Callable[[], nn.Module]) -> str:
    """Return a tool's number and its ratio to the truth, or why there is none."""
    torch.manual_seed(0)
    model = Toy(make_layer()).eval()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = tool.count(model, torch.randn(1, 3, SIDE, SIDE))
    except ImportError as error:
        return f"not installed ({error.name})"
    except Exception as error:
        return f"fails: {type(error).__name__}"
    truth = 2 * TRUTH if "FLOPs" in tool.unit else TRUTH
    return f"{found:,} ({found / truth:.2f} x)"


def main() -> None:
    """Print the table and the versions."""
    logging.disable()
    print(f"Truth by hand: {TRUTH:,} multiply-adds, {LAYER:,} of them in the DRConv layer.\n")
    print("| counter | its unit | all filters everywhere | `drconv.DRConv2d` |")
    print("|---|---|---:|---:|")
    for tool in TOOLS:
        print(f"| {tool.name} | {tool.unit} | {measure(tool, DenseDRConv)} | {measure(tool, _our_layer)} |", flush=True)
    register_counter(DenseDRConv, dense_counter)
    registered = measure(TOOLS[-1], DenseDRConv)
    print(f"| drconv flops, with a registered formula | MAdds | {registered} | {measure(TOOLS[-1], _our_layer)} |")
    print(f"\nVersions: {', '.join(sorted({f'{tool.package} {_version(tool.package)}' for tool in TOOLS}))}.")


def _our_layer() -> nn.Module:
    return DRConv2d(C, O, 1, bias=False, num_regions=M)


def _version(package: str) -> str:
    if package == "drconv":
        return str(import_module("drconv").__version__)
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
