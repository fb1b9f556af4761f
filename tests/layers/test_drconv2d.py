"""`DRConv2d` as a drop-in for `nn.Conv2d`, and what is its own."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import drconv
from drconv.errors import ArgumentError, UnknownNameError
from drconv.layers import FILTER_GENERATORS, DRConv2d, GuideConv2d, set_backend
from drconv.ops import region_conv2d
from tests.tolerances import assert_near

GENERATORS = list(FILTER_GENERATORS)


def like_conv(layer: DRConv2d, weight: Tensor) -> nn.Conv2d:
    """Return the `nn.Conv2d` that a layer with one learned filter must equal."""
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
        layer.padding_mode,
    )
    conv.weight.data = weight
    if layer.bias is not None:
        conv.bias.data = layer.bias.data
    return conv


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2},
        {"kernel_size": (3, 2), "padding": (2, 1), "stride": (1, 2), "dilation": (2, 1)},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": (4, 2), "padding": "same"},
        {"kernel_size": 3, "padding": "valid", "groups": 3},
        {"kernel_size": 5, "padding": 2, "groups": 6, "bias": False},
    ],
    ids=str,
)
def test_with_one_region_it_is_conv2d(arguments: dict[str, object], padding_mode: str) -> None:
    layer = DRConv2d(6, 12, **arguments, padding_mode=padding_mode, num_regions=1, filter_generator="learned")
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    conv = like_conv(layer, layer.filter_generator(torch.empty(0)).data[0])
    x = torch.randn(2, 6, 11, 9)
    assert_near(layer(x), conv(x), "output")
    assert_near(layer(x[0]), conv(x[0]), "unbatched output")


def test_it_has_the_attributes_of_conv2d_but_is_none() -> None:
    layer = DRConv2d(4, 6, 3, 2, 1, 1, 2, True, "zeros", "cpu", torch.float64)
    conv = nn.Conv2d(4, 6, 3, 2, 1, 1, 2, True, "zeros", "cpu", torch.float64)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    assert all(getattr(layer, name) == getattr(conv, name) for name in names)
    assert not isinstance(layer, nn.Conv2d)
    assert not hasattr(layer, "weight")
    assert all(p.dtype == torch.float64 for p in layer.parameters())


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_output_is_the_operator_on_its_parts(generator: str, groups: int) -> None:
    layer = DRConv2d(4, 8, 3, 2, 1, groups=groups, num_regions=3, filter_generator=generator)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 4, 9, 7)
    filters, guide = layer.filter_generator(x), layer.guide(x)
    assert filters.shape[-5:] == (3, 8, 4 // groups, 3, 3)
    expected = region_conv2d(x, filters, guide, layer.bias, stride=2, padding=1, groups=groups)
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_parameter_and_the_input_receive_a_gradient(generator: str) -> None:
    layer = DRConv2d(4, 8, 3, padding=1, num_regions=3, filter_generator=generator)
    x = torch.randn(2, 4, 9, 7, requires_grad=True)
    layer(x).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad.abs().sum() > 0


def test_nothing_is_detached_from_the_input() -> None:
    """The input's gradient is the sum of three paths: through the convolution, the guide and the generator."""
    layer = DRConv2d(3, 5, 3, padding=1, num_regions=4).double()
    x = torch.randn(1, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    (whole,) = torch.autograd.grad(layer(x).sin().sum(), x)
    parts = []
    for live in range(3):
        leaf = x.detach().requires_grad_()
        conv_in, guide_in, generator_in = (leaf if i == live else leaf.detach() for i in range(3))
        filters, guide = layer.filter_generator(generator_in), layer.guide(guide_in)
        output = region_conv2d(conv_in, filters, guide, layer.bias, padding=1)
        parts.append(torch.autograd.grad(output.sin().sum(), leaf)[0])
    assert all(part.abs().sum() > 0 for part in parts)
    assert_near(whole, sum(parts), "gradient")


def test_a_shared_guide_is_resized_with_nearest() -> None:
    guide = GuideConv2d(4, 3, bias=False)
    layer = DRConv2d(4, 6, 1, 2, num_regions=3, own_guide=False)
    x = torch.randn(2, 4, 8, 6)
    scores = guide(x)
    expected = region_conv2d(x, layer.filter_generator(x), scores[:, :, ::2, ::2], layer.bias, stride=2)
    assert torch.equal(layer(x, scores), expected)
    assert torch.equal(layer(x[0], scores[0]), expected[0])
    assert not any("guide" in name for name, _ in layer.named_parameters())


def test_a_given_guide_replaces_its_own() -> None:
    layer = DRConv2d(4, 6, 1, num_regions=3, filter_generator="learned")
    x, scores = torch.randn(2, 4, 5, 5), torch.zeros(2, 3, 5, 5)
    scores[:, 2] = 1
    expected = nn.functional.conv2d(x, layer.filter_generator(x)[2], layer.bias)
    assert_near(layer(x, scores), expected, "output")


def test_without_any_guide_it_says_so() -> None:
    with pytest.raises(ArgumentError, match="own_guide=False must be given a guided_feature"):
        DRConv2d(4, 6, 1, own_guide=False)(torch.randn(1, 4, 5, 5))


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("shape", [(0, 4, 9, 7), (1, 4, 1, 1), (2, 4, 13, 1)], ids=str)
def test_odd_sizes(shape: tuple[int, ...], generator: str) -> None:
    layer = DRConv2d(4, 6, 3, padding=1, filter_generator=generator)
    x = torch.randn(shape, requires_grad=True)
    output = layer(x)
    assert output.shape == (shape[0], 6, *shape[2:])
    assert output.isfinite().all()
    output.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("generator", GENERATORS)
def test_dtypes(generator: str, dtype: torch.dtype) -> None:
    layer = DRConv2d(4, 6, 3, padding=1, filter_generator=generator, dtype=dtype)
    output = layer(torch.randn(2, 4, 6, 6, dtype=dtype))
    assert output.dtype == dtype
    output.sum().backward()
    assert all(p.grad.dtype == dtype for p in layer.parameters())


@pytest.mark.parametrize("generator", GENERATORS)
def test_autocast(generator: str) -> None:
    layer = DRConv2d(4, 6, 3, padding=1, filter_generator=generator)
    x = torch.randn(2, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)
    assert output.dtype == torch.bfloat16
    output.sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in layer.parameters())


def test_channels_last_stays_channels_last_and_equal() -> None:
    layer = DRConv2d(4, 6, 3, 2, 1)
    x = torch.randn(2, 4, 9, 7)
    output = layer(x.contiguous(memory_format=torch.channels_last))
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert_near(output, layer(x), "output")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [8, 60], ids=["small", "large"])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("groups", [1, 8])
def test_the_output_may_be_written_to_in_place(
    groups: int, bias: bool, kernel: int, size: int, layout: torch.memory_format
) -> None:
    layer = DRConv2d(8, 8, kernel, padding="same", bias=bias, groups=groups).double()
    x = torch.randn(2, 8, size, size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    expected = torch.autograd.grad((layer(x) + x).relu().square().sum(), (x, *layer.parameters()))
    output = layer(x)
    output += x
    output = nn.functional.relu(output, inplace=True)
    actual = torch.autograd.grad(output.square().sum(), (x, *layer.parameters()))
    for a, e in zip(actual, expected, strict=True):
        assert_near(a, e, "gradient")


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_module_can_be_put_in_channels_last(kernel: int, generator: str) -> None:
    layer = DRConv2d(8, 8, kernel, padding="same", filter_generator=generator)
    x = torch.randn(2, 8, 9, 9)
    expected = layer(x)
    assert_near(layer.to(memory_format=torch.channels_last)(x), expected, "output")


def test_meta_device() -> None:
    layer = DRConv2d(4, 6, 3, padding=1, device="meta")
    assert layer(torch.empty(2, 4, 5, 5, device="meta")).shape == (2, 6, 5, 5)


@pytest.mark.parametrize("generator", GENERATORS)
def test_copies_pickles_and_state_dicts_give_the_same_output(generator: str) -> None:
    layer = DRConv2d(4, 6, 3, padding="same", filter_generator=generator, backend="naive")
    x = torch.randn(2, 4, 5, 5)
    fresh = DRConv2d(4, 6, 3, padding="same", filter_generator=generator, backend="naive")
    assert not torch.equal(fresh(x), layer(x))
    fresh.load_state_dict(layer.state_dict())
    for copy in (deepcopy(layer), pickle.loads(pickle.dumps(layer)), fresh):
        assert torch.equal(copy(x), layer(x))
        assert copy.backend == "naive"


def test_set_backend_reaches_every_layer_and_checks_the_name() -> None:
    model = nn.Sequential(DRConv2d(3, 4, 1), nn.ReLU(), nn.Sequential(DRConv2d(4, 4, 1)))
    assert drconv.set_backend(model, "naive") is model
    assert [m.backend for m in model.modules() if isinstance(m, DRConv2d)] == ["naive", "naive"]
    with pytest.raises(UnknownNameError, match="did you mean naive"):
        set_backend(model, "naiv")
    assert set_backend(model, None)[0].backend is None


def test_reset_parameters_draws_anew() -> None:
    layer = DRConv2d(4, 6, 3)
    nn.init.ones_(layer.bias)
    before = deepcopy(layer.state_dict())
    layer.reset_parameters()
    after = layer.state_dict()
    assert (after["bias"] == 0).all()
    assert not torch.equal(before["guide.weight"], after["guide.weight"])
    assert not torch.equal(before["filter_generator.expand.weight"], after["filter_generator.expand.weight"])


def test_repr_shows_what_differs_from_defaults() -> None:
    text = repr(DRConv2d(4, 6, 3, 2, "valid", groups=2, bias=False, num_regions=5))
    assert "4, 6, kernel_size=(3, 3), stride=(2, 2), padding='valid', groups=2, bias=False, num_regions=5" in text


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_two_uses_in_one_compiled_graph(generator: str) -> None:
    layer = DRConv2d(6, 6, 3, padding=1, num_regions=3, filter_generator=generator)
    x = torch.randn(2, 6, 7, 5)

    def twice(x: Tensor) -> Tensor:
        return layer(layer(x).relu())

    expected = torch.autograd.grad(twice(x).square().sum(), list(layer.parameters()))
    compiled = torch.compile(twice, fullgraph=True)
    actual = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_exports_with_a_dynamic_batch(generator: str) -> None:
    layer = DRConv2d(3, 6, 3, 2, 1, num_regions=3, filter_generator=generator).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(layer, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    assert "drconv.region_conv2d" in str(program.graph)
    for size in (1, 5):
        x = torch.randn(size, 3, 8, 8)
        assert_near(program.module()(x), layer(x), f"batch {size}")


@pytest.mark.slow
def test_exports_with_a_shared_guide_that_is_resized() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = GuideConv2d(3, 4)
            self.conv = DRConv2d(3, 6, 1, 2, num_regions=4, own_guide=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, self.guide(x))

    block = Block().eval()
    program = torch.export.export(block, (torch.randn(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = torch.randn(3, 3, 8, 8)
    assert_near(program.module()(x), block(x), "output")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_regions": 0}, "num_regions must be an integer of at least 1, got num_regions=0"),
        ({"in_channels": 0}, "in_channels must be an integer of at least 1"),
        ({"groups": 4}, "in_channels must be divisible by groups, got in_channels=6, groups=4"),
        ({"groups": 3, "out_channels": 4}, "out_channels must be divisible by groups"),
        ({"kernel_size": 0}, "kernel_size must be one or two integers of at least 1"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size must be one or two integers"),
        ({"stride": 0}, "stride must be"),
        ({"padding": -1}, "padding must be one or two integers of at least 0"),
        ({"padding": "full"}, "padding must be one of 'same', 'valid', got padding='full'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1"),
        ({"padding_mode": "mirror"}, "padding_mode must be one of 'zeros'"),
        ({"kernel_size": 3.0}, "kernel_size must be one or two integers of at least 1, got kernel_size=3.0"),
        ({"stride": None}, "stride must be one or two integers of at least 1, got stride=None"),
        ({"in_channels": True}, "in_channels must be an integer"),
    ],
    ids=str,
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message.replace("(", r"\(")):
        DRConv2d(**{"in_channels": 6, "out_channels": 6, "kernel_size": 3} | arguments)


def test_integers_of_numpy_are_integers() -> None:
    layer = DRConv2d(np.int64(4), np.int32(6), np.int64(3), padding=(np.int64(1), 1), num_regions=np.int64(2))
    assert layer(torch.randn(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    assert type(layer.in_channels) is int


def test_unknown_generator_and_backend_offer_near_names() -> None:
    with pytest.raises(UnknownNameError, match="unknown filter generator 'pool'; did you mean pooled"):
        DRConv2d(4, 4, 1, filter_generator="pool")
    with pytest.raises(UnknownNameError, match="unknown filter generator None; known: pooled"):
        DRConv2d(4, 4, 1, filter_generator=None)
    with pytest.raises(UnknownNameError, match="unknown backend 'eger'; did you mean eager"):
        DRConv2d(4, 4, 1, backend="eger")


def test_bad_inputs() -> None:
    layer = DRConv2d(4, 6, 3)
    with pytest.raises(ArgumentError, match=r"input must be \[B, 4, H, W\] or \[4, H, W\], got \[1, 3, 8, 8\]"):
        layer(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ArgumentError, match="the kernel must fit into the padded input, got an input of 2x8"):
        layer(torch.zeros(1, 4, 2, 8))
    with pytest.raises(ArgumentError, match="guided_feature must be"):
        layer(torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 6, 6))
