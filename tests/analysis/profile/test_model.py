"""A network's profile: who is timed, who is refused, what stands for what, and what is left as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drconv.analysis import ProfileOptions, StopRule, profile_model
from drconv.analysis.profile import TargetProfile
from drconv.analysis.profile.targets import record_calls
from drconv.analysis.timing import Timing
from drconv.errors import ArgumentError, ModelError, UnknownNameError
from drconv.kernels import BACKENDS, Backend, naive
from drconv.layers import DRConv2d, DynamicConv2d, GuideConv2d
from drconv.models import create_model

ONCE = StopRule(rounds=1, warmup=0)
QUICK = {"stop": ONCE, "roofline": False, "memory": False}


def by_name(target: TargetProfile) -> dict[str, Any]:
    return {c.candidate: c for c in target.candidates}


@pytest.fixture
def wrong_backend(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register a backend that shifts everything a little, one that objects to everything, and one that raises."""

    def shifted(*args: Any) -> torch.Tensor:
        return naive.forward(*args) * 1.01

    def raising(*args: Any) -> torch.Tensor:
        raise RuntimeError("out of order\nmore of it")

    makers = {"wrong": shifted, "broken": raising}
    genuine: Callable[[Backend], Any] = Backend.forward
    monkeypatch.setattr(Backend, "forward", lambda self: makers.get(self.name) or genuine(self))
    for name, dtype in (("wrong", torch.float32), ("broken", torch.float32), ("picky", torch.float64)):
        row = Backend(name, "drconv.kernels.naive", None, (dtype,), automatic=False)
        monkeypatch.setitem(BACKENDS._entries, name, row)
    return "wrong"


def test_layers_of_equal_sizes_are_timed_once_and_checked_all() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5_released")
    model.stage2[0].branch2[0].backend = "naive"
    seen: list[tuple[str, int, int]] = []
    options = ProfileOptions(stop=StopRule(rounds=2, warmup=0), roofline=False, memory=False)
    report = profile_model(model, torch.randn(1, 3, 32, 32), options, progress=lambda *a: seen.append(a))
    names = [n for n, m in model.named_modules() if isinstance(m, DRConv2d)]
    layers = report.targets[:-1]
    assert sorted(name for target in layers for name in target.members) == sorted(names)
    assert len(layers) < len(names)
    assert all(target.name == target.members[0] for target in layers)
    assert seen == [(target.name, i, len(layers) + 1) for i, target in enumerate(report.targets)]
    for target in report.targets:
        labels = [c.label for c in target.candidates]
        assert labels == ["conv2d NCHW", "conv2d channels_last", "native NCHW", "eager NCHW", "naive NCHW"]
        assert all(len(c.timing.samples) == 2 and c.refusal is None for c in target.candidates)
        medians = [c.timing.median for c in target.candidates[:2]]
        assert target.candidates[medians.index(min(medians))].to_conv2d.median == 1
        assert target.candidates[4].to_naive.median == 1
    assert all(c.error < 1e-4 for t in layers for c in t.candidates[2:])
    assert all(0.9 < c.equal_regions <= 1 for c in report.targets[-1].candidates[2:])
    assert report.target(names[-1]).shape == "96->96 @ 1x1"
    assert model.training
    assert [m.backend for m in model.modules() if isinstance(m, DRConv2d)] == ["naive"] + [None] * 31
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def test_every_layer_and_only_layers() -> None:
    model = nn.Sequential(DRConv2d(3, 3, 1), DRConv2d(3, 3, 1), DRConv2d(3, 3, 1, num_regions=2))
    image = torch.randn(1, 3, 4, 4)
    grouped = profile_model(model, image, ProfileOptions(network=False, **QUICK))
    assert [t.label for t in grouped.targets] == ["0 x2", "2"]
    every = profile_model(model, image, ProfileOptions(every_layer=True, network=False, **QUICK))
    assert [t.label for t in every.targets] == ["0", "1", "2"]
    whole = profile_model(model, image, ProfileOptions(layers=False, **QUICK))
    assert [t.label for t in whole.targets] == ["network"]


def test_dynamic_candidates_in_both_layouts_and_cold() -> None:
    options = ProfileOptions(("eager",), "both", caches=("warm", "cold"), network=False, **QUICK)
    report = profile_model(nn.Sequential(DRConv2d(3, 4, 3, padding=1)), torch.randn(1, 3, 5, 6), options)
    labels = [c.label for c in report.targets[0].candidates]
    warm = [
        "conv2d NCHW",
        "conv2d channels_last",
        "eager NCHW",
        "naive NCHW",
        "eager channels_last",
        "naive channels_last",
    ]
    assert labels == [*warm, *(f"{label} cold" for label in warm)]
    assert all(c.timing is not None and c.to_conv2d is not None for c in report.targets[0].candidates)
    last = torch.randn(1, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    own = profile_model(nn.Sequential(DRConv2d(3, 4, 1)), last, ProfileOptions(("eager",), **QUICK))
    assert {c.layout for c in own.targets[0].candidates if c.candidate != "conv2d"} == {"channels_last"}


def test_a_backend_that_is_wrong_is_refused_with_its_error(wrong_backend: str) -> None:
    layer = nn.Sequential(DRConv2d(3, 4, 3, padding=1))
    options = ProfileOptions(("wrong", "picky", "broken", "eager"), stop=ONCE, roofline=False)
    report = profile_model(layer, torch.randn(1, 3, 8, 8), options)
    found = by_name(report.targets[0])
    wrong = found[wrong_backend]
    assert (wrong.timing, wrong.peak_memory) == (None, None)
    assert wrong.error == pytest.approx(0.01, rel=0.1)
    assert "differs from the reference by 1.0e-02, more than 1e-04: not timed" in wrong.refusal
    assert "it takes float64, not torch.float32" in found["picky"].refusal
    assert found["broken"].refusal == "out of order"
    assert found["eager"].timing is not None
    assert found["conv2d"].timing is not None
    network = by_name(report.targets[-1])
    assert network[wrong_backend].timing is None
    assert network[wrong_backend].refusal.startswith("refused in layer 0: differs from the reference")
    assert any("not timed" in str(row[-1]) for row in report.to_table().rows)
    assert not any("wrong" in label for tie in report.targets[0].ranking for label in tie)


def test_one_wrong_layer_refuses_its_whole_group(wrong_backend: str) -> None:
    """A layer whose filters are zero hides the error; its twin of equal sizes does not."""
    model = nn.Sequential(DRConv2d(3, 3, 1, bias=False), DRConv2d(3, 3, 1, bias=False))
    for parameter in model[0].filter_generator.parameters():
        nn.init.zeros_(parameter)
    image = torch.randn(1, 3, 4, 4)
    alone = profile_model(nn.Sequential(model[0]), image, ProfileOptions((wrong_backend,), network=False, **QUICK))
    assert by_name(alone.targets[0])[wrong_backend].refusal is None
    model[1].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    grouped = profile_model(model, image, ProfileOptions((wrong_backend,), network=False, **QUICK))
    (target,) = grouped.targets
    assert target.members == ("0", "1")
    assert by_name(target)[wrong_backend].refusal.startswith("in 1: differs from the reference")


@pytest.mark.parametrize("which", ["backward", "step"])
def test_passes_with_gradients_leave_no_trace_in_the_model(which: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), DRConv2d(4, 4, 1), DynamicConv2d(4, 2, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options = ProfileOptions(("eager",), which=which, stop=StopRule(rounds=2, warmup=1))
    report = profile_model(model, torch.randn(2, 3, 6, 6), options)
    assert all(c.timing is not None for t in report.targets for c in t.candidates), report.to_table().rows
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    first = by_name(report.targets[0])
    # A convolution's gradients of input and weights, 4 * 4 multiply-adds at 72 positions each.
    passes = {"backward": 2, "step": 3}[which]
    assert first["conv2d"].roofline.madds == passes * 16 * 72
    assert report.which == which


def test_a_backend_with_wrong_gradients_is_refused_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def backward(*args: Any) -> Any:
        found = naive.backward(*args)
        return found._replace(region_filters=found.region_filters * 1.1)

    row = Backend("slanted", "drconv.kernels.naive", None, (torch.float32,), automatic=False)
    monkeypatch.setitem(BACKENDS._entries, "slanted", row)
    genuine: Callable[[Backend], Any] = Backend.backward
    monkeypatch.setattr(Backend, "backward", lambda self: backward if self.name == "slanted" else genuine(self))
    layer, image = nn.Sequential(DRConv2d(3, 4, 1)), torch.randn(1, 3, 8, 8)
    forward = profile_model(layer, image, ProfileOptions(("slanted",), **QUICK))
    assert by_name(forward.targets[0])["slanted"].refusal is None
    step = profile_model(layer, image, ProfileOptions(("slanted",), which="step", **QUICK))
    assert "differs from the reference" in by_name(step.targets[0])["slanted"].refusal


def test_dict_has_raw_samples_and_plain_values() -> None:
    options = ProfileOptions(stop=StopRule(rounds=7, warmup=1))
    found = profile_model(DRConv2d(3, 4, 1), torch.randn(1, 3, 8, 8), options).to_dict()
    candidate = found["targets"][0]["candidates"][2]
    assert candidate["candidate"] == "native"
    assert len(candidate["samples_s"]) == candidate["n"] == 7
    timing = Timing(tuple(candidate["samples_s"]))
    assert candidate["median_s"] == timing.median
    assert candidate["interval_s"] == list(timing.interval)
    assert candidate["warmup_s"] > 0
    assert candidate["calls_per_sample"] >= 1
    assert found["input_shape"] == [1, 3, 8, 8]
    assert found["targets"][0]["maps"]["regions"] >= 1
    assert found["peaks"]["flops"] > 0


def test_refusals() -> None:
    with pytest.raises(ModelError, match="no dynamic layer"):
        profile_model(nn.Conv2d(3, 3, 1), torch.randn(1, 3, 4, 4))
    with pytest.raises(UnknownNameError, match="did you mean eager"):
        ProfileOptions(backends=("eagr",))
    with pytest.raises(ModelError, match="Sequential failed on an input of 1x3x4x4"):
        profile_model(nn.Sequential(DRConv2d(3, 3, 1), nn.Linear(7, 7)), torch.randn(1, 3, 4, 4))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"layout": "NHWC"}, "layout must be one of 'own', 'NCHW', 'channels_last', 'both', got"),
        ({"which": "train"}, "which must be one of 'forward', 'backward', 'step'"),
        ({"caches": ("lukewarm",)}, "caches must be one of 'warm', 'cold'"),
        ({"caches": ()}, "caches must name one"),
        ({"stages": True, "which": "step"}, "stages are timed in the forward pass only"),
        ({"layers": False, "network": False}, "leave nothing to time"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_that_mean_nothing(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        ProfileOptions(**wrong)


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
    (call,) = record_calls(Overwriting(), x)
    assert torch.equal(call.args[0], x)
    assert torch.equal(call.operands[0], x)


def test_a_layer_that_runs_twice_is_two_calls() -> None:
    layer = DRConv2d(3, 3, 1)
    calls = record_calls(nn.Sequential(layer, nn.MaxPool2d(2), layer), torch.randn(1, 3, 4, 4))
    assert [(call.name, call.shape) for call in calls] == [("0", "3->3 @ 4x4"), ("0#2", "3->3 @ 2x2")]


def test_a_model_that_needs_its_guides_has_no_baseline_but_is_profiled() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.guide = GuideConv2d(3, 4)
            self.conv = DRConv2d(3, 3, 1, num_regions=4, own_guide=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x, guided_feature=self.guide(x).tanh())

    report = profile_model(Block(), torch.randn(1, 3, 8, 8), ProfileOptions(stages=True, **QUICK))
    first, second, _, eager, _ = report.targets[-1].candidates
    assert "without its guides" in first.refusal
    assert "without its guides" in second.refusal
    assert eager.timing is not None
    assert eager.to_conv2d is None
    assert eager.to_naive is not None
    assert [s.stage for s in report.targets[0].stages.stages] == ["pool", "generator", "bucket", "convolution"]


def test_dynamic_layers_without_regions_are_profiled_too() -> None:
    model = nn.Sequential(DynamicConv2d(3, 8, 3, padding=1), nn.ReLU(), DynamicConv2d(8, 4, 1))
    report = profile_model(model, torch.randn(2, 3, 8, 8), ProfileOptions(stop=ONCE, stages=True))
    assert [t.name for t in report.targets] == ["0", "2", "network"]
    assert all(c.timing is not None for t in report.targets for c in t.candidates)
    assert all(c.equal_regions is None for c in report.targets[-1].candidates)
    assert report.targets[0].maps is None
    stages = report.targets[0].stages.stages
    assert [s.stage for s in stages] == ["pool", "attention", "mixing", "bucket", "convolution"]
    # Two samples: 3 -> 1 -> 4 in the attention, 4 experts of 8 * 27 weights and 8 biases, and 27 * 8 at 64 positions.
    assert [s.madds for s in stages] == [0, 2 * 7, 2 * 4 * (216 + 8), 0, 2 * 216 * 64]


def test_a_trace_has_a_labelled_range_for_every_candidate(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trace.json"
    options = ProfileOptions(("eager",), trace=path, **QUICK)
    profile_model(nn.Sequential(DRConv2d(3, 3, 1)), torch.randn(1, 3, 4, 4), options)
    text = path.read_text()
    for target in ("0", "network"):
        for label in ("conv2d NCHW", "conv2d channels_last", "eager NCHW", "naive NCHW"):
            assert f'"{target}: {label}"' in text
