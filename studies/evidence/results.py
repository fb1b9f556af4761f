"""The results as they lie in studies/results/evidence/, and what is read off them."""

import json
from collections.abc import Iterator, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from networks import Network
from runs import SEEDS, Run
from scipy.stats import t as student
from scipy.stats import ttest_rel

RESULTS = Path(__file__).parent.parent / "results" / "evidence"
MEASURED = RESULTS / "measured.json"

Results = dict[str, dict[str, Any]]


def lines() -> Iterator[dict[str, Any]]:
    """Yield all results so far."""
    for path in sorted(RESULTS.glob("runs-*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def measured() -> dict[str, Any]:
    """Return the times of the networks and the agreement of clusters of colours, as `measure.py` left them."""
    return json.loads(MEASURED.read_text()) if MEASURED.exists() else {}


def found_of(results: Results, network: Network, weight: float = 0.0) -> list[dict[str, Any]]:
    """Return the results of a network by seed, as far as there are any."""
    keys = [Run(network, seed, weight).key for seed in SEEDS]
    return [results[key] for key in keys if key in results]


def top1(result: dict[str, Any]) -> float:
    """Return the accuracy after the last epoch, per cent."""
    return 100 * float(result["history"][-1]["validation"]["top1"])


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}" if values else "-"
    return f"{fmean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def paired(results: Results, network: Network, other: Network) -> str:
    """Return the difference in accuracy over seeds that both have, its 95 % interval, and the paired t-test's p."""
    a, b = ({r["seed"]: top1(r) for r in found_of(results, which)} for which in (network, other))
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < 2 or network == other:
        return "-"
    differences = [a[seed] - b[seed] for seed in seeds]
    half = student.ppf(0.975, len(seeds) - 1) * stdev(differences) / sqrt(len(seeds))
    p = ttest_rel([a[s] for s in seeds], [b[s] for s in seeds]).pvalue
    return (
        f"{fmean(differences):+.1f} [{fmean(differences) - half:+.1f}, {fmean(differences) + half:+.1f}], p = {p:.2g}"
    )
