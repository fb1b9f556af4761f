"""What `profile_model` returns: seconds and ratios, no formatting."""

from dataclasses import dataclass
from typing import Any

from drconv.analysis.timing import Timing
from drconv.report import Cell, Column, Table

__all__ = ["CandidateProfile", "ProfileReport", "TargetProfile"]


@dataclass(frozen=True)
class CandidateProfile:
    """One way to compute one target.

    Attributes:
        candidate: backend name, or `conv2d`.
        error: largest deviation from the reference over its largest value; for the network, None.
        equal_regions: for the network, share of all layers' positions with the same region as the reference's; else
            None. Rounding flips regions near ties.
        timing: None if the candidate was refused.
        to_conv2d: median over rounds of time / time of `conv2d`.
        to_naive: median over rounds of time / time of `naive`.
        refusal: why it was not timed, or None.
    """

    candidate: str
    error: float | None
    equal_regions: float | None
    timing: Timing | None
    to_conv2d: float | None
    to_naive: float | None
    refusal: str | None = None


@dataclass(frozen=True)
class TargetProfile:
    """All candidates of one layer, or of the network (`name` is "network")."""

    name: str
    shape: str
    candidates: tuple[CandidateProfile, ...]


@dataclass(frozen=True)
class ProfileReport:
    """Interleaved times of all targets.

    Attributes:
        targets: the dynamic layers in the order they run, then the network.
        input_shape: [B, C, H, W].
        dtype: of model and input.
        rounds, warmup: calls per candidate, timed and not.
        environment: where it was measured.
    """

    targets: tuple[TargetProfile, ...]
    input_shape: tuple[int, ...]
    dtype: str
    rounds: int
    warmup: int
    environment: dict[str, Any]

    def to_table(self) -> Table:
        """Return one row per target and candidate."""
        columns = (
            Column("target"),
            Column("shape"),
            Column("candidate"),
            Column("median", "seconds"),
            Column("IQR", "seconds"),
            Column("vs conv2d", "ratio"),
            Column("vs naive", "ratio"),
            Column("error", "number"),
            Column("equal regions", "share"),
            Column("remark"),
        )
        rows: list[tuple[Cell, ...]] = []
        for target in self.targets:
            for c in target.candidates:
                times = (None, None) if c.timing is None else (c.timing.median, c.timing.iqr)
                ratios = (c.to_conv2d, c.to_naive)
                rows.append(
                    (target.name, target.shape, c.candidate, *times, *ratios, c.error, c.equal_regions, c.refusal)
                )
        where = self.environment
        threads = "1 thread" if where["threads"] == 1 else f"{where['threads']} threads"
        shape = "x".join(map(str, self.input_shape))
        notes = (
            f"Medians and interquartile ranges of {self.rounds} interleaved rounds in eval mode, {self.dtype}, input "
            f"{shape}; ratios are medians of per-round ratios, below 1 is faster.",
            "Layers are timed whole (with all that makes their filters), on the inputs they get in the network.",
            f"{where.get('device_name', where['cpu'])}, {threads}, torch {where['torch']}.",
        )
        return Table(f"Time of every dynamic layer and of the network, {where['device']}", columns, tuple(rows), notes)

    def to_dict(self) -> dict[str, Any]:
        """Return seconds, with all samples."""
        return {
            "input_shape": list(self.input_shape),
            "dtype": self.dtype,
            "rounds": self.rounds,
            "warmup": self.warmup,
            "targets": [
                {
                    "name": target.name,
                    "shape": target.shape,
                    "candidates": [_candidate_dict(c) for c in target.candidates],
                }
                for target in self.targets
            ],
        }


def _candidate_dict(c: CandidateProfile) -> dict[str, Any]:
    return {
        "candidate": c.candidate,
        "error": c.error,
        "equal_regions": c.equal_regions,
        "median_s": None if c.timing is None else c.timing.median,
        "iqr_s": None if c.timing is None else c.timing.iqr,
        "to_conv2d": c.to_conv2d,
        "to_naive": c.to_naive,
        "refusal": c.refusal,
        "samples_s": [] if c.timing is None else list(c.timing.samples),
    }
