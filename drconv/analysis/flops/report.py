"""What a count is: frozen numbers per layer and stage, as one table of layers or as a tree of modules."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from drconv.analysis.flops.kinds import CONVENTION, KIND_UNITS
from drconv.analysis.flops.memory import MemoryEstimate
from drconv.report import Cell, Column, Table

__all__ = ["FlopReport", "FlopTree", "LayerFlops", "StageFlops"]


@dataclass(frozen=True)
class StageFlops:
    """One stage of a dynamic layer, per image.

    Attributes:
        stage: pool, generator, guide, convolution, ...
        madds: multiply-adds with one filter per position.
        executed: multiply-adds that the backend does.
        params: stored parameters.
        extras: operations of other kinds, by kind.
    """

    stage: str
    madds: int
    executed: int
    params: int
    extras: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerFlops:
    """One layer, per image.

    Attributes:
        name: of the module.
        type: class name.
        madds: multiply-adds with one filter per position.
        executed: multiply-adds that the backend does.
        params: stored parameters.
        extras: operations of other kinds, by kind.
        generated: filter weights made for each image; 0 unless the layer is dynamic.
        backward: multiply-adds of the backward pass, if it was counted.
        stages: of a dynamic layer, else empty.
    """

    name: str
    type: str
    madds: int
    executed: int
    params: int
    extras: Mapping[str, int] = field(default_factory=dict)
    generated: int = 0
    backward: int | None = None
    stages: tuple[StageFlops, ...] = ()


@dataclass(frozen=True)
class FlopReport:
    """Counts of one model for one image.

    Attributes:
        input_size: (C, H, W).
        layers: every layer that counts or stores anything, in the order of `named_modules`.
        containers: names of the modules that hold those layers -> class names.
        params: stored parameters, shared ones once.
        engine: what counted.
        backend: what `executed` is of; None if every call chooses.
        include: kinds of operations that are listed beside the multiply-adds.
        uncounted: operators without a formula -> (times they ran, elements they gave per image).
        uncalled: modules with parameters that did not run.
        warnings: what a reader should know of these numbers, a line each.
        memory: of a batch, if it was estimated.
        convention: what the numbers are.
    """

    input_size: tuple[int, ...]
    layers: tuple[LayerFlops, ...]
    containers: Mapping[str, str]
    params: int
    engine: str = "fvcore"
    backend: str | None = None
    include: tuple[str, ...] = ()
    uncounted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    uncalled: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    memory: MemoryEstimate | None = None
    convention: str = CONVENTION

    @property
    def madds(self) -> int:
        """Multiply-adds per image, with one filter per position."""
        return sum(layer.madds for layer in self.layers)

    @property
    def executed(self) -> int:
        """Multiply-adds per image that the backend does."""
        return sum(layer.executed for layer in self.layers)

    @property
    def generated(self) -> int:
        """Filter weights made for each image."""
        return sum(layer.generated for layer in self.layers)

    @property
    def backward(self) -> int | None:
        """Multiply-adds of the backward pass per image, if it was counted."""
        found = [layer.backward for layer in self.layers if layer.backward is not None]
        return sum(found) if found else None

    @property
    def extras(self) -> Mapping[str, int]:
        """Operations of other kinds per image, by kind."""
        return _add(layer.extras for layer in self.layers)

    @property
    def uncounted_share(self) -> float:
        """Elements that operators without a formula gave, as a share of all multiply-adds: an estimate."""
        return sum(elements for _, elements in self.uncounted.values()) / max(1, self.madds)

    def to_table(self) -> Table:
        """Return a row per layer, the stages of dynamic layers below their layer, and the total."""
        columns, row = self._columns(("layer", "type", "stage"))
        rows: list[tuple[Cell, ...]] = []
        for x in filter(self._is_shown, self.layers):
            rows.append((x.name, x.type, None, *row(x)))
            rows += [(x.name, None, s.stage, *row(s)) for s in x.stages]
        rows.append(("total", None, None, *row(self)))
        return Table(self.title, columns, tuple(rows), self.notes)

    @property
    def title(self) -> str:
        """One line on what was counted."""
        what = "MAdds" if self._is_madds else "Operations"
        return f"{what} and parameters for one {'x'.join(map(str, self.input_size))} image"

    @property
    def _is_madds(self) -> bool:
        return self.convention == CONVENTION

    @property
    def notes(self) -> tuple[str, ...]:
        """Convention, what stands beside it, and what is missing."""
        backend = self.backend or "the backend that each call chooses"
        notes = [f"{self.convention}."]
        if self._is_madds:
            columns = f"theory: one filter per position; executed: what {backend} does"
            notes = [f"{self.convention}. {columns}. Counted by {self.engine}."]
        listed = [f"{kind} {count:,}" for kind, count in self.extras.items() if kind not in self.include and count]
        if listed:
            notes.append(f"Left out ({KIND_UNITS}): {', '.join(listed)}.")
        if self.include:
            total = self.madds + sum(self.extras.get(kind, 0) for kind in self.include)
            notes.append(f"With {', '.join(self.include)}: {total:,} operations.")
        if self.uncounted:
            listed = [f"{name} x{times}" for name, (times, _) in self.uncounted.items()]
            share = f"about {self.uncounted_share:.2%} of the MAdds at one operation per element"
            notes.append(f"Not counted, for lack of a formula: {', '.join(listed)} ({share}).")
        if self.uncalled:
            names = ", ".join(self.uncalled)
            notes.append(f"Not called as modules (a function that used their weights counts with its caller): {names}.")
        if self.memory is not None:
            notes.append(f"{self.memory.note}.")
        return (*notes, *(f"Warning: {warning}." for warning in self.warnings))

    def _is_shown(self, counted: Any) -> bool:
        """Return whether anything stands in the columns of a layer."""
        return bool(counted.madds or counted.params or any(counted.extras.get(kind) for kind in self.include))

    def _columns(self, texts: Sequence[str]) -> tuple[tuple[Column, ...], Any]:
        """Return the columns after some of text, and a function from anything counted to its cells."""
        total = max(1, self.madds)
        backward = self.backward is not None
        columns = [Column(text) for text in texts]
        columns += [Column("theory" if self._is_madds else "operations", "count"), Column("share", "share")]
        # By other rules than those of multiply-adds there is nothing to compare what is executed with.
        columns += [Column("executed", "count"), Column("ratio", "ratio")] * self._is_madds
        columns += [Column(kind, "count") for kind in self.include]
        columns += [Column("backward", "count")] * backward
        columns += [Column("generated", "count"), Column("params", "count")]

        def row(x: Any) -> tuple[Cell, ...]:
            cells: list[Cell] = [x.madds, x.madds / total]
            cells += [x.executed, x.executed / x.madds if x.madds else None] * self._is_madds
            cells += [x.extras.get(kind, 0) for kind in self.include]
            cells += [getattr(x, "backward", None)] * backward
            return (*cells, getattr(x, "generated", None) or None, x.params)

        return tuple(columns), row

    def to_dict(self) -> dict[str, Any]:
        """Return counts as integers."""
        return {
            "convention": self.convention,
            "engine": self.engine,
            "backend": self.backend,
            "input_size": list(self.input_size),
            **_numbers(self),
            "include": list(self.include),
            "layers": [
                {
                    "name": x.name,
                    "type": x.type,
                    **_numbers(x),
                    "stages": {s.stage: _numbers(s) for s in x.stages},
                }
                for x in self.layers
            ],
            "uncounted": {name: {"times": n, "elements": e} for name, (n, e) in self.uncounted.items()},
            "uncounted_share": self.uncounted_share,
            "uncalled": list(self.uncalled),
            "memory": None if self.memory is None else self.memory.to_dict(),
        }


def _numbers(x: Any) -> dict[str, Any]:
    keys = ("madds", "executed", "params", "generated", "backward")
    return {key: getattr(x, key) for key in keys if hasattr(x, key)} | {"extras": dict(x.extras)}


def _add(extras: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in extras:
        total.update(each)
    return dict(total)


@dataclass(frozen=True)
class FlopTree:
    """A count as a tree: every module with all that is inside it, down to some depth.

    Attributes:
        report: what was counted.
        depth: levels below the model; None goes down to the stages of dynamic layers.
    """

    report: FlopReport
    depth: int | None = None

    def to_table(self) -> Table:
        """Return a row per module, indented by its depth, and the notes of the report."""
        columns, row = self.report._columns(("module", "type"))
        rows = []
        for name, kind, counted in self._nodes():
            level = name.count(".") + 1 if name else 0
            if self.depth is None or level <= self.depth:
                rows.append(("  " * level + (name.rpartition(".")[2] or "total"), kind, *row(counted)))
        return Table(self.report.title, columns, tuple(rows), self.report.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as the report."""
        return self.report.to_dict()

    def _nodes(self) -> Iterable[tuple[str, str | None, Any]]:
        """Yield (path, class name, counts of all that is inside) in the order of the model."""
        layers = {layer.name: layer for layer in self.report.layers}
        for name, kind in self.report.containers.items():
            prefix = f"{name}." if name else ""
            inside = [layer for layer in self.report.layers if layer.name == name or layer.name.startswith(prefix)]
            if not any(map(self.report._is_shown, inside)):
                continue
            # Only the whole knows which parameters are shared.
            params = sum(layer.params for layer in inside) if name else self.report.params
            yield name, kind, replace(self.report, layers=tuple(inside), params=params)
            if name in layers:
                # A stage is a part of its layer, one level down; dots in it would read as levels.
                for stage in layers[name].stages:
                    yield f"{name}.{stage.stage}" if name else stage.stage, None, stage
