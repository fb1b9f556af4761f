"""Count every layer three ways that share no formula, and compare."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from drconv.analysis.flops.count import Counting, as_trace, trace_if_whole
from drconv.analysis.flops.counters import closed_form, registered_counter
from drconv.analysis.flops.observe import Observation, observe
from drconv.report import Cell, Column, Table

__all__ = ["CrossCheck", "LayerCheck", "cross_check"]


@dataclass(frozen=True)
class LayerCheck:
    """Multiply-adds of one layer, per image.

    Attributes:
        name: of the module; empty for what the model does outside of its layers.
        type: class name.
        closed_form: from the layer's sizes; None where there is no formula for the class.
        fvcore: from the traced operators.
        dispatch: from `torch.utils.flop_counter.FlopCounterMode`.
        registered: whether a user's formula counts here, which stands because the operators tell another story.
    """

    name: str
    type: str
    closed_form: int | None
    fvcore: int
    dispatch: int
    registered: bool = False

    @property
    def agrees(self) -> bool:
        """Whether all that is known is equal."""
        return self.registered or (self.fvcore == self.dispatch and self.closed_form in (None, self.fvcore))


@dataclass(frozen=True)
class CrossCheck:
    """Every layer counted three ways.

    Attributes:
        input_size: (C, H, W).
        layers: those in which anything was counted.
    """

    input_size: tuple[int, ...]
    layers: tuple[LayerCheck, ...]

    @property
    def disagreeing(self) -> tuple[LayerCheck, ...]:
        """The layers with unequal counts."""
        return tuple(layer for layer in self.layers if not layer.agrees)

    def to_table(self) -> Table:
        """Return a row per layer and the total."""
        columns = (
            Column("layer"),
            Column("type"),
            Column("closed form", "count"),
            Column("fvcore", "count"),
            Column("FlopCounterMode", "count"),
            Column("agree"),
        )
        rows: list[tuple[Cell, ...]] = [
            (x.name, x.type, x.closed_form, x.fvcore, x.dispatch, _verdict(x)) for x in self.layers
        ]
        # A total of some layers only would read as one of all.
        known = [x.closed_form for x in self.layers if x.closed_form is not None]
        closed = sum(known) if len(known) == len(self.layers) else None
        totals = (closed, sum(x.fvcore for x in self.layers), sum(x.dispatch for x in self.layers))
        rows.append(("total", None, *totals, "no" if self.disagreeing else "yes"))
        without = [x.name or "(the model itself)" for x in self.layers if x.closed_form is None]
        notes = ["MAdds per image; FlopCounterMode's FLOPs are halved."]
        if without:
            notes.append(f"No closed form, so that two counts are compared: {', '.join(without)}.")
        if any(x.registered for x in self.layers):
            notes.append("registered: a formula given to register_counter stands, and what ran is beside it.")
        return Table(
            f"Three counts for one {'x'.join(map(str, self.input_size))} image", columns, tuple(rows), tuple(notes)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return counts as integers."""
        keys = ("name", "type", "closed_form", "fvcore", "dispatch", "registered", "agrees")
        return {
            "input_size": list(self.input_size),
            "agrees": not self.disagreeing,
            "layers": [{key: getattr(layer, key) for key in keys} for layer in self.layers],
        }


def _verdict(layer: LayerCheck) -> str:
    if layer.registered:
        return "registered"
    return "yes" if layer.agrees else "no"


def cross_check(model: nn.Module, input_size: tuple[int, ...] = (3, 224, 224)) -> CrossCheck:
    """Count the multiply-adds of every layer by closed form, with fvcore, and with PyTorch's own counter.

    Args:
        model: any module that takes one tensor `[B, *input_size]`, not on the meta device.
        input_size: of one image, (C, H, W).

    Returns:
        The three counts of each layer, and where they differ.

    Raises:
        ArgumentError: a size is not positive, or the model is on the meta device.
        ModelError: the model fails on such an input.
    """
    seen = observe(model, input_size)
    by_fvcore = Counting(model, seen, trace_if_whole(model, seen, input_size))
    by_dispatch = Counting(model, seen, as_trace(model, seen))
    traced, watched = ({layer.name: layer.madds for layer in x.layers()} for x in (by_fvcore, by_dispatch))
    held = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    checks = []
    for name, module in model.named_modules():
        if traced.get(name) or watched.get(name):
            registered = registered_counter(module) is not None
            checks.append(
                LayerCheck(
                    name,
                    type(module).__name__,
                    _closed(module, name, seen, held),
                    traced.get(name, 0),
                    seen.madds[name] if registered else watched.get(name, 0),
                    registered,
                )
            )
    return CrossCheck(tuple(input_size), tuple(checks))


def _closed(module: nn.Module, name: str, seen: Observation, held: Counter[int]) -> int | None:
    """Return what the formula of a module's class gives for all its calls; None if that is not what the layer ran."""
    formula = closed_form(module)
    calls = seen.calls.get(name, ())
    parts = [part for part in module.modules() if part is not module]
    # A part that stands in two layers is counted in the first; a forward called by its name is no call.
    if formula is None or not calls or any(held[id(part)] > held[id(module)] for part in parts):
        return None
    total = 0
    for call in calls:
        if not call.inputs or call.output is None:
            return None
        found = formula(module, call.inputs[0], call.output)
        if found is None:
            return None
        if isinstance(found, Mapping):
            # A layer that is handed a guided feature leaves its own guide alone.
            unused = 0 if f"{name}.guide".lstrip(".") in seen.calls else found.get("guide", 0)
            total += sum(found.values()) - unused
        else:
            total += found
    return total
