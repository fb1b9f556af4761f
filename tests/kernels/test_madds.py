"""What a backend says that it executes is what it executes, by PyTorch's own count of its operators."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import drconv.kernels.eager as eager
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.ops import guided_mask
from tests.kernels.cases import CASES, IDS, ON_CPU, Case, make


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("way", [*ON_CPU, "eager-sorted"])
def test_executed(case: Case, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "eager-sorted":
        monkeypatch.setattr(eager, "_ALL_FILTERS_SIZE", 0)
    backend = BACKENDS[way.partition("-")[0]]
    made = make(case, torch.float64 if torch.float64 in backend.dtypes else torch.float32)
    settings = (case.stride, case.padding, case.dilation, case.groups)
    problem = RegionConvProblem.of(made.input, made.region_filters, case.output_size, *settings)
    mask = guided_mask(made.guided_feature)
    with FlopCounterMode(display=False) as counter:
        backend.forward()(problem, made.input, made.region_filters, mask)
    counted = counter.get_total_flops() // 2
    if way == "native":
        assert counted == 0, "the counter sees operators of PyTorch only"
        counted = problem.madds
    elif counted == 0:
        # The depthwise way multiplies and adds element by element, which that counter does not see: one filter each.
        assert way.startswith("eager")
        assert case.groups == case.channels == case.out_channels
        counted = problem.madds
    assert backend.madds(problem) == counted
    assert problem.madds <= counted <= case.regions * problem.madds
