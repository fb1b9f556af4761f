"""Profiling: who is timed, who is refused, and what is left as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from drconv.analysis import profile_model
from drconv.analysis.profile import _record_calls
from drconv.analysis.timing import Timing
from drconv.errors import ModelError, UnknownNameError
from drconv.kernels import BACKENDS, Backend, naive
from drconv.layers import DRConv2d, DynamicConv2d, GuideConv2d
from drconv.models import create_model


@pytest.fixture
def wrong_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register a backend that shifts everything a little, and one that objects to everything."""

    def forward(*args: Any) -> torch.Tensor:
        return naive.forward(*args) * 1.01

    row = Backend("wrong", "drconv.kernels.naive", None, (torch.float32,), automatic=False)
    monkeypatch.setattr(Backend, "forward", lambda self: forward if self.name == "wrong" else self_forward(self))
    self_forward: Callable[[Backend], Any] = lambda b: __import__(b.module, fromlist=["forward"]).forward  # noqa: E731
    monkeypatch.setitem(BACKENDS._entries, "wrong", row)
    picky = Backend("picky", "drconv.kernels.naive", None, (torch.float64,), automatic=False)
    monkeypatch.setitem(BACKENDS._entries, "picky", picky)
    return "wrong"


def test_every_layer_and_the_network_against_conv2d_and_naive() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5_released")
    model.stage2[0].branch2[0].backend = "naive"
    seen: list[tuple[str, int, int]] = []
    report = profile_model(model, torch.randn(1, 3, 32, 32), rounds=2, warmup=0, progress=lambda *a: seen.append(a))
    names = [n for n, m in model.named_modules() if isinstance(m, DRConv2d)]
    assert [t.name for t in report.targets] == [*names, "network"]
    assert seen == [(name, i, 33) for i, name in enumerate([*names, "network"])]
    for target in report.targets:
        assert [c.candidate for c in target.candidates] == ["conv2d", "native", "eager", "naive"]
        assert all(len(c.timing.samples) == 2 and c.refusal is None for c in target.candidates)
        assert target.candidates[0].to_conv2d == 1
        assert target.candidates[3].to_naive == 1
    assert all(c.error < 1e-4 for t in report.targets[:-1] for c in t.candidates[1:])
    assert all(0.9 < c.equal_regions <= 1 for c in report.targets[-1].candidates[1:])
    assert model.training
    assert [m.backend for m in model.modules() if isinstance(m, DRConv2d)] == ["naive"] + [None] * 31
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_a_backend_that_is_wrong_is_refused_with_its_error(wrong_backend: str) -> None:
    layer = nn.Sequential(DRConv2d(3, 4, 3, padding=1))
    report = profile_model(layer, torch.randn(1, 3, 8, 8), backends=["wrong", "picky", "eager"], rounds=1, warmup=0)
    by_name = {c.candidate: c for c in report.targets[0].candidates}
    wrong = by_name[wrong_backend]
    assert wrong.timing is None
    assert wrong.error == pytest.approx(0.01, rel=0.1)
    assert "differs from the reference by 1.0e-02, more than 1e-04: not timed" in wrong.refusal
    assert "it takes float64, not torch.float32" in by_name["picky"].refusal
    assert by_name["eager"].timing is not None
    assert by_name["conv2d"].timing is not None
    rows = report.to_table().rows
    assert any("not timed" in str(row[-1]) for row in rows)


def test_the_network_is_not_timed_with_a_wrong_backend(wrong_backend: str) -> None:
    layer = nn.Sequential(DRConv2d(3, 4, 3, padding=1))
    report = profile_model(layer, torch.randn(1, 3, 8, 8), backends=[wrong_backend], rounds=1, warmup=0)
    network = {c.candidate: c for c in report.targets[-1].candidates}
    assert network[wrong_backend].timing is None
    assert "layer" in network[wrong_backend].refusal


def test_dict_has_raw_samples_and_plain_values() -> None:
    report = profile_model(DRConv2d(3, 4, 1), torch.randn(1, 3, 8, 8), rounds=3, warmup=0)
    found = report.to_dict()
    candidate = found["targets"][0]["candidates"][1]
    assert candidate["candidate"] == "native"
    assert len(candidate["samples_s"]) == 3
    assert candidate["median_s"] == Timing(tuple(candidate["samples_s"])).median
    assert found["input_shape"] == [1, 3, 8, 8]


def test_refusals() -> None:
    with pytest.raises(ModelError, match="no dynamic layer"):
        profile_model(nn.Conv2d(3, 3, 1), torch.randn(1, 3, 4, 4))
    with pytest.raises(UnknownNameError, match="did you mean eager"):
        profile_model(DRConv2d(3, 3, 1), torch.randn(1, 3, 4, 4), backends=["eagr"])
    with pytest.raises(ModelError, match="Sequential failed on an input of 1x3x4x4"):
        profile_model(nn.Sequential(DRConv2d(3, 3, 1), nn.Linear(7, 7)), torch.randn(1, 3, 4, 4))


def test_recorded_inputs_are_copies() -> None:
    """A layer is timed on what it got, also where the model writes over it afterwards."""

    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DRConv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x * 1
            y = self.conv(x)
            x.zero_()
            return y

    x = torch.randn(1, 3, 4, 4)
    with torch.inference_mode():
        (call,) = _record_calls(Overwriting(), x)
    assert torch.equal(call.args[0], x)
    assert torch.equal(call.operands[0], x)


def test_a_model_that_needs_its_guides_has_no_baseline_but_is_profiled() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = GuideConv2d(3, 4)
            self.conv = DRConv2d(3, 3, 1, num_regions=4, own_guide=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x, self.guide(x).tanh())

    report = profile_model(Block(), torch.randn(1, 3, 8, 8), rounds=1, warmup=0)
    conv2d, _, eager, _ = report.targets[-1].candidates
    assert "without its guides" in conv2d.refusal
    assert conv2d.timing is None
    assert eager.timing is not None
    assert eager.to_conv2d is None
    assert eager.to_naive is not None


def test_dynamic_layers_without_regions_are_profiled_too() -> None:
    model = nn.Sequential(DynamicConv2d(3, 8, 3, padding=1), nn.ReLU(), DynamicConv2d(8, 4, 1))
    report = profile_model(model, torch.randn(2, 3, 8, 8), rounds=1, warmup=0)
    assert [t.name for t in report.targets] == ["0", "2", "network"]
    assert all(c.timing is not None for t in report.targets for c in t.candidates)
    assert all(c.equal_regions is None for c in report.targets[-1].candidates)
