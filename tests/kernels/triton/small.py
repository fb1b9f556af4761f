"""Problems for the GPU kernels, smaller than those of the other backends: the interpreter takes a second for a few."""

from dataclasses import replace

import torch

from drconv.kernels import BACKENDS, RegionConvProblem
from tests.kernels.cases import Case, Problem
from tests.kernels.pixel_loop import Answer

POINTWISE = Case("pointwise", channels=5, out_channels=3, size=(4, 5), kernel=(1, 1), padding=(0, 0))
SMALL = Case("3x3", channels=3, out_channels=2, size=(4, 3))
DEPTHWISE = Case("depthwise", channels=5, out_channels=5, groups=5, size=(4, 5))

CASES = [
    POINTWISE,
    replace(POINTWISE, name="pointwise-blocks", channels=37, out_channels=70, batch=1),
    replace(POINTWISE, name="pointwise-eight", regions=8, batch=3),
    replace(POINTWISE, name="pointwise-17-regions", regions=17, batch=1),
    replace(POINTWISE, name="pointwise-tiles", size=(9, 9), regions=2, layout="channels_last"),
    replace(POINTWISE, name="pointwise-padded", padding=(1, 0), stride=(2, 1)),
    replace(POINTWISE, name="pointwise-groups", channels=4, out_channels=6, groups=2),
    replace(POINTWISE, name="pointwise-half-of-channels", layout="half-of-channels", regions=1),
    replace(POINTWISE, name="pointwise-shared", shared=True, regions=4, batch=3),
    replace(POINTWISE, name="pointwise-one-pixel", size=(1, 1), batch=3),
    replace(POINTWISE, name="pointwise-one-channel", channels=1, out_channels=1),
    replace(POINTWISE, name="pointwise-ties", guide="ties"),
    replace(POINTWISE, name="pointwise-nan", guide="nan", regions=8),
    replace(POINTWISE, name="pointwise-empty-region", guide="empty-region"),
    SMALL,
    replace(SMALL, name="3x3-one-region", regions=1, layout="channels_last"),
    replace(SMALL, name="3x2-stride-dilation", kernel=(3, 2), size=(7, 6), stride=(2, 3), dilation=(1, 2), batch=1),
    replace(SMALL, name="2x1-groups", kernel=(2, 1), padding=(0, 1), channels=4, groups=2, batch=1),
    replace(SMALL, name="3x3-shared", shared=True, layout="expanded-batch"),
    replace(SMALL, name="3x3-every-second-row", layout="every-second-row", batch=1),
    DEPTHWISE,
    replace(DEPTHWISE, name="depthwise-strided", stride=(2, 1), dilation=(1, 2), regions=8, layout="channels_last"),
    replace(DEPTHWISE, name="depthwise-shared", shared=True, kernel=(3, 2), batch=3),
    replace(DEPTHWISE, name="depthwise-multiplier", out_channels=10, kernel=(1, 2), batch=1),
]
IDS = [case.name for case in CASES]


def case(name: str) -> Case:
    return CASES[IDS.index(name)]


def leaves(problem: Problem, device: torch.device) -> list[torch.Tensor]:
    """Return input, filters, scores and bias on the device, in their strides."""
    tensors = (problem.input, problem.region_filters, problem.guided_feature, problem.bias)
    return [t.detach().to(device).requires_grad_() for t in tensors]


def call(problem: Problem) -> RegionConvProblem:
    """Return what a backend is told of a problem."""
    c = problem.case
    settings = (c.output_size, c.stride, c.padding, c.dilation, c.groups)
    return RegionConvProblem.of(problem.input, problem.region_filters, *settings)


def run(problem: Problem, device: torch.device, backend: str = "triton") -> Answer:
    """Return output and gradients of the operator."""
    from drconv.ops import region_conv2d

    tensors = leaves(problem, device)
    output = region_conv2d(*tensors, **problem.settings, backend=backend)
    output.backward(problem.grad_output.to(device))
    return Answer(*(t.cpu() for t in (output.detach(), *(leaf.grad for leaf in tensors))))


ROW = BACKENDS["triton"]
