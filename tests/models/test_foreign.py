"""Weights of other people's DRConv: loaded strictly, and computing what their networks compute.

What their networks are made of, and how they compute, is written down here once more, from their descriptions alone.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from drconv import DRConv2d, create_model
from drconv.errors import CheckpointError
from drconv.models import load_checkpoint

State = dict[str, Tensor]
GEOMETRIES = {
    "1x1": {"kernel": 1},
    "1x1 strided": {"kernel": 1, "stride": 2},
    "3x3 padded": {"kernel": 3, "padding": 1},
    "3x3 strided": {"kernel": 3, "stride": 2, "padding": 1},
    "3x3 unpadded": {"kernel": 3},
}


def unofficial_state(c: int, o: int, k: int, m: int, prefix: str = "") -> State:
    """A layer of shallowtoil/DRConv-PyTorch: a generator of four modules, and a guide of the convolution's kernel."""
    return {
        f"{prefix}conv_kernel.1.weight": torch.randn(m * m, c, 1, 1),
        f"{prefix}conv_kernel.1.bias": torch.randn(m * m),
        f"{prefix}conv_kernel.3.weight": torch.randn(m * c * o, m, 1, 1),
        f"{prefix}conv_kernel.3.bias": torch.randn(m * c * o),
        f"{prefix}conv_guide.weight": torch.randn(m, c, k, k),
        f"{prefix}conv_guide.bias": torch.randn(m),
    }


def unofficial_forward(s: State, x: Tensor, k: int, m: int, **geometry: int) -> Tensor:
    """All M convolutions of every sample, and at every position the output of the region of largest score."""
    pooled = F.adaptive_avg_pool2d(x, k)
    hidden = torch.sigmoid(F.conv2d(pooled, s["conv_kernel.1.weight"], s["conv_kernel.1.bias"]))
    made = F.conv2d(hidden, s["conv_kernel.3.weight"], s["conv_kernel.3.bias"], groups=m)
    scores = F.conv2d(x, s["conv_guide.weight"], s["conv_guide.bias"], **geometry)
    outputs = []
    for sample, filters in zip(x, made, strict=True):
        convolved = F.conv2d(sample[None], filters.reshape(-1, x.shape[1], k, k), **geometry)
        outputs.append(convolved.reshape(m, -1, *scores.shape[2:]))
    every = torch.stack(outputs)  # [B, M, O, U, V]
    chosen = scores.argmax(1)[:, None, None].expand(-1, 1, every.shape[2], -1, -1)
    return every.gather(1, chosen)[:, 0]


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_unofficial_layers_compute_what_they_did(geometry: dict[str, int], tmp_path: Path) -> None:
    c, o, m = 6, 10, 4
    geometry = dict(geometry)
    k = geometry.pop("kernel")
    state = unofficial_state(c, o, k, m)
    save_file(state, tmp_path / "layer.safetensors")
    layer = DRConv2d(c, o, k, bias=False, num_regions=m, **geometry)
    report = load_checkpoint(layer, tmp_path / "layer.safetensors")
    x = torch.randn(2, c, 9, 8)
    expected = unofficial_forward(state, x, k, m, **geometry)
    assert float((layer(x).detach() - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    assert report.layout == "unofficial"
    assert len(report.tensors) == 6


class Net(nn.Module):
    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.body = nn.Sequential(DRConv2d(6, 10, 3, bias=bias, num_regions=4), nn.BatchNorm2d(10))
        self.last = DRConv2d(10, 5, 1, bias=bias, num_regions=3)


def unofficial_net_state() -> State:
    state = {"stem.weight": torch.randn(6, 3, 3, 3), "stem.bias": torch.randn(6)}
    state |= unofficial_state(6, 10, 3, 4, "body.0.")
    state |= {f"body.1.{name}": torch.rand(10) for name in ("weight", "bias", "running_mean", "running_var")}
    state |= {"body.1.num_batches_tracked": torch.tensor(3)}
    return state | unofficial_state(10, 5, 1, 3, "last.")


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_unofficial_layers_inside_a_network(wrapper: str, tmp_path: Path) -> None:
    state = unofficial_net_state()
    torch.save({f"{wrapper}{name}": tensor for name, tensor in state.items()}, tmp_path / "net.pt")
    net = Net()
    report = load_checkpoint(net, tmp_path / "net.pt")
    assert torch.equal(net.body[0].filter_generator.expand.weight, state["body.0.conv_kernel.3.weight"])
    assert torch.equal(net.last.guide.bias, state["last.conv_guide.bias"])
    assert torch.equal(net.stem.weight, state["stem.weight"])
    pairs = {x.theirs: (x.ours, x.shape) for x in report.tensors}
    assert len(pairs) == len(state)
    assert pairs[f"{wrapper}last.conv_kernel.1.bias"] == ("last.filter_generator.reduce.bias", (9,))
    assert pairs[f"{wrapper}stem.bias"] == ("stem.bias", (6,))


def test_what_is_missing_or_too_much_is_named_with_the_layout(tmp_path: Path) -> None:
    state = unofficial_net_state()
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError,
        match=r"net.pt, in the unofficial layout \(shallowtoil/DRConv-PyTorch, for DRConv2d\(..., filter_generator="
        r"'pooled', bias=False\)\), does not fit Net: 19 of 21 tensors match; 2 missing \(body.0.bias, last.bias\)",
    ):
        load_checkpoint(Net(bias=True), tmp_path / "net.pt")
    del state["last.conv_guide.bias"]
    state["last.conv_kernel.1.weight"] = torch.zeros(9, 11, 1, 1)
    state["last.corr.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError,
        match=r"1 missing \(last.guide.bias\); 1 unexpected \(last.corr.weight\); "
        r"1 of another shape \(last.filter_generator.reduce.weight\)",
    ):
        load_checkpoint(Net(), tmp_path / "net.pt")


def test_a_model_with_such_names_of_its_own_is_loaded_as_it_is(tmp_path: Path) -> None:
    state = unofficial_state(2, 2, 1, 2)

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_kernel = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 8, 1, groups=2)
            )
            self.conv_guide = nn.Conv2d(2, 2, 1)

    torch.save(state, tmp_path / "theirs.pt")
    report = load_checkpoint(Theirs(), tmp_path / "theirs.pt")
    assert (report.layout, report.is_foreign) == ("own", False)


# Released networks: stage -> (blocks, channels), for the widths that are tested; the stem has 24, the last 1024.
REPEATS = {1: 4, 2: 8, 3: 4}
WIDTHS = {"x0_5": {1: 48, 2: 96, 3: 192}, "x1_0": {1: 116, 2: 232, 3: 464}}
M = 8


class Released:
    """Draws the tensors of a released network, one module after the other."""

    def __init__(self, width: str, num_classes: int) -> None:
        self.state: State = {}
        self.conv_bn("conv_first", 24, 3, 3, bias=True)
        channels = 24
        for stage, repeats in REPEATS.items():
            for block in range(1, repeats + 1):
                out = WIDTHS[width][stage]
                self.block(f"stage{stage}_block{block}", channels, out)
                channels = out
        self.conv_bn("conv_last", 1024, channels, 1, bias=True)
        self.state["classifier.weight"] = torch.randn(num_classes, 1024) / 32
        self.state["classifier.bias"] = torch.randn(num_classes)

    def block(self, name: str, channels: int, out: int) -> None:
        strided = name.endswith("block1")
        entering = channels if strided else channels // 2
        right_out = out - entering
        middle = out // 2
        self.state[f"{name}.masknet.weight"] = torch.randn(M, entering, 1, 1)
        self.dynamic_bn(f"{name}.conva_right", middle, entering)
        self.conv_bn(f"{name}.convb_right", middle, 1, 3)
        self.dynamic_bn(f"{name}.convc_right", right_out, middle)
        if strided:
            self.conv_bn(f"{name}.conva_left", entering, 1, 3)
            self.conv_bn(f"{name}.convb_left", entering, entering, 1)

    def conv_bn(self, name: str, out: int, fan: int, kernel: int, bias: bool = False) -> None:
        std = (2 / (fan * kernel * kernel)) ** 0.5
        self.state[f"{name}.conv.weight"] = torch.randn(out, fan, kernel, kernel) * std
        if bias:
            self.state[f"{name}.conv.bias"] = torch.randn(out)
        self.bn(name, out)

    def dynamic_bn(self, name: str, out: int, channels: int) -> None:
        self.state[f"{name}.conv.weight"] = torch.randn(out * channels, 8) * (2 / channels) ** 0.5 * 2
        self.state[f"{name}.conv.routing_fc.weight"] = torch.randn(M * 8, channels) / channels**0.5
        self.state[f"{name}.conv.routing_fc.bias"] = torch.randn(M * 8)
        self.bn(name, out)

    def bn(self, name: str, out: int) -> None:
        self.state[f"{name}.bn.weight"] = torch.rand(out) + 0.5
        self.state[f"{name}.bn.bias"] = torch.randn(out) * 0.3
        self.state[f"{name}.bn.running_mean"] = torch.randn(out) * 0.3
        self.state[f"{name}.bn.running_var"] = torch.rand(out) + 0.5
        self.state[f"{name}.bn.num_batches_tracked"] = torch.tensor(1000)


def released_forward(s: State, x: Tensor) -> Tensor:
    """The released network in eval mode."""

    def bn(x: Tensor, name: str) -> Tensor:
        of = {part: s[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(x, **of)

    def conv(x: Tensor, name: str, **geometry: int) -> Tensor:
        return bn(F.conv2d(x, s[f"{name}.conv.weight"], s.get(f"{name}.conv.bias"), **geometry), name)

    def dynamic(x: Tensor, name: str, mask: Tensor) -> Tensor:
        if mask.shape[1:] != x.shape[2:]:
            mask = F.interpolate(mask.double()[:, None], x.shape[2:])[:, 0]
        routed = F.linear(x.mean((2, 3)), s[f"{name}.conv.routing_fc.weight"], s[f"{name}.conv.routing_fc.bias"])
        mix = 2 * routed.sigmoid() / 8
        bases = s[f"{name}.conv.weight"]
        out = 0
        for region in range(M):
            filters = (mix[:, 8 * region : 8 * region + 8] @ bases.T).reshape(len(x), -1, x.shape[1])  # [B, O, C]
            out = out + torch.einsum("boc,bchw->bohw", filters, x) * (mask == region)[:, None]
        return bn(out, name)

    def block(x: Tensor, name: str) -> Tensor:
        if name.endswith("block1"):
            left = conv(x, f"{name}.conva_left", stride=2, padding=1, groups=x.shape[1])
            left = conv(left, f"{name}.convb_left").relu()
            stride = 2
        else:
            left, x = x[:, 0::2], x[:, 1::2]
            stride = 1
        mask = F.conv2d(x, s[f"{name}.masknet.weight"]).softmax(1).argmax(1)
        x = dynamic(x, f"{name}.conva_right", mask).relu()
        x = conv(x, f"{name}.convb_right", stride=stride, padding=1, groups=x.shape[1])
        x = dynamic(x, f"{name}.convc_right", mask).relu()
        return torch.cat((left, x), 1)

    x = conv(x, "conv_first", stride=2, padding=1).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for stage, repeats in REPEATS.items():
        for number in range(1, repeats + 1):
            x = block(x, f"stage{stage}_block{number}")
    x = conv(x, "conv_last").relu()
    return F.linear(x.mean((2, 3)), s["classifier.weight"], s["classifier.bias"])


@pytest.mark.parametrize("width", WIDTHS)
def test_the_released_network_computes_what_it_did(width: str, tmp_path: Path) -> None:
    state = {name: t.double() if t.is_floating_point() else t for name, t in Released(width, 10).state.items()}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "w.pth")
    model = create_model(f"drconv_shufflenet_v2_{width}_released", num_classes=10).double().eval()
    report = load_checkpoint(model, tmp_path / "w.pth")
    images = torch.randn(2, 3, 64, 64).double()
    expected = released_forward(state, images)
    error = float((model(images) - expected).detach().abs().max() / expected.std(0).max())
    assert error < 1e-9
    assert report.layout == "released"
    assert len(report.tensors) == len(state) == len(model.state_dict())
    pairs = {x.theirs: x.ours for x in report.tensors}
    assert pairs["module.stage2_block8.convc_right.conv.routing_fc.bias"] == (
        "stage3.7.branch2.5.filter_generator.routing.bias"
    )
    assert report.summary == f"{tmp_path / 'w.pth'}: {len(state)} tensors in the released layout, all matched"


def drop(name: str) -> Callable[[State], object]:
    return lambda state: state.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("stage1_block1.masknet.weight"), r"1 missing \(stage2.0.guide.weight\)$"),
        (drop("conv_first.bn.num_batches_tracked"), r"1 missing \(conv1.1.num_batches_tracked\)$"),
        (
            lambda s: s.update({"stage1_block1.conva_right.conv.bias": torch.zeros(24)}),
            r"1 unexpected \(stage1_block1.conva_right.conv.bias\)$",
        ),
        (
            lambda s: s.update({"stage4_block1.masknet.weight": torch.zeros(8, 3, 1, 1)}),
            r"1 unexpected \(stage4_block1.masknet.weight\)$",
        ),
        (
            lambda s: s.update({"stage1_block2.conva_right.conv.weight": torch.zeros(24 * 24, 4)}),
            r"1 of another shape \(stage2.1.branch2.0.filter_generator.bases\)$",
        ),
        (
            lambda s: s.update({"stage1_block2.conva_right.conv.weight": torch.zeros(8, 24 * 24)}),
            r"1 of another shape \(stage2.1.branch2.0.filter_generator.bases\)$",
        ),
    ],
    ids=["no guide", "no counter", "a bias", "a stage", "4 bases", "transposed"],
)
def test_released_weights_that_do_not_fit(change: Callable[[State], object], message: str, tmp_path: Path) -> None:
    state = Released("x0_5", 10).state
    change(state)
    torch.save(state, tmp_path / "w.pth")
    model = create_model("drconv_shufflenet_v2_x0_5_released", num_classes=10)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(model, tmp_path / "w.pth")
    assert "w.pth, in the released layout (megvii-research/DRConv, for drconv_shufflenet" in str(caught.value)


def test_released_weights_for_another_network_name_what_they_are_for(tmp_path: Path) -> None:
    torch.save(Released("x0_5", 1000).state, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"for drconv_shufflenet_v2_WIDTH_released\), does not fit ShuffleNetV2"):
        load_checkpoint(create_model("drconv_shufflenet_v2_x0_5"), tmp_path / "w.pth")


def test_report_of_a_checkpoint_of_ours(tmp_path: Path) -> None:
    layer = DRConv2d(4, 4, 1, filter_generator="basis")
    torch.save(layer.state_dict(), tmp_path / "w.pt")
    report = load_checkpoint(layer, tmp_path / "w.pt")
    assert report.to_dict()["layout"] == "own"
    assert report.to_dict()["tensors"][0] == {"theirs": "bias", "ours": "bias", "shape": [4]}
    assert report.to_table().rows[1] == ("filter_generator.bases", "filter_generator.bases", "8x4x4")
