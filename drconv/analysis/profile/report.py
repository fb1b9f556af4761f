"""What a profile is: seconds, bytes, ratios and reasons, no formatting."""

from dataclasses import asdict, dataclass, field
from typing import Any

from drconv.analysis.intervals import Ratio
from drconv.analysis.profile.compare import Comparison
from drconv.analysis.profile.maps import MapStatistics
from drconv.analysis.profile.peaks import Peaks
from drconv.analysis.profile.roofline import Roofline
from drconv.analysis.timing import StopRule, Timing
from drconv.report import Cell, Column, Table

__all__ = ["CandidateProfile", "ProfileReport", "StageProfile", "StageSplit", "TargetProfile"]


@dataclass(frozen=True)
class CandidateProfile:
    """One way to compute one target.

    Attributes:
        candidate: backend name, or `conv2d`.
        layout: "NCHW" or "channels_last".
        cache: "warm", or "cold" if caches were emptied before each call.
        error: largest deviation from the reference over its largest value; None for `conv2d` and for the network.
        equal_regions: for the network, share of all layers' positions with the same region as the reference's; else
            None. Rounding flips regions near ties.
        timing: None if the candidate was refused.
        to_conv2d: time over that of the faster `conv2d`.
        to_naive: time over that of `naive`.
        peak_memory: bytes held at once beyond those before the call.
        launches: kernels that a call launches on a GPU.
        roofline: the time against the machine's peaks; of layers.
        refusal: why it was not timed, or None.
    """

    candidate: str
    layout: str = "NCHW"
    cache: str = "warm"
    error: float | None = None
    equal_regions: float | None = None
    timing: Timing | None = None
    to_conv2d: Ratio | None = None
    to_naive: Ratio | None = None
    peak_memory: int | None = None
    launches: int | None = None
    roofline: Roofline | None = None
    refusal: str | None = None

    @property
    def label(self) -> str:
        """Name and layout, and the cache if it is cold."""
        return f"{self.candidate} {self.layout}" + (" cold" if self.cache == "cold" else "")

    @property
    def is_baseline(self) -> bool:
        """Whether this is the faster `conv2d`, which all ratios are to."""
        return self.candidate == "conv2d" and self.to_conv2d == Ratio(1.0, (1.0, 1.0))

    @property
    def remark(self) -> str | None:
        """Why there is no time, or what is wrong with it, or that it cannot be told from `conv2d`'s."""
        if self.timing is None:
            return self.refusal
        found = [] if self.timing.quality == "steady" else [self.timing.quality]
        if self.candidate != "conv2d" and self.to_conv2d is not None and self.to_conv2d.interval is not None:
            found += ["indistinguishable from conv2d"] * self.to_conv2d.is_indistinguishable
        return "; ".join(found) or None


@dataclass(frozen=True)
class StageProfile:
    """One stage of a layer, timed on its own.

    Attributes:
        stage: pool, generator, guide, bucket (scores to regions), convolution, ...
        timing: of this stage alone.
        madds: multiply-adds of the call, as `count_flops` has them; None if they are not known.
    """

    stage: str
    timing: Timing
    madds: int | None


@dataclass(frozen=True)
class StageSplit:
    """A layer in its stages.

    Attributes:
        backend: that applied the filters.
        layout: of the input.
        stages: in the order of the layer.
        whole: the layer itself, which may run stages together.
    """

    backend: str
    layout: str
    stages: tuple[StageProfile, ...]
    whole: Timing

    @property
    def sum(self) -> float:
        """Sum of the stages' medians, in seconds."""
        return sum(stage.timing.median for stage in self.stages)


@dataclass(frozen=True)
class TargetProfile:
    """All candidates of one layer, or of the network (`name` is "network").

    Attributes:
        name: of the layer that was timed.
        shape: its sizes, or the network's class.
        candidates: those timed and those refused.
        members: layers of equal sizes for which it stands, itself among them.
        maps: of the regions that were used; None without regions.
        stages: if they were asked for.
        binds: what limits the candidate that a call takes by itself, in one sentence.
        ranking: dynamic candidates and the best `conv2d`, fastest first; those in one tuple cannot be told apart from
            the fastest of them.
    """

    name: str
    shape: str
    candidates: tuple[CandidateProfile, ...]
    members: tuple[str, ...] = ()
    maps: MapStatistics | None = None
    stages: StageSplit | None = None
    binds: str | None = None
    ranking: tuple[tuple[str, ...], ...] = ()

    @property
    def label(self) -> str:
        """The name, with the number of layers that it stands for."""
        return f"{self.name} x{len(self.members)}" if len(self.members) > 1 else self.name


@dataclass(frozen=True)
class ProfileReport:
    """Interleaved times of all targets.

    Attributes:
        targets: layers in the order they run, then the network.
        input_shape: [B, C, H, W].
        dtype: of model and input.
        environment: where it was measured.
        which: the pass that was timed: forward, backward, or step.
        scope: what a layer's call is: "module", "operator" or "kernel".
        stop: when a target had been timed enough.
        peaks: of the machine, if they were measured.
        notes: lines on what was measured.
        comparison: with an older profile, if it was asked for.
    """

    targets: tuple[TargetProfile, ...]
    input_shape: tuple[int, ...]
    dtype: str
    environment: dict[str, Any]
    which: str = "forward"
    scope: str = "module"
    stop: StopRule = field(default_factory=StopRule)
    peaks: Peaks | None = None
    notes: tuple[str, ...] = ()
    comparison: Comparison | None = None

    def target(self, name: str) -> TargetProfile:
        """Return the target of a name, also if another of equal sizes stands for it."""
        for target in self.targets:
            if name == target.name or name in target.members:
                return target
        raise KeyError(name)

    def to_table(self) -> Table:
        """Return one row per target and candidate."""
        all_of = [c for target in self.targets for c in target.candidates]
        shown: dict[str, bool] = {
            "cache": any(c.cache != "warm" for c in all_of),
            "peak memory": any(c.peak_memory is not None for c in all_of),
            "launches": any(c.launches is not None for c in all_of),
            "equal regions": any(c.equal_regions is not None for c in all_of),
        }
        columns = (
            Column("target"), Column("shape"), Column("candidate"), Column("layout"), Column("cache"),
            Column("median", "seconds"), Column("IQR", "seconds"), Column("n", "count"),
            Column("vs conv2d", "ratio"), Column("95 %"), Column("vs naive", "ratio"), Column("peak memory", "bytes"),
            Column("launches", "count"), Column("error", "number"), Column("equal regions", "share"), Column("remark"),
        )  # fmt: skip
        keep = [shown.get(column.name, True) for column in columns]
        rows: list[tuple[Cell, ...]] = []
        for target in self.targets:
            for c in target.candidates:
                cells = (target.label, target.shape, *_cells(c))
                rows.append(tuple(cell for cell, kept in zip(cells, keep, strict=True) if kept))
        kept_columns = tuple(column for column, kept in zip(columns, keep, strict=True) if kept)
        return Table(self.title, kept_columns, tuple(rows), self._notes())

    @property
    def title(self) -> str:
        """One line on what was timed."""
        what = {"forward": "Forward pass", "backward": "Backward pass", "step": "Training step"}[self.which]
        if [target.name for target in self.targets] == ["layer"]:
            return f"{what} of one layer ({self.scope}), {self.environment['device']}"
        return f"{what} of dynamic layers and of the network, {self.environment['device']}"

    def _notes(self) -> tuple[str, ...]:
        shape = "x".join(map(str, self.input_shape))
        calls = sorted({c.timing.calls for t in self.targets for c in t.candidates if c.timing is not None})
        each = f"{calls[0]}" if len(calls) == 1 else f"{calls[0]} to {calls[-1]}" if calls else "no"
        ended = _ending(self.stop)
        return (
            f"Medians and interquartile ranges of n interleaved rounds, {ended}; a sample is {each} "
            f"call{'s' * (calls != [1])}. {self.dtype}, input {shape}.",
            "Ratios are medians of per-round ratios, below 1 is faster; 1.00x is the faster layout of nn.Conv2d. 95 %: "
            "distribution-free interval of that median.",
            *self.notes,
            environment_line(self.environment),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return seconds, bytes and ratios, with all samples."""
        return {
            "pass": self.which,
            "scope": self.scope,
            "input_shape": list(self.input_shape),
            "dtype": self.dtype,
            "stop": asdict(self.stop),
            "peaks": None if self.peaks is None else self.peaks.to_dict(),
            "targets": [_target_dict(target) for target in self.targets],
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }


def environment_line(where: dict[str, Any]) -> str:
    """Return the machine in one line."""
    threads = "1 thread" if where["threads"] == 1 else f"{where['threads']} threads"
    isa = f" ({where['native_isa']})" if where.get("native_isa") else ""
    load = f", load average {where['load_average'][0]:.1f}" if where.get("load_average") else ""
    return f"{where.get('device_name', where['cpu'])}{isa}, {threads}, torch {where['torch']}{load}."


def _ending(stop: StopRule) -> str:
    if stop.rounds is not None:
        return f"{stop.rounds} of them"
    return f"until every median is known to +-{100 * stop.target_noise:.3g} % or {stop.max_time:g} s are over"


def _cells(c: CandidateProfile) -> tuple[Cell, ...]:
    timing: tuple[Cell, ...] = (None, None, None)
    if c.timing is not None:
        timing = (c.timing.median, c.timing.iqr, len(c.timing.samples))
    # The interval of a time over itself says nothing.
    interval = None if c.to_conv2d is None or c.is_baseline else span(c.to_conv2d.interval)
    return (
        c.candidate, c.layout, c.cache, *timing,
        None if c.to_conv2d is None else c.to_conv2d.median, interval,
        None if c.to_naive is None else c.to_naive.median,
        c.peak_memory, c.launches, c.error, c.equal_regions, c.remark,
    )  # fmt: skip


def span(interval: tuple[float, float] | None) -> str | None:
    """Return an interval of a ratio as text."""
    return None if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}"


def _target_dict(target: TargetProfile) -> dict[str, Any]:
    return {
        "name": target.name,
        "members": list(target.members),
        "shape": target.shape,
        "maps": None if target.maps is None else asdict(target.maps),
        "binds": target.binds,
        "ranking": [list(tie) for tie in target.ranking],
        "stages": None if target.stages is None else _split_dict(target.stages),
        "candidates": [_candidate_dict(c) for c in target.candidates],
    }


def _split_dict(split: StageSplit) -> dict[str, Any]:
    counted = [stage.madds for stage in split.stages if stage.madds is not None]
    madds = sum(counted)
    return {
        "backend": split.backend,
        "layout": split.layout,
        "sum_s": split.sum,
        "whole_s": split.whole.median,
        "whole": timing_dict(split.whole),
        "stages": [
            {
                "stage": stage.stage,
                "time_share": stage.timing.median / split.sum,
                "madds": stage.madds,
                "madds_share": None if stage.madds is None or not madds else stage.madds / madds,
                **timing_dict(stage.timing),
            }
            for stage in split.stages
        ],
    }


def _candidate_dict(c: CandidateProfile) -> dict[str, Any]:
    return {
        "candidate": c.candidate,
        "layout": c.layout,
        "cache": c.cache,
        "error": c.error,
        "equal_regions": c.equal_regions,
        "to_conv2d": ratio_dict(c.to_conv2d),
        "to_naive": ratio_dict(c.to_naive),
        "peak_memory": c.peak_memory,
        "launches": c.launches,
        "roofline": None if c.roofline is None else asdict(c.roofline),
        "refusal": c.refusal,
        **timing_dict(c.timing),
    }


def ratio_dict(ratio: Ratio | None) -> dict[str, Any] | None:
    """Return a ratio, its interval, and whether the two can be told apart."""
    if ratio is None:
        return None
    interval = None if ratio.interval is None else list(ratio.interval)
    return {"median": ratio.median, "interval": interval, "indistinguishable": ratio.is_indistinguishable}


def timing_dict(timing: Timing | None) -> dict[str, Any]:
    """Return a timing in seconds per call, with its samples; all null without one."""
    t = timing
    return {
        "median_s": None if t is None else t.median,
        "iqr_s": None if t is None else t.iqr,
        "p10_s": None if t is None else t.p10,
        "p90_s": None if t is None else t.p90,
        "interval_s": None if t is None or t.interval is None else list(t.interval),
        "noise": None if t is None else t.noise,
        "n": 0 if t is None else len(t.samples),
        "calls_per_sample": None if t is None else t.calls,
        "warmup_s": None if t is None else t.warmup,
        "stopped": None if t is None else t.stopped,
        "quality": None if t is None else t.quality,
        "samples_s": [] if t is None else list(t.samples),
    }
