"""The stages of a dynamic layer, each on its own: where its time goes, beside where its multiply-adds go."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from drconv.analysis.profile.report import StageProfile, StageSplit
from drconv.analysis.profile.targets import LayerCall
from drconv.analysis.timing import Candidate, StopRule, time_interleaved
from drconv.kernels import BACKENDS
from drconv.layers import DynamicLayer, set_backend
from drconv.ops import guided_mask

__all__ = ["stage_split"]

_WHOLE = "layer"


def stage_split(
    call: LayerCall, backend: str, layout: str, madds: Mapping[str, int] | None, stop: StopRule, device: torch.device
) -> StageSplit:
    """Time the stages of a layer and the layer itself against each other, in inference mode.

    Args:
        call: of the layer, which is left with this backend.
        backend: that applies the filters.
        layout: of the call, for the record.
        madds: stage -> multiply-adds of the call.
        stop: when to stop.
        device: of the call.
    """
    stages = {name: Candidate(work, primed=True) for name, work in _stages(call, backend)}
    whole = Candidate(partial(call.layer, *call.args), partial(set_backend, call.layer, backend), primed=True)
    with torch.inference_mode():
        timings = time_interleaved({**stages, _WHOLE: whole}, stop, device)
    rows = tuple(StageProfile(name, timings[name], None if madds is None else madds.get(name, 0)) for name in stages)
    return StageSplit(backend, layout, rows, timings[_WHOLE])


def _stages(call: LayerCall, backend: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield (stage, what it does); between scores and convolution comes "bucket", from scores to regions."""
    layer = call.layer
    seen = _watch_stages(call)
    for path, stage in layer.STAGES.items():
        if path not in seen or path == "region_conv":
            continue
        args, _ = seen[path]
        yield stage, partial(_without_other_stages(layer, path, seen), *args)
    input, filters, guided, bias = call.operands
    chosen = BACKENDS[backend]
    to_mask = chosen.guided_mask() or guided_mask
    yield "bucket", partial(to_mask, guided)
    convolve, problem, mask = chosen.forward(), call.problem, to_mask(guided)

    def convolution() -> Tensor:
        output = convolve(problem, input, filters, mask)
        return output if bias is None else output.add_(bias.view(-1, 1, 1))

    yield layer.STAGES["region_conv"], convolution


def _watch_stages(call: LayerCall) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """Return path of a stage -> what it was called with and what it gave, for the stages that the layer has."""
    seen: dict[str, tuple[tuple[Any, ...], Any]] = {}
    parts = dict(call.layer.named_modules())
    with torch.no_grad(), _hooks(parts, list(call.layer.STAGES), seen):
        call.layer(*call.args)
    return seen


@contextmanager
def _hooks(
    parts: Mapping[str, nn.Module], paths: list[str], seen: dict[str, tuple[tuple[Any, ...], Any]]
) -> Iterator[None]:
    handles = []
    for path in paths:
        if path in parts:

            def after(module: nn.Module, args: tuple[Any, ...], output: Any, path: str = path) -> None:
                seen[path] = (args, output)

            handles.append(parts[path].register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Replay(nn.Module):
    """Stands in for a stage inside of another, and gives what that gave."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: Any) -> Any:
        return self.output


def _without_other_stages(layer: DynamicLayer, path: str, seen: Mapping[str, tuple[tuple[Any, ...], Any]]) -> nn.Module:
    """Return a copy of a stage's module in which the stages inside of it cost nothing."""
    module = deepcopy(layer.get_submodule(path))
    for other, (_, output) in seen.items():
        if other.startswith(f"{path}."):
            parent, _, name = other.removeprefix(f"{path}.").rpartition(".")
            setattr(module.get_submodule(parent), name, _Replay(output))
    return module
