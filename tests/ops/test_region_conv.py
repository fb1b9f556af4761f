"""The operator as PyTorch sees it: registration, gradients, compile, export, autocast, errors."""

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.utils.flop_counter import FlopCounterMode

from drconv.errors import ArgumentError, BackendError, DrconvError, UnknownNameError
from drconv.kernels import BACKENDS
from drconv.ops import region_conv2d
from tests.kernels.cases import ON_CPU

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def tensors(batch: int = 2, channels: int = 4, size: int = 7, out: int = 6, **kwargs: object) -> list[Tensor]:
    shapes = ([batch, channels, size, size], [batch, 3, out, channels, 3, 3], [batch, 3, size, size], [out])
    return [torch.randn(*shape, **kwargs) for shape in shapes]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"channels": 1}, {"size": 1}, {"batch": 0}, {"out": 1}, {"channels": 1, "size": 1, "out": 1}],
    ids=str,
)
def test_opcheck(sizes: dict[str, int], layout: str) -> None:
    x, filters, guide, bias = tensors(**sizes)
    x, guide = (t.contiguous(memory_format=LAYOUTS[layout]) for t in (x, guide))
    settings = ([1, 1], [1, 1], [1, 1], 1, None)
    leaves = [t.clone().requires_grad_() for t in (x, filters, guide, bias)]
    opcheck(torch.ops.drconv.region_conv2d.default, (*leaves, *settings))
    opcheck(
        torch.ops.drconv.region_conv2d.default,
        (x, filters[0] if len(filters) else filters.new_zeros(filters.shape[1:]), guide, None, *settings),
    )
    grad = torch.randn(x.shape[0], filters.shape[2], *x.shape[2:])
    for wanted in ([True, True, True], [False, True, False]):
        opcheck(torch.ops.drconv.region_conv2d_backward.default, (grad, x, filters, guide, *settings, wanted))


@pytest.mark.parametrize("backend", [name for name, row in BACKENDS.items() if torch.float64 in row.dtypes])
@pytest.mark.parametrize("shared", [False, True], ids=["per-sample", "shared"])
def test_gradcheck_of_input_filters_and_bias(backend: str, shared: bool) -> None:
    x, filters, guide, bias = tensors(size=5, out=3, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (x, filters[0].clone() if shared else filters, bias)]

    def op(x: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
        return region_conv2d(x, filters, guide, bias, stride=2, padding=1, backend=backend)

    guide = guide[:, :, :3, :3]
    assert torch.autograd.gradcheck(op, leaves)


def test_guide_receives_the_straight_through_gradient() -> None:
    x, filters, guide, bias = (t.requires_grad_() for t in tensors(dtype=torch.float64))
    region_conv2d(x, filters, guide, bias, padding=1).square().sum().backward()
    found = [t.grad.clone() for t in (x, filters, guide, bias)]

    soft = guide.softmax(1)
    hard = torch.nn.functional.one_hot(guide.argmax(1), 3).movedim(-1, 1)
    weights = hard + soft - soft.detach()  # [B, M, U, V]
    every = torch.stack(
        [
            torch.cat([torch.nn.functional.conv2d(x[b : b + 1], filters[b, j], padding=1) for b in range(2)])
            for j in range(3)
        ],
        1,
    )
    output = (weights[:, :, None] * every).sum(1) + bias.view(-1, 1, 1)
    expected = torch.autograd.grad(output.square().sum(), (x, filters, guide, bias))
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.parametrize("backend", ON_CPU)
def test_empty_batch(backend: str) -> None:
    leaves = [t.requires_grad_() for t in tensors(batch=0)]
    output = region_conv2d(*leaves, padding=1, backend=backend)
    assert output.shape == (0, 6, 7, 7)
    output.sum().backward()
    assert all(leaf.grad.shape == leaf.shape for leaf in leaves)
    assert (leaves[3].grad == 0).all()


def test_empty_batch_with_shared_filters_gives_zero_gradient() -> None:
    x, _, guide, _ = tensors(batch=0)
    shared = torch.randn(3, 6, 4, 3, 3, requires_grad=True)
    region_conv2d(x, shared, guide, padding=1).sum().backward()
    assert (shared.grad == 0).all()


def test_second_derivative_is_refused_and_not_silently_zero() -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    (grad,) = torch.autograd.grad(region_conv2d(*leaves, padding=1).sum(), leaves[0], create_graph=True)
    penalty = grad.square().sum() + leaves[0].square().sum()
    with pytest.raises(DrconvError, match="can be differentiated once"):
        penalty.backward()


def test_forward_mode_is_refused_and_not_silently_zero() -> None:
    x, filters, guide, bias = tensors()

    def op(x: Tensor) -> Tensor:
        return region_conv2d(x, filters, guide, bias, padding=1)

    with pytest.raises(DrconvError, match="no forward-mode derivative"):
        torch.func.jvp(op, (x,), (torch.ones_like(x),))


def test_a_graph_of_the_gradient_may_be_kept_for_other_parts() -> None:
    leaves = [t.requires_grad_() for t in tensors()]
    loss = region_conv2d(*leaves, padding=1).sum()
    (grad,) = torch.autograd.grad(loss, leaves[3], create_graph=True)
    assert torch.equal(grad, torch.full((6,), 2.0 * 7 * 7))


def test_meta_device_gives_shape_and_layout() -> None:
    x, filters, guide, bias = (t.to("meta") for t in tensors())
    assert region_conv2d(x, filters, guide, bias, padding=1).shape == (2, 6, 7, 7)
    last = region_conv2d(x.contiguous(memory_format=torch.channels_last), filters, guide, bias, padding=1)
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiles_whole_with_backward() -> None:
    def twice(x: Tensor, filters: Tensor, guide: Tensor, bias: Tensor) -> Tensor:
        first = region_conv2d(x, filters, guide, bias, padding=1).relu()
        return region_conv2d(first, filters.transpose(2, 3), guide, padding=1).sin()

    leaves = [t.requires_grad_() for t in tensors()]
    expected = torch.autograd.grad(twice(*leaves).sum(), leaves)
    compiled = torch.compile(twice, fullgraph=True)
    actual = torch.autograd.grad(compiled(*leaves).sum(), leaves)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-4)


def test_autocast_runs_in_its_dtype_and_keeps_the_guide() -> None:
    x, filters, guide, bias = (t.requires_grad_() for t in tensors())
    guide.data[:, 0], guide.data[:, 1] = 1.0, 1.0001  # the same number in bfloat16
    guide.data[:, 2] = 0
    with torch.autocast("cpu", torch.bfloat16):
        output = region_conv2d(x, filters, guide, bias, padding=1)
    assert output.dtype == torch.bfloat16
    only_second = region_conv2d(x, filters[:, 1:2], guide[:, :1], bias, padding=1)
    torch.testing.assert_close(output.float(), only_second, rtol=3e-2, atol=3e-1)
    output.sum().backward()
    assert {t.grad.dtype for t in (x, filters, guide, bias)} == {torch.float32}


def test_autocast_leaves_float64_alone() -> None:
    leaves = tensors(dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert region_conv2d(*leaves, padding=1).dtype == torch.float64


def test_flop_counter_mode_counts_one_filter_per_position() -> None:
    x, filters, guide, bias = (t.requires_grad_() for t in tensors())
    madds = 2 * 7 * 7 * 6 * 4 * 3 * 3
    with FlopCounterMode(display=False) as counter:
        region_conv2d(x, filters, guide, bias, padding=1).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    assert counts[torch.ops.drconv.region_conv2d] == 2 * madds
    # Input, filters, and all 3 regions for the guide.
    assert counts[torch.ops.drconv.region_conv2d_backward] == 2 * madds * (1 + 1 + 3)


def test_unknown_backend() -> None:
    with pytest.raises(UnknownNameError, match="did you mean naive"):
        region_conv2d(*tensors(), padding=1, backend="naiv")


def test_backend_that_objects() -> None:
    x, filters, guide, bias = (t.to(torch.float8_e4m3fn) for t in tensors())
    with pytest.raises(BackendError, match="'eager' cannot run this call: it takes float32"):
        region_conv2d(x, filters, guide, bias, padding=1, backend="eager")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(4, 7, 7)}, r"input must be \[B, C, H, W\], got \[4, 7, 7\]"),
        ({"input": torch.zeros(2, 5, 7, 7)}, r"must have C/groups \* groups = 4 \* 1 channels"),
        ({"region_filters": torch.zeros(4, 3, 3)}, r"region_filters must be \[B, M, O, C/groups, K, K\]"),
        ({"region_filters": torch.zeros(5, 3, 6, 4, 3, 3)}, "must have the batch size of input"),
        ({"region_filters": torch.zeros(2, 0, 6, 4, 3, 3)}, "no empty axis"),
        ({"region_filters": torch.zeros(2, 3, 6, 4, 3, 3).double()}, "must have the dtype of input"),
        ({"guided_feature": torch.zeros(2, 3, 7)}, r"guided_feature must be \[B, M, U, V\], got"),
        ({"guided_feature": torch.zeros(2, 3, 7, 6)}, r"= \[2, 3, 7, 7\], got \[2, 3, 7, 6\]"),
        ({"guided_feature": torch.zeros(2, 4, 7, 7)}, r"= \[2, 3, 7, 7\], got \[2, 4, 7, 7\]"),
        ({"guided_feature": torch.zeros(2, 3, 7, 7).long()}, "guided_feature must be a floating-point tensor"),
        ({"guided_feature": torch.zeros(2, 3, 7, 7, device="meta")}, "one device, got input on cpu"),
        ({"bias": torch.zeros(5)}, r"bias must be \[6\], got \[5\]"),
        ({"stride": 0}, "stride must be one or two integers of at least 1, got stride=0"),
        ({"padding": -1}, "padding must be one or two integers of at least 0"),
        ({"dilation": (1, 2, 3)}, "dilation must be one or two integers"),
        ({"dilation": 9}, "the kernel must fit into the padded input"),
        ({"groups": 0}, "groups must be an integer of at least 1"),
        ({"groups": 4, "region_filters": torch.zeros(2, 3, 6, 1, 3, 3)}, "out_channels must be divisible by groups"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_not_a_convolution_is_said_so(change: dict[str, object], message: str) -> None:
    names = ("input", "region_filters", "guided_feature", "bias")
    arguments: dict[str, object] = dict(zip(names, tensors(), strict=True)) | {"padding": 1} | change
    with pytest.raises(ArgumentError, match=message):
        region_conv2d(**arguments)
