"""Other tables of a profile: stages beside multiply-adds, and times beside what the machine allows."""

from dataclasses import dataclass
from typing import Any

from drconv.analysis.profile.report import ProfileReport, StageSplit, environment_line
from drconv.report import Cell, Column, Table

__all__ = ["ExplainedProfile", "StagedProfile"]


@dataclass(frozen=True)
class StagedProfile:
    """The stages of every layer: share of time beside share of multiply-adds."""

    report: ProfileReport

    def to_table(self) -> Table:
        """Return a row per stage, their sum, and the layer as it runs."""
        columns = (
            Column("target"), Column("shape"), Column("backend"), Column("layout"), Column("stage"),
            Column("median", "seconds"), Column("share of time", "share"), Column("MAdds", "count"),
            Column("share of MAdds", "share"), Column("vs sum", "ratio"), Column("remark"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for target in self.report.targets:
            split = target.stages
            if split is not None:
                head = (target.label, target.shape, split.backend, split.layout)
                rows += [(*head, *cells) for cells in _stage_rows(split)]
        notes = (
            "Each stage is timed alone, on what it gets in the layer; bucket is from scores to regions. Shares are of "
            "their sum.",
            "The whole layer is not the sum: calls between the stages add to it, and stages that run in one call take "
            "from it.",
            environment_line(self.report.environment),
        )
        return Table("Stages of the dynamic layers", columns, tuple(rows), notes)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as the report."""
        return self.report.to_dict()


def _stage_rows(split: StageSplit) -> list[tuple[Cell, ...]]:
    counted = [stage.madds for stage in split.stages if stage.madds is not None]
    madds = sum(counted) if len(counted) == len(split.stages) else None
    rows: list[tuple[Cell, ...]] = [
        (
            stage.stage,
            stage.timing.median,
            stage.timing.median / split.sum,
            stage.madds,
            stage.madds / madds if madds and stage.madds is not None else None,
            None,
            None if stage.timing.quality == "steady" else stage.timing.quality,
        )
        for stage in split.stages
    ]
    rows.append(("sum", split.sum, 1.0, madds, 1.0 if madds else None, 1.0, None))
    quality = split.whole.quality
    remark = None if quality == "steady" else quality
    rows.append(("layer", split.whole.median, None, None, None, split.whole.median / split.sum, remark))
    return rows


@dataclass(frozen=True)
class ExplainedProfile:
    """Every layer's times against the machine's peaks, and what binds."""

    report: ProfileReport

    def to_table(self) -> Table:
        """Return a row per layer and candidate; a sentence per layer below."""
        columns = (
            Column("target"), Column("shape"), Column("candidate"), Column("layout"), Column("median", "seconds"),
            Column("MAdds", "count"), Column("moved", "bytes"), Column("FLOP", "rate"), Column("of peak", "share"),
            Column("bytes", "rate"), Column("floor: arithmetic", "seconds"), Column("floor: bytes", "seconds"),
            Column("call overhead", "seconds"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for target in self.report.targets:
            for c in target.candidates:
                r = c.roofline
                if r is not None and c.timing is not None:
                    rows.append(
                        (
                            target.label, target.shape, c.candidate, c.layout, c.timing.median, r.madds, r.bytes,
                            r.flops, r.peak_share, r.bandwidth, r.arithmetic_floor, r.bytes_floor, r.overhead,
                        )
                    )  # fmt: skip
        return Table("What the machine allows, and what binds", columns, tuple(rows), tuple(self._notes()))

    def _notes(self) -> list[str]:
        p = self.report.peaks
        notes = [f"{target.label}: {target.binds}." for target in self.report.targets if target.binds is not None]
        if p is not None:
            notes.append(
                f"Measured peaks: {p.flops / 1e9:.0f} GFLOP/s in a product of matrices; {p.read / 1e9:.1f} GB/s read "
                f"and {p.copy / 1e9:.1f} GB/s copied in memory; {p.cache_read / 1e9:.1f} GB/s read in the last cache "
                f"of {p.cache / (1 << 20):.0f} MiB."
            )
        notes.append(
            "MAdds are those of one filter per position, whatever a backend does; a multiply-add is 2 FLOP. Moved: "
            "input, output and parameters once. Call overhead: the same kind of call, 4 channels on 1 position."
        )
        return [*notes, environment_line(self.report.environment)]

    def to_dict(self) -> dict[str, Any]:
        """Return the same as the report."""
        return self.report.to_dict()
