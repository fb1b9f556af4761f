"""Problems for the backend tests: ugly sizes, every setting, and the odd masks."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from drconv.checks import conv_output_size
from drconv.kernels import BACKENDS

# Those that are at home on the CPU; tests/kernels/triton has the GPU's, which run in an interpreter there.
ON_CPU = [name for name, row in BACKENDS.items() if "cpu" not in row.only_named_on]


@dataclass(frozen=True)
class Case:
    name: str
    batch: int = 2
    channels: int = 6
    out_channels: int = 4
    size: tuple[int, int] = (7, 5)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    regions: int = 3
    shared: bool = False
    guide: str = "random"
    layout: str = "contiguous"

    @property
    def output_size(self) -> tuple[int, int]:
        axes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = (conv_output_size(*axis) for axis in axes)
        return height, width


CASES = [
    Case("plain"),
    Case("one-region", regions=1),
    Case("eight-regions", regions=8),
    Case("pointwise", kernel=(1, 1), padding=(0, 0), channels=31, out_channels=13),
    Case("pointwise-eight", kernel=(1, 1), padding=(0, 0), regions=8, batch=3),
    Case("pointwise-padded", kernel=(1, 1), padding=(1, 0), stride=(2, 1)),
    Case("pointwise-same-size", kernel=(1, 1), padding=(1, 1), stride=(2, 2), size=(3, 3)),
    Case("kernel-2", kernel=(2, 2), padding=(1, 0)),
    Case("kernel-5", kernel=(5, 5), padding=(2, 2), regions=8, batch=1),
    Case("kernel-3x1", kernel=(3, 1), padding=(1, 0)),
    Case("stride-2", stride=(2, 2), size=(8, 5)),
    Case("stride-3x2", stride=(3, 2), kernel=(2, 3)),
    Case("dilation-2", dilation=(2, 2), padding=(2, 2)),
    Case("dilation-1x2-stride-2", dilation=(1, 2), stride=(2, 2), regions=8),
    Case("no-padding", padding=(0, 0)),
    Case("groups-2", groups=2, regions=8),
    Case("groups-3-pointwise", groups=3, channels=9, out_channels=12, kernel=(1, 1), padding=(0, 0)),
    Case("depthwise", groups=6, out_channels=6, stride=(2, 1)),
    Case("depthwise-5-dilated", groups=6, out_channels=6, kernel=(5, 5), dilation=(2, 1), padding=(4, 2), regions=8),
    Case("depthwise-shared", groups=6, out_channels=6, shared=True, batch=3),
    Case("depthwise-multiplier", groups=6, out_channels=12),
    Case("shared", shared=True, batch=3),
    Case("shared-pointwise", shared=True, kernel=(1, 1), padding=(0, 0), regions=8),
    Case("empty-region", guide="empty-region"),
    Case("one-region-only", guide="one-region-only", regions=8),
    Case("nan", guide="nan", regions=8),
    Case("ties", guide="ties"),
    Case("one-channel", channels=1, out_channels=1),
    Case("one-pixel", size=(1, 1), kernel=(1, 1), padding=(0, 0), batch=3),
    Case("channels-last", layout="channels_last", stride=(2, 1)),
    Case("channels-last-pointwise", layout="channels_last", kernel=(1, 1), padding=(0, 0), regions=8),
    Case("channels-last-depthwise", layout="channels_last", groups=6, out_channels=6),
    Case("half-of-channels", layout="half-of-channels", kernel=(1, 1), padding=(0, 0)),
    Case("every-second-row", layout="every-second-row"),
    Case("expanded-batch", layout="expanded-batch", groups=2),
]
IDS = [case.name for case in CASES]


@dataclass
class Problem:
    """Tensors of a case; every one a leaf of its own."""

    case: Case
    input: Tensor
    region_filters: Tensor
    guided_feature: Tensor
    bias: Tensor
    grad_output: Tensor

    def to(self, dtype: torch.dtype) -> "Problem":
        names = ("input", "region_filters", "guided_feature", "bias", "grad_output")
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})

    @property
    def settings(self) -> dict[str, object]:
        case = self.case
        return {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}


def make(case: Case, dtype: torch.dtype = torch.float64) -> Problem:
    batch, channels, out, regions = case.batch, case.channels, case.out_channels, case.regions
    sets = () if case.shared else (batch,)
    filters = torch.randn(*sets, regions, out, channels // case.groups, *case.kernel, dtype=torch.float64)
    guide = _guide(case)
    grad = torch.randn(batch, out, *case.output_size, dtype=torch.float64)
    bias = torch.randn(out, dtype=torch.float64)
    return Problem(case, _input(case), filters, guide, bias, grad).to(dtype)


def _input(case: Case) -> Tensor:
    height, width = case.size
    if case.layout == "half-of-channels":
        wide = torch.randn(case.batch, 2 * case.channels, height, width, dtype=torch.float64)
        return wide.contiguous(memory_format=torch.channels_last)[:, case.channels :]
    if case.layout == "every-second-row":
        return torch.randn(case.batch, case.channels, 2 * height, width, dtype=torch.float64)[:, :, ::2]
    if case.layout == "expanded-batch":
        return torch.randn(1, case.channels, height, width, dtype=torch.float64).expand(case.batch, -1, -1, -1)
    x = torch.randn(case.batch, case.channels, height, width, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last) if case.layout == "channels_last" else x


def _guide(case: Case) -> Tensor:
    guide = torch.randn(case.batch, case.regions, *case.output_size, dtype=torch.float64)
    if case.guide == "empty-region":
        guide[:, 1] = -100
    elif case.guide == "one-region-only":
        guide[:, 5] = 100
    elif case.guide == "ties":
        guide = guide.round()
    elif case.guide == "nan":
        guide[0, 3, 1, 2] = torch.nan
        guide[0, 6, 1, 2] = torch.nan
        guide[1, 7, :, 0] = torch.nan
    return guide
