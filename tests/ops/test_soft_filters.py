"""The filters' gradient in which every position teaches every region, against autograd through weighted outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.layers import DRConv2d
from drconv.ops import region_conv2d

CASES = {
    "3x3": {"padding": 1},
    "strided, dilated": {"stride": 2, "padding": (2, 1), "dilation": (2, 1)},
    "groups": {"padding": 1, "groups": 2},
    "depthwise": {"padding": 1, "groups": 4},
}


def leaves_of(settings: dict[str, object], shared: bool, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    per_group = 4 // settings.get("groups", 1)
    x = torch.randn(2, 4, 7, 6, dtype=dtype)
    filters = torch.randn(*(() if shared else (2,)), 3, 8, per_group, 3, 3, dtype=dtype)
    size = F.conv2d(x, filters.flatten(0, -5)[0] if shared else filters[0, 0], **settings).shape[2:]
    guide, bias = torch.randn(2, 3, *size, dtype=dtype), torch.randn(8, dtype=dtype)
    return [t.requires_grad_() for t in (x, filters, guide, bias)]


@pytest.mark.parametrize("shared", [False, True], ids=["per-sample", "shared"])
@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_every_position_adds_its_probability(settings: dict[str, object], shared: bool) -> None:
    leaves = x, filters, guide, _ = leaves_of(settings, shared)
    output = region_conv2d(*leaves, **settings, soft_filter_gradient=True)
    assert torch.equal(output, region_conv2d(*leaves, **settings))
    weights = torch.randn_like(output)
    found = torch.autograd.grad((output * weights).sum(), leaves)

    def every(sample: int, region: int) -> Tensor:
        return F.conv2d(x[sample : sample + 1], filters[region] if shared else filters[sample, region], **settings)

    convolved = torch.stack([torch.cat([every(b, j) for b in range(2)]) for j in range(3)], 1)
    soft = (guide.softmax(1).detach()[:, :, None] * convolved).sum(1)
    (expected,) = torch.autograd.grad((soft * weights).sum(), filters)
    torch.testing.assert_close(found[1], expected)
    hard = torch.autograd.grad((region_conv2d(*leaves, **settings) * weights).sum(), leaves)
    assert not torch.allclose(hard[1], found[1])
    for index in (0, 2, 3):
        torch.testing.assert_close(found[index], hard[index])


def test_output_may_be_written_to_in_place() -> None:
    leaves = leaves_of({"padding": 1}, shared=False)
    output = region_conv2d(*leaves, padding=1, soft_filter_gradient=True)
    output.mul_(2).sum().backward()
    assert all(leaf.grad is not None for leaf in leaves)


def test_second_derivative_is_refused() -> None:
    leaves = leaves_of({"padding": 1}, shared=False)
    output = region_conv2d(*leaves, padding=1, soft_filter_gradient=True)
    (grad,) = torch.autograd.grad(output.square().sum(), leaves[1], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiat"):
        grad.sum().backward()


def test_half_precision_input_under_autocast() -> None:
    leaves = leaves_of({"padding": 1}, shared=False, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = region_conv2d(*leaves, padding=1, soft_filter_gradient=True)
    output.float().sum().backward()
    assert leaves[1].grad.dtype == torch.float32
    exact = torch.autograd.grad(region_conv2d(*leaves, padding=1, soft_filter_gradient=True).sum(), leaves[1])[0]
    assert (leaves[1].grad - exact).abs().max() < 0.02 * exact.abs().max()


@pytest.mark.parametrize("generator", ["pooled", "learned"])
def test_layer_hands_the_option_on(generator: str) -> None:
    layer = DRConv2d(4, 8, 3, padding=1, num_regions=3, filter_generator=generator, soft_filter_gradient=True)
    assert "soft_filter_gradient=True" in repr(layer)
    x = torch.randn(2, 4, 6, 6)
    layer(x).square().sum().backward()
    soft = [p.grad.clone() for p in layer.filter_generator.parameters()]
    layer.zero_grad()
    layer.region_conv.soft_filter_gradient = False
    layer(x).square().sum().backward()
    assert any(not torch.allclose(a, p.grad) for a, p in zip(soft, layer.filter_generator.parameters(), strict=True))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.eval()(x))
    with pytest.raises(ArgumentError, match="soft_filter_gradient"):
        DRConv2d(4, 8, 1, soft_filter_gradient=1)


@pytest.mark.slow
def test_compiles_whole_with_backward() -> None:
    leaves = leaves_of({"padding": 1}, shared=False, dtype=torch.float32)

    def op(*tensors: Tensor) -> Tensor:
        return region_conv2d(*tensors, padding=1, soft_filter_gradient=True)

    expected = torch.autograd.grad(op(*leaves).square().sum(), leaves)
    found = torch.autograd.grad(torch.compile(op, fullgraph=True)(*leaves).square().sum(), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
