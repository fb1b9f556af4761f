"""Counts of single operators against numbers worked out by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drconv.analysis.flops import count_flops
from drconv.analysis.flops.kinds import KINDS

B, C, H, W = 1, 4, 6, 8
N = C * H * W


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: object) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


CASES = {
    "conv": (lambda x: F.conv2d(x, x.new_ones(5, C, 3, 3), padding=1), H * W * 5 * C * 9, {}),
    "conv-same": (lambda x: F.conv2d(x, x.new_ones(5, C, 3, 3), padding="same"), H * W * 5 * C * 9, {}),
    "conv-bias": (lambda x: F.conv2d(x, x.new_ones(6, 2, 1, 1), x.new_ones(6), groups=2), H * W * 6 * 2,
                  {"bias": 6 * H * W}),
    "conv-transposed": (lambda x: F.conv_transpose2d(x, x.new_ones(C, 3, 2, 2), stride=2), N * 3 * 4, {}),
    "linear": (lambda x: F.linear(x, x.new_ones(3, W), x.new_ones(3)), C * H * W * 3, {"bias": C * H * 3}),
    "addmm": (lambda x: torch.addmm(x.new_ones(7), x.flatten(0, 2), x.new_ones(W, 7)), N * 7, {"bias": C * H * 7}),
    "matmul-broadcast": (lambda x: x @ x.new_ones(W, 3), N * 3, {}),
    "matmul-left": (lambda x: x.new_ones(5, H) @ x, 5 * N, {}),
    "dot": (lambda x: x.flatten() @ x.flatten(), N, {}),
    "bmm": (lambda x: torch.bmm(x[0], x[0].mT), C * H * H * W, {}),
    "baddbmm": (lambda x: torch.baddbmm(x.new_ones(1), x[0], x[0].mT), C * H * H * W, {"bias": C * H * H}),
    "einsum": (lambda x: torch.einsum("bchw,cd->bdhw", x, x.new_ones(C, 5)), N * 5, {}),
    "einsum-elementwise": (lambda x: torch.einsum("bchw,c->bchw", x, x.new_ones(C)), 0, {"elementwise": N}),
    "matrix-vector": (lambda x: x[0, 0] @ x.new_ones(W), H * W, {}),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), 2 * C * H * H * W, {}),
    "batch_norm": (lambda x: F.batch_norm(x, x.new_ones(C), x.new_ones(C), x.new_ones(C), x.new_ones(C)), 0,
                   {"norm": 2 * N}),
    "layer_norm": (lambda x: F.layer_norm(x, (W,), x.new_ones(W), x.new_ones(W)), 0, {"norm": 5 * N}),
    "adaptive_avg_pool": (lambda x: F.adaptive_avg_pool2d(x, 1), 0, {"pool": N}),
    "mean": (lambda x: x.mean((2, 3)), 0, {"pool": N}),
    "max_pool": (lambda x: F.max_pool2d(x, 2), 0, {"pool": N}),
    "avg_pool": (lambda x: F.avg_pool2d(x, (2, 3), 1), 0, {"pool": C * 5 * 6 * 6}),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 0, {"resize": 4 * N}),
    "bilinear": (lambda x: F.interpolate(x, (3, 4), mode="bilinear"), 0, {"resize": 4 * C * 12}),
    "relu": (F.relu, 0, {"activation": N}),
    "relu_": (lambda x: F.relu(x.clone(), inplace=True), 0, {"activation": N}),
    "hardswish": (F.hardswish, 0, {"activation": N}),
    "softmax": (lambda x: x.softmax(1), 0, {"activation": N}),
    "residual": (lambda x: x + x, 0, {"elementwise": N}),
    "reduction": (lambda x: x.sum(1), 0, {"elementwise": N}),
    "shape-arithmetic": (lambda x: x.reshape(x.shape[0] * x.shape[1], x.shape[2] // 2 * 2, -1), 0, {}),
    "moves": (lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2).flip(1).unflatten(1, (2, 2)).contiguous(), 0, {}),
}  # fmt: skip


# These take the batch of one away.
FOR_ONE_IMAGE = ("bmm", "baddbmm", "dot", "matrix-vector")


@pytest.mark.parametrize(
    ("name", "batch_size"), [(name, n) for name in CASES for n in (1, 3) if n == 1 or name not in FOR_ONE_IMAGE]
)
def test_operator(name: str, batch_size: int) -> None:
    function, madds, extras = CASES[name]
    report = count_flops(Call(function), (C, H, W), batch_size=batch_size, include=KINDS)
    assert report.madds == madds
    assert {kind: n for kind, n in report.extras.items() if n} == extras
    assert not report.uncounted
    if madds:
        assert count_flops(Call(function), (C, H, W), batch_size=batch_size, engine="dispatch").madds == madds


def test_what_has_no_formula_is_named_with_its_size() -> None:
    report = count_flops(Call(lambda x: F.conv2d(x, x.new_ones(10, C, 1, 1)).cumsum(1).cumsum(2)), (C, H, W))
    assert report.uncounted == {"cumsum": (2, 2 * 10 * H * W)}
    assert report.uncounted_share == 2 / C
    (note,) = [note for note in report.notes if "lack of a formula" in note]
    assert note == (
        "Not counted, for lack of a formula: cumsum x2 (about 50.00% of the MAdds at one operation per element)."
    )


def test_a_python_function_without_a_formula_is_named() -> None:
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return F.conv2d(x, x.new_ones(C, C, 1, 1))

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return grad

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return Hidden.apply(x * self.weight)

    report = count_flops(Layer(), (C, H, W))
    assert report.uncounted == {"prim::PythonOp.Hidden": (1, N)}
