"""What would be timed, and why the rest would not: a profile's targets and candidates without a single time."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from drconv.analysis.profile.layouts import layout_of
from drconv.analysis.profile.model import NETWORK, restored
from drconv.analysis.profile.options import LAYOUTS, ProfileOptions
from drconv.analysis.profile.overhead import CONV2D
from drconv.analysis.profile.targets import LayerCall, group_calls, record_calls
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.report import Column, Table

__all__ = ["PlannedCandidate", "PlannedTarget", "ProfilePlan", "plan_calls", "plan_model"]


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate, and why it cannot run; None if it can. Whether it is right is found out before it is timed."""

    candidate: str
    layout: str
    reason: str | None = None


@dataclass(frozen=True)
class PlannedTarget:
    """A layer, or the network, with the layers of equal sizes that it stands for."""

    name: str
    shape: str
    members: tuple[str, ...]
    candidates: tuple[PlannedCandidate, ...]


@dataclass(frozen=True)
class ProfilePlan:
    """Targets and candidates, and backends that were not asked for."""

    targets: tuple[PlannedTarget, ...]
    left_out: tuple[str, ...] = ()

    def to_table(self) -> Table:
        """Return one row per target and candidate."""
        columns = (Column("target"), Column("shape"), Column("candidate"), Column("layout"), Column("timed"))
        rows = tuple(
            (
                f"{t.name} x{len(t.members)}" if len(t.members) > 1 else t.name,
                t.shape,
                c.candidate,
                c.layout,
                "yes, if it agrees with the reference" if c.reason is None and c.candidate != CONV2D
                else "yes" if c.reason is None else f"no: {c.reason}",
            )
            for t in self.targets
            for c in t.candidates
        )  # fmt: skip
        notes = [f"Not asked for: {', '.join(self.left_out)} (--backend names them)."] if self.left_out else []
        return Table("What would be timed", columns, rows, (*notes, "Nothing was timed."))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan."""
        return {"dry_run": True, "targets": [asdict(t) for t in self.targets], "left_out": list(self.left_out)}


def plan_model(model: nn.Module, input: Tensor, options: ProfileOptions | None = None) -> ProfilePlan:
    """Return what `profile_model` would time; the model runs once.

    Raises:
        ModelError: the model has no dynamic layer, or fails on the input.
    """
    asked = options or ProfileOptions()
    with restored(model):
        calls = record_calls(model, input)
    plan = plan_calls(calls if asked.layers else [], asked)
    if not asked.network:
        return plan
    found = []
    for layout, names in _pairs(asked, layout_of(input)):
        for name in names:
            reasons = ((c.name, _objection(c.problem, name, layout)) for c in calls)
            refused = next(((layer, reason) for layer, reason in reasons if reason is not None), None)
            reason = None if refused is None else f"refused in layer {refused[0]}: {refused[1]}"
            found.append(PlannedCandidate(name, layout, reason))
    network = PlannedTarget(NETWORK, type(model).__name__, (), (*_convolutions(), *found))
    return replace(plan, targets=(*plan.targets, network))


def plan_calls(calls: Sequence[LayerCall], options: ProfileOptions) -> ProfilePlan:
    """Return what would be timed for some calls of layers."""
    targets = []
    for group in group_calls(calls, options.every_layer):
        first = group[0]
        found = [
            PlannedCandidate(name, layout, _objection(first.problem, name, layout))
            for layout, names in _pairs(options, layout_of(first.args[0]))
            for name in names
        ]
        members = tuple(call.name for call in group)
        targets.append(PlannedTarget(first.name, first.shape, members, (*_convolutions(), *found)))
    return ProfilePlan(tuple(targets), tuple(name for name in BACKENDS if name not in options.names))


def _pairs(options: ProfileOptions, own: str) -> list[tuple[str, list[str]]]:
    return [(layout, options.names) for layout in options.layouts(own)]


def _convolutions() -> list[PlannedCandidate]:
    return [PlannedCandidate(CONV2D, layout) for layout in LAYOUTS]


def _objection(problem: RegionConvProblem, backend: str, layout: str) -> str | None:
    memory_format: torch.memory_format = LAYOUTS[layout]
    return BACKENDS[backend].why_not(replace(problem, memory_format=memory_format))
