"""Floors and what binds, from numbers written here; and that peaks are measured once."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from drconv.analysis.profile import measure_peaks, peaks
from drconv.analysis.profile.memory import peak_memory
from drconv.analysis.profile.overhead import layer_overheads, tiny_layer
from drconv.analysis.profile.peaks import Peaks
from drconv.analysis.profile.roofline import Traffic, binding, roofline
from drconv.analysis.timing import Candidate
from drconv.kernels import native
from drconv.layers import DRConv2d, DynamicConv2d, fused_inference

PEAKS = Peaks(flops=100e9, read=10e9, cache_read=40e9, copy=8e9, cache=1 << 20)
CPU = torch.device("cpu")


def test_floors_are_what_the_peaks_take() -> None:
    found = roofline(1e-3, Traffic(madds=25_000_000, bytes=2_000_000), PEAKS, 1e-5)
    assert found.arithmetic_floor == pytest.approx(0.5e-3)
    assert found.bytes_floor == pytest.approx(0.2e-3)  # 2 MB do not fit into half of 1 MiB
    assert not found.fits_cache
    assert found.flops == pytest.approx(50e9)
    assert found.peak_share == pytest.approx(0.5)
    assert found.bandwidth == pytest.approx(2e9)
    small = roofline(1e-3, Traffic(madds=1, bytes=400_000), PEAKS)
    assert small.fits_cache
    assert small.bytes_floor == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("seconds", "traffic", "overhead", "end"),
    [
        (1e-3, Traffic(40_000_000, 10_000), 1e-5, ": arithmetic binds, 80% of the time"),
        (1e-3, Traffic(1_000_000, 6_000_000), 1e-5, ": memory binds, 60% of the time"),
        (1e-4, Traffic(1_000, 1_000), 7e-5, ": call overhead binds, 70% of the time"),
        (1e-3, Traffic(5_000_000, 1_000), 1e-5, ": none binds, arithmetic comes nearest with 10% of the time"),
        (1e-3, Traffic(1_000, 1_000), None, ": none binds, memory comes nearest with 0% of the time"),
    ],
)
def test_the_sentence_names_the_largest_floor(
    seconds: float, traffic: Traffic, overhead: float | None, end: str
) -> None:
    sentence = binding("native NCHW", seconds, roofline(seconds, traffic, PEAKS, overhead))
    assert sentence.endswith(end)
    assert sentence.startswith("native NCHW takes ")


def test_peaks_are_measured_once_for_a_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_peaks(CPU, torch.float32)
    assert min(first.flops, first.read, first.cache_read, first.copy) > 1e6
    assert first.cache >= 1 << 18
    monkeypatch.setattr(peaks, "time_interleaved", lambda *a: pytest.fail("measured again"))
    assert measure_peaks(CPU, torch.float32) is first


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (DRConv2d(24, 48, 3, stride=2, padding=1, dilation=2, num_regions=5, filter_generator="basis"), (5, 5)),
        (DRConv2d(24, 24, 3, groups=24), (3, 3)),
        (DynamicConv2d(24, 12, (1, 3), num_experts=3), (1, 3)),
    ],
    ids=["drconv", "depthwise", "dynamic"],
)
def test_a_tiny_layer_is_of_the_same_kind_and_gives_one_position(layer: nn.Module, size: tuple[int, int]) -> None:
    tiny, found = tiny_layer(layer)
    assert type(tiny) is type(layer)
    assert found == size
    assert (tiny.kernel_size, tiny.stride, tiny.dilation) == (layer.kernel_size, layer.stride, layer.dilation)
    assert (tiny.groups > 1) == (layer.groups > 1)
    assert tiny(torch.randn(1, 4, *size)).shape == (1, 4, 1, 1)
    found = layer_overheads(layer, ["eager"], "forward", CPU)
    assert set(found) == {"conv2d", "eager"}
    assert min(found.values()) > 0


def test_a_layer_of_somebody_else_has_no_tiny_one() -> None:
    class Mine(DRConv2d):
        pass

    assert tiny_layer(Mine(4, 4, 1)) is None
    assert layer_overheads(Mine(4, 4, 1), ["eager"], "forward", CPU) == {}


def _twice() -> torch.Tensor:
    first = torch.empty(100, 1000)
    second = first + 1
    del first
    return second * 2


def _one_after_the_other() -> torch.Tensor:
    for _ in range(3):
        last = torch.empty(100, 1000)
        del last
    return torch.empty(10)


@pytest.mark.parametrize(("call", "tensors"), [(_twice, 2), (_one_after_the_other, 1)])
def test_peak_memory_counts_what_is_held_at_once(call: Callable[[], torch.Tensor], tensors: int) -> None:
    assert peak_memory(Candidate(call), CPU) == pytest.approx(tensors * 400_000, rel=0.01)


def test_peak_memory_does_not_count_what_was_there_before() -> None:
    kept: list[torch.Tensor] = []
    candidate = Candidate(lambda: kept[0].sum(), prepare=lambda: kept.append(torch.zeros(100, 1000)))
    assert peak_memory(candidate, CPU) < 1000


@pytest.mark.parametrize("fused", [True, False])
def test_peak_memory_is_that_of_the_call_that_is_timed(fused: bool) -> None:
    """In one call no filters are written to memory; under a profiler that layers see there would be."""
    if native.library.why_not() is not None:
        pytest.skip("the compiled kernels cannot run here")
    layer = DRConv2d(64, 64, 1).eval()
    input = torch.randn(16, 64, 4, 4)
    filters = 16 * 8 * 64 * 64 * 4
    with torch.inference_mode(), fused_inference(fused):
        layer(input)
        assert (peak_memory(Candidate(lambda: layer(input)), CPU) < filters) == fused


def test_the_profiler_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    before = [torch.zeros(100_000)]
    peak_memory(Candidate(lambda: (before.clear(), torch.empty(5))), CPU)
    assert capfd.readouterr() == ("", "")
