"""`count_flops`: multiply-adds per image, layer by layer, with every dynamic layer split into its stages."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from drconv.analysis.flops.counters import registered_counter
from drconv.analysis.flops.kinds import KINDS, MADDS
from drconv.analysis.flops.observe import Observation, observe
from drconv.analysis.flops.report import FlopReport, LayerFlops, StageFlops
from drconv.analysis.flops.traced import Trace, trace
from drconv.checks import pick
from drconv.errors import ArgumentError, ModelError
from drconv.kernels import BACKENDS
from drconv.layers.base import DynamicLayer

__all__ = ["ENGINES", "Counting", "Engine", "as_trace", "count_flops", "trace_if_whole"]

Engine = Literal["fvcore", "dispatch"]

ENGINES = {"fvcore": "fvcore", "dispatch": "torch.utils.flop_counter"}
"""Engine -> what counts."""

_GENERATING = {"generator", "attention", "mixing"}
"""Stages that make filters."""


def count_flops(
    model: nn.Module,
    input_size: tuple[int, ...] = (3, 224, 224),
    *,
    batch_size: int = 1,
    include: Sequence[str] = (),
    backend: str | None = None,
    backward: bool = False,
    engine: Engine = "fvcore",
) -> FlopReport:
    """Count a model's multiply-adds per image, as it runs in eval mode.

    Train or eval mode does not matter and is left as it was.

    Args:
        model: any module that takes one tensor `[B, *input_size]`.
        input_size: of one image, (C, H, W).
        batch_size: of the counted input; the result is divided by it.
        include: kinds of operations to list beside the multiply-adds: norm, pool, resize, bias, activation,
            elementwise. fvcore's engine counts them all; this one only chooses columns.
        backend: name from `drconv.kernels.BACKENDS` whose work `executed` shows; None shows the one that each call
            would choose.
        backward: whether to count the backward pass, too (gradients of parameters, from the sum of the outputs).
        engine: "fvcore" traces the model; "dispatch" runs it under `torch.utils.flop_counter.FlopCounterMode`, which
            works on the meta device and counts multiply-adds only.

    Returns:
        Counts per image.

    Raises:
        ArgumentError: a size is not positive, a word is not known, or a count does not scale with the batch.
        ModelError: the model fails on such an input.
        UnknownNameError: no backend has that name.
    """
    pick("engine", engine, tuple(ENGINES))
    for kind in include:
        pick("include", kind, KINDS)
    if backend is not None:
        BACKENDS[backend]
    if include and engine != "fvcore":
        raise ArgumentError(f"engine='dispatch' counts multiply-adds only, got include={tuple(include)}; use 'fvcore'")
    seen = observe(model, input_size, batch_size, backward=backward)
    traced = trace_if_whole(model, seen, input_size, batch_size) if engine == "fvcore" else as_trace(model, seen)
    layers = tuple(Counting(model, seen, traced, batch_size, backend, backward).layers())
    return FlopReport(
        input_size=tuple(input_size),
        layers=layers,
        containers={name: type(module).__name__ for name, module in model.named_modules()},
        params=sum(p.numel() for p in model.parameters()),
        engine=ENGINES[engine],
        backend=backend,
        include=tuple(kind for kind in KINDS if kind in include),
        uncounted={name: (times, elements // batch_size) for name, (times, elements) in traced.uncounted.items()},
        uncalled=traced.uncalled,
        warnings=tuple(_warnings(layers, seen)),
    )


def trace_if_whole(model: nn.Module, seen: Observation, input_size: Sequence[int], batch_size: int = 1) -> Trace:
    """Trace a model, unless a part of it failed and the model went on, which a trace may not survive.

    Raises:
        ModelError: a part failed; the message names it.
    """
    if seen.failed:
        part = seen.failed[0] or type(model).__name__
        raise ModelError(
            f"{part} raised an error that the model caught, which fvcore cannot trace; count with engine='dispatch'"
        )
    return trace(model, input_size, batch_size)


def as_trace(model: nn.Module, seen: Observation) -> Trace:
    """Return what was observed in the form of a trace; this engine names no operator that it does not count."""
    uncalled = (
        name
        for name, module in model.named_modules()
        if name not in seen.calls and next(module.parameters(recurse=False), None) is not None
    )
    counts = {name: Counter({MADDS: seen.madds[name]}) for name, _ in model.named_modules()}
    return Trace(counts, {}, tuple(sorted(uncalled)))


@dataclass(frozen=True)
class Counting:
    """One count: where its numbers come from, and how they are cut into layers.

    Attributes:
        model: what was run.
        seen: what was observed.
        traced: the counts of one engine.
        batch_size: images in both.
        backend: whose work `executed` is; None is the one that each call chooses.
        backward: whether the backward pass was observed.
    """

    model: nn.Module
    seen: Observation
    traced: Trace
    batch_size: int = 1
    backend: str | None = None
    backward: bool = False

    def layers(self) -> Iterator[LayerFlops]:
        """Yield what each module does itself; a dynamic or registered layer is one entry with all that is inside it."""
        inside: set[nn.Module] = set()
        for name, module in self.model.named_modules():
            if module in inside:
                continue
            if registered_counter(module) is not None and name in self.seen.calls:
                inside.update(module.modules())
                yield self._registered(name, module)
            elif isinstance(module, DynamicLayer):
                inside.update(module.modules())
                yield self._dynamic(name, module)
            else:
                own = self._part(name, module, "")
                layer = LayerFlops(
                    name, type(module).__name__, own.madds, own.executed, own.params, own.extras,
                    self._generated(name), self._own_backward(name, module) if self.backward else None,
                )  # fmt: skip
                if own.madds or own.extras or own.params:
                    yield layer

    def _dynamic(self, name: str, layer: DynamicLayer) -> LayerFlops:
        paths = [(path, ".".join(p for p in (name, path) if p), module) for path, module in layer.named_modules()]
        found: dict[str, list[StageFlops]] = {stage: [] for stage in dict.fromkeys(layer.STAGES.values())}
        for path, full, module in paths:
            part = self._part(full, module, layer.stage_of(path))
            if not path and layer.has_bias:
                # What a layer with a bias for each sample adds outside of the operator is that bias.
                part = replace(part, extras=_renamed(part.extras, "elementwise", "bias"))
            found[part.stage].append(part)
        stages = tuple(_sum(stage, parts) for stage, parts in found.items())
        whole = _sum("", stages)
        generated = sum(self._generated(full) for _, full, _ in paths)
        backward = self._per_image(self.seen.backward[name]) if self.backward else None
        return LayerFlops(
            name, type(layer).__name__, whole.madds, whole.executed, whole.params, whole.extras, generated, backward,
            stages,
        )  # fmt: skip

    def _registered(self, name: str, module: nn.Module) -> LayerFlops:
        """Take a user's formula for the theory, and what ran for the rest."""
        counter = registered_counter(module)
        stages: defaultdict[str, int] = defaultdict(int)
        for call in self.seen.calls[name]:
            if not call.inputs or call.output is None or counter is None:
                raise ArgumentError(f"the counter of {type(module).__name__} needs a tensor in and out, got {call}")
            found = counter(module, call.inputs[0], call.output)
            if found is None:
                raise ArgumentError(f"the counter of {type(module).__name__} gave None for {name}; expected an integer")
            if found == {}:
                raise ArgumentError(
                    f"the counter of {type(module).__name__} gave no stage for {name}; expected one or more"
                )
            for stage, madds in (found if isinstance(found, Mapping) else {"": found}).items():
                stages[stage] += self._per_image(int(madds))
        executed = self._per_image(self.seen.madds[name])
        params = sum(p.numel() for p in module.parameters())
        backward = self._per_image(self.seen.backward[name]) if self.backward else None
        shown = tuple(StageFlops(stage, madds, madds, 0) for stage, madds in stages.items() if stage)
        extras = {kind: n // self.batch_size for kind, n in self.traced.counts[name].items() if kind in KINDS}
        total = sum(stages.values())
        return LayerFlops(
            name, type(module).__name__, total, executed, params, extras, 0, backward, shown
        )  # fmt: skip

    def _part(self, name: str, module: nn.Module, stage: str) -> StageFlops:
        """Return what a module does outside of its children."""
        own = Counter(self.traced.counts.get(name, Counter()))
        prefix = f"{name}." if name else ""
        for child, _ in module.named_children():
            own.subtract(self.traced.counts.get(prefix + child, Counter()))
        madds = self._per_image(own[MADDS])
        theory = sum(call.problem.madds for call in self.seen.regions.get(name, ()))
        executed = sum(call.executed(self.backend) for call in self.seen.regions.get(name, ()))
        extras = {kind: own[kind] // self.batch_size for kind in KINDS if own[kind]}
        params = sum(p.numel() for p in module.parameters(recurse=False))
        return StageFlops(stage, madds, madds + self._per_image(executed - theory), params, extras)

    def _generated(self, name: str) -> int:
        return sum(call.generated for call in self.seen.regions.get(name, ())) // self.batch_size

    def _own_backward(self, name: str, module: nn.Module) -> int:
        prefix = f"{name}." if name else ""
        children = sum(self.seen.backward[prefix + child] for child, _ in module.named_children())
        return self._per_image(self.seen.backward[name] - children)

    def _per_image(self, madds: int) -> int:
        if madds % self.batch_size:
            raise ArgumentError(
                f"{madds} multiply-adds for {self.batch_size} images do not divide evenly: part of the model does not "
                "scale with the batch; count with batch_size=1"
            )
        return madds // self.batch_size


def _renamed(extras: Mapping[str, int], old: str, new: str) -> dict[str, int]:
    moved = {kind: n for kind, n in extras.items() if kind != old}
    return {**moved, new: moved.get(new, 0) + extras[old]} if old in extras else moved


def _sum(stage: str, parts: Sequence[StageFlops]) -> StageFlops:
    extras: Counter[str] = Counter()
    for part in parts:
        extras.update(part.extras)
    return StageFlops(
        stage, sum(p.madds for p in parts), sum(p.executed for p in parts), sum(p.params for p in parts), dict(extras)
    )


def _warnings(layers: Sequence[LayerFlops], seen: Observation) -> Iterator[str]:
    """Say where making the filters costs more than using them."""
    found = []
    for layer in layers:
        making = sum(s.madds for s in layer.stages if s.stage in _GENERATING)
        using = next((s.madds for s in layer.stages if s.stage == "convolution"), None)
        output = next((call.output for call in seen.calls.get(layer.name, ()) if call.output), None)
        if using and making > using and output is not None:
            found.append(f"{layer.name or layer.type} ({output[-2]}x{output[-1]} map, {making / using:.1f} x)")
    if found:
        listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        many = "one layer" if len(found) == 1 else f"{len(found)} layers"
        yield f"making the filters costs more than using them in {many}: {listed}"
