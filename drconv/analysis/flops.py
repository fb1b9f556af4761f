"""Count multiply-adds per image with fvcore, layer by layer, and split every region layer into its stages.

Convention: one multiply-add of a convolution or a linear layer counts one (MAdds, as in the papers). What else fvcore
counts (normalisation, pooling, resizing) stands beside it. Element-wise operations and data movement are not counted.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from drconv.analysis.running import eval_mode, model_errors
from drconv.errors import ArgumentError
from drconv.layers.base import DynamicLayer
from drconv.ops import region_conv2d_madds
from drconv.report import Cell, Column, Table

with warnings.catch_warnings():
    # fvcore scripts a loss function at import, which newer releases of torch deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

__all__ = ["CONVENTION", "MADDS_OPS", "OP_FLOPS", "FlopReport", "LayerFlops", "StageFlops", "count_flops"]

CONVENTION = "MAdds of convolutions and linear layers, per image; one multiply-add is 1"


def _region_conv2d(inputs: list[Any], outputs: list[Any]) -> int:
    return region_conv2d_madds(get_shape(inputs[1]), get_shape(inputs[2]))


OP_FLOPS: dict[str, Callable[[list[Any], list[Any]], int]] = {"drconv::region_conv2d": _region_conv2d}
"""Formula of every operator of ours: (inputs, outputs) of the traced call -> multiply-adds."""

MADDS_OPS = frozenset({"conv", "linear", "addmm", "mm", "bmm", "matmul", "einsum", "region_conv2d"})
"""Operators whose count is multiply-adds; the rest of what is counted is reported as `other`."""


@dataclass(frozen=True)
class StageFlops:
    """One stage of a region layer: multiply-adds, other counted operations (per image), and stored parameters."""

    stage: str
    madds: int
    other: int
    params: int


@dataclass(frozen=True)
class LayerFlops:
    """One layer. `stages` is empty unless the layer has regions.

    Attributes:
        name: of the module.
        type: class name.
        madds: multiply-adds per image.
        other: other counted operations per image.
        params: stored parameters.
        stages: pool, generator, guide and convolution of a region layer.
    """

    name: str
    type: str
    madds: int
    other: int
    params: int
    stages: tuple[StageFlops, ...] = ()


@dataclass(frozen=True)
class FlopReport:
    """Counts of one model for one image.

    Attributes:
        madds: multiply-adds of convolutions and linear layers.
        other: other counted operations.
        params: stored parameters, shared ones once.
        input_size: (C, H, W).
        layers: every layer that counts or stores anything, in the order of `named_modules`.
        uncounted: operators that ran but have no formula -> times they ran.
        uncalled: modules with parameters that did not run.
    """

    madds: int
    other: int
    params: int
    input_size: tuple[int, ...]
    layers: tuple[LayerFlops, ...]
    uncounted: Mapping[str, int]
    uncalled: tuple[str, ...]

    def to_table(self) -> Table:
        """Return a row per layer, the stages of region layers below their layer, and the total."""
        columns = (
            Column("layer"),
            Column("type"),
            Column("stage"),
            Column("MAdds", "count"),
            Column("share", "share"),
            Column("other", "count"),
            Column("params", "count"),
        )
        rows: list[tuple[Cell, ...]] = []
        total = max(1, self.madds)
        for x in self.layers:
            rows.append((x.name, x.type, None, x.madds, x.madds / total, x.other, x.params))
            rows += [(x.name, None, s.stage, s.madds, s.madds / total, s.other, s.params) for s in x.stages]
        rows.append(("total", None, None, self.madds, 1.0 if self.madds else 0.0, self.other, self.params))
        size = "x".join(map(str, self.input_size))
        notes = [f"{CONVENTION}. 'other' is normalisation, pooling and resizing; element-wise operations are left out."]
        if self.uncounted:
            listed = ", ".join(f"{name} x{count}" for name, count in self.uncounted.items())
            notes.append(f"Not counted: {listed}.")
        if self.uncalled:
            notes.append(f"Never called: {', '.join(self.uncalled)}.")
        return Table(f"MAdds and parameters for one {size} image", columns, tuple(rows), tuple(notes))

    def to_dict(self) -> dict[str, Any]:
        """Return counts as integers."""
        return {
            "convention": CONVENTION,
            "input_size": list(self.input_size),
            "madds": self.madds,
            "other": self.other,
            "params": self.params,
            "layers": [
                {
                    "name": x.name,
                    "type": x.type,
                    "madds": x.madds,
                    "other": x.other,
                    "params": x.params,
                    "stages": {s.stage: {"madds": s.madds, "other": s.other, "params": s.params} for s in x.stages},
                }
                for x in self.layers
            ],
            "uncounted": dict(self.uncounted),
            "uncalled": list(self.uncalled),
        }


def count_flops(model: nn.Module, input_size: tuple[int, ...] = (3, 224, 224), *, batch_size: int = 1) -> FlopReport:
    """Count a model's multiply-adds per image, as it runs in eval mode.

    Train or eval mode does not matter and is left as it was.

    Args:
        model: any module that takes one tensor `[B, *input_size]`.
        input_size: of one image, (C, H, W).
        batch_size: of the traced input; the result is divided by it.

    Returns:
        Counts per image.

    Raises:
        ArgumentError: a size is not positive, or a count does not scale with the batch.
        ModelError: the model fails on such an input.
    """
    if batch_size < 1 or any(size < 1 for size in input_size):
        raise ArgumentError(f"sizes must be at least 1, got {input_size=}, {batch_size=}")
    analysis = _analyse(model, input_size, batch_size)
    counts = {name: _Count.of(ops) for name, ops in analysis.by_module_and_operator().items()}
    per_image = {name: count.per_image(batch_size) for name, count in counts.items()}
    params = {name: sum(p.numel() for p in module.parameters(recurse=False)) for name, module in model.named_modules()}
    layers = tuple(_layers(model, per_image, params))
    uncalled = sorted(name for name in analysis.uncalled_modules() if params.get(name))
    return FlopReport(
        madds=per_image[""].madds,
        other=per_image[""].other,
        params=sum(p.numel() for p in model.parameters()),
        input_size=tuple(input_size),
        layers=layers,
        uncounted={name.removeprefix("aten::"): count for name, count in sorted(analysis.unsupported_ops().items())},
        uncalled=tuple(uncalled),
    )


@dataclass(frozen=True)
class _Count:
    madds: int
    other: int

    @classmethod
    def of(cls, ops: Mapping[str, float]) -> "_Count":
        madds = sum(int(n) for op, n in ops.items() if op in MADDS_OPS)
        return cls(madds, sum(int(n) for n in ops.values()) - madds)

    def __sub__(self, parts: Iterable["_Count"]) -> "_Count":
        parts = list(parts)
        return _Count(self.madds - sum(p.madds for p in parts), self.other - sum(p.other for p in parts))

    def per_image(self, batch_size: int) -> "_Count":
        if self.madds % batch_size:
            raise ArgumentError(
                f"{self.madds} multiply-adds for {batch_size} images do not divide evenly: part of the model does not "
                "scale with the batch; count with batch_size=1"
            )
        return _Count(self.madds // batch_size, self.other // batch_size)


def _analyse(model: nn.Module, input_size: tuple[int, ...], batch_size: int) -> FlopCountAnalysis:
    like = next(model.parameters(), torch.empty(0))
    shape = (batch_size, *input_size)
    with eval_mode(model), model_errors(model, shape):
        image = torch.zeros(shape, dtype=like.dtype, device=like.device)
        analysis = FlopCountAnalysis(model, image).set_op_handle(**OP_FLOPS, **{"aten::unflatten": None})
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
        analysis.total()
    return analysis


def _layers(model: nn.Module, counts: Mapping[str, _Count], params: Mapping[str, int]) -> Iterable[LayerFlops]:
    """Yield what each module does itself; a region layer is one entry with the stages of all that is inside it."""
    regions = [module for module in model.modules() if isinstance(module, DynamicLayer)]
    inside = {id(part) for layer in regions for part in layer.modules() if part is not layer}
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        kind = type(module).__name__
        if isinstance(module, DynamicLayer):
            total = counts.get(name, _Count(0, 0))
            stages = tuple(_stages(name, module, counts, params))
            yield LayerFlops(name, kind, total.madds, total.other, sum(s.params for s in stages), stages)
        else:
            own = _own(name, module, counts)
            if own.madds or own.other or params[name]:
                yield LayerFlops(name, kind, own.madds, own.other, params[name])


def _own(name: str, module: nn.Module, counts: Mapping[str, _Count]) -> _Count:
    """Return what a module does outside of its children."""
    zero = _Count(0, 0)
    prefix = f"{name}." if name else ""
    children = [counts.get(prefix + child, zero) for child, _ in module.named_children()]
    return counts.get(name, zero) - children


def _stages(
    name: str, layer: DynamicLayer, counts: Mapping[str, _Count], params: Mapping[str, int]
) -> Iterable[StageFlops]:
    totals = {stage: Counter[str]() for stage in dict.fromkeys(layer.STAGES.values())}
    for path, module in layer.named_modules():
        full = ".".join(part for part in (name, path) if part)
        own = _own(full, module, counts)
        stage = layer.stage_of(path)
        totals[stage].update(madds=own.madds, other=own.other, params=params[full])
    for stage, total in totals.items():
        yield StageFlops(stage, total["madds"], total["other"], total["params"])
