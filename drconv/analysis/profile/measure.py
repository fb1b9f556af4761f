"""Time the candidates of one target against each other, and say of each what there is to say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from drconv.analysis.profile.agreement import first_line
from drconv.analysis.profile.attempts import Attempt
from drconv.analysis.profile.memory import peak_memory
from drconv.analysis.profile.options import ProfileOptions
from drconv.analysis.profile.overhead import CONV2D
from drconv.analysis.profile.passes import gradient_mode
from drconv.analysis.profile.peaks import Peaks, last_cache_bytes
from drconv.analysis.profile.report import CandidateProfile
from drconv.analysis.profile.roofline import binding, roofline
from drconv.analysis.profile.trace import count_launches
from drconv.analysis.timing import Candidate, Timing, time_interleaved

__all__ = ["Measured", "measure"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found out about one target.

    Attributes:
        candidates: timed and refused, in the order of the attempts.
        ranking: as in `TargetProfile`.
        binds: as in `TargetProfile`.
        runs: label -> the candidate, for those that were timed with warm caches.
    """

    candidates: tuple[CandidateProfile, ...]
    ranking: tuple[tuple[str, ...], ...]
    binds: str | None
    runs: Mapping[str, Candidate]


def measure(
    attempts: Sequence[Attempt],
    options: ProfileOptions,
    device: torch.device,
    peaks: Peaks | None = None,
    overheads: Mapping[str, float] | None = None,
) -> Measured:
    """Try every candidate once, and time those that work.

    Args:
        attempts: candidates.
        options: pass, caches, when to stop, what else to measure.
        device: of their tensors.
        peaks: of the machine, to hold times against.
        overheads: candidate -> seconds of a call with nothing to compute.
    """
    profiles: dict[str, CandidateProfile] = {}
    runs: dict[str, Candidate] = {}
    traffic = {}
    with gradient_mode(options.which):
        for cache in options.caches:
            for attempt in attempts:
                row, run = _tried(attempt, cache, options, device)
                profiles[row.label] = row
                traffic[row.label] = attempt.traffic
                if run is not None:
                    runs[row.label] = run
        timings = time_interleaved(runs, options.stop, device) if runs else {}
        for label, timing in timings.items():
            row = _with_times(profiles[label], timing, profiles, timings)
            if options.memory and row.cache == "warm":
                row = replace(row, peak_memory=peak_memory(runs[label], device))
            row = replace(row, launches=count_launches(runs[label], device))
            moved = traffic[label]
            if peaks is not None and moved is not None:
                overhead = (overheads or {}).get(row.candidate)
                row = replace(row, roofline=roofline(timing.median, moved, peaks, overhead))
            profiles[label] = row
    warm = {label: run for label, run in runs.items() if profiles[label].cache == "warm"}
    return Measured(tuple(profiles.values()), _ranking(profiles), _binds(profiles), warm)


def _tried(
    attempt: Attempt, cache: str, options: ProfileOptions, device: torch.device
) -> tuple[CandidateProfile, Candidate | None]:
    """Call a candidate once; whatever it raises is the reason of its row."""
    row = CandidateProfile(
        attempt.candidate, attempt.layout, cache, attempt.agreement.error, attempt.equal_regions,
        refusal=attempt.agreement.refusal,
    )  # fmt: skip
    if attempt.work is None:
        return row, None
    try:
        candidate = attempt.work.candidate(options.which)
        candidate.prepare()
        candidate.call()
    except Exception as error:
        return replace(row, refusal=first_line(error)), None
    return row, candidate if cache == "warm" else _cold(candidate, device)


def _cold(candidate: Candidate, device: torch.device) -> Candidate:
    """Return a candidate before each of whose calls twice the last cache is written over."""
    filler = torch.zeros(2 * last_cache_bytes(device), dtype=torch.uint8, device=device)

    def prepare() -> None:
        candidate.prepare()
        filler.add_(1)

    return Candidate(candidate.call, prepare, repeatable=False)


def _with_times(
    row: CandidateProfile, timing: Timing, rows: Mapping[str, CandidateProfile], timings: Mapping[str, Timing]
) -> CandidateProfile:
    """Return a row with its time, and its ratios to the faster `conv2d` and to `naive` with caches as its own."""

    def fastest(name: str, accept: Callable[[CandidateProfile], bool] = lambda other: True) -> Timing | None:
        labels = [
            label
            for label in timings
            if rows[label].candidate == name and rows[label].cache == row.cache and accept(rows[label])
        ]
        return min((timings[label] for label in labels), key=lambda t: t.median, default=None)

    conv = fastest(CONV2D)
    naive = fastest("naive", lambda other: other.layout == row.layout) or fastest("naive")
    return replace(
        row,
        timing=timing,
        to_conv2d=None if conv is None else timing.ratio_to(conv),
        to_naive=None if naive is None else timing.ratio_to(naive),
    )


def _ranking(rows: Mapping[str, CandidateProfile]) -> tuple[tuple[str, ...], ...]:
    """Return the labels with warm caches, fastest first, joined with all that cannot be told from them."""
    left = sorted(
        ((row.timing, label) for label, row in rows.items() if row.timing is not None and row.cache == "warm"),
        key=lambda pair: pair[0].median,
    )
    ties: list[tuple[str, ...]] = []
    while left:
        fastest = left[0][0]
        tied = [label for timing, label in left if timing is fastest or timing.ratio_to(fastest).is_indistinguishable]
        ties.append(tuple(tied))
        left = [pair for pair in left if pair[1] not in tied]
    return tuple(ties)


def _binds(rows: Mapping[str, CandidateProfile]) -> str | None:
    """Return a sentence on the first dynamic candidate, which is the one that a call takes by itself."""
    for label, row in rows.items():
        if row.candidate != CONV2D and row.roofline is not None and row.timing is not None:
            return binding(label, row.timing.median, row.roofline)
    return None
