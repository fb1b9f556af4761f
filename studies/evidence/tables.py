"""The tables of docs/evidence.md, in Markdown."""

from statistics import fmean
from typing import Any

from networks import Network
from results import Results, found_of, measured, paired, spread, top1
from runs import EQUAL_MADDS, FILTERS, GUIDES, LOW_RATE, MAPS, RATE, RATES, REGIONS, SEEDS, SIZES, WIDTHS, Run


def all_tables(results: Results) -> dict[str, list[str]]:
    """Return the lines of every table by its title."""
    return {
        "Equal multiply-adds": accuracy_table(results, EQUAL_MADDS, "static"),
        "Number of regions": accuracy_table(results, REGIONS, "m = 1"),
        "Guides and gradients": accuracy_table(results, GUIDES, "guide trained"),
        "Regions or only filters from the image": accuracy_table(results, FILTERS, "1 region"),
        "Smaller and larger": sizes_table(results),
        "Do regions follow the image": maps_table(results),
        "Time": times_table(results),
        "Learning rate": rates_table(results),
    }


def accuracy_table(results: Results, part: dict[str, Network], against: str) -> list[str]:
    """Return a table of accuracy, cost and the difference to one of the rows."""
    rows = [
        f"| | multiply-adds | parameters | seeds | top-1, % | training top-1, % | against {against} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, network in part.items():
        found = found_of(results, network)
        if found:
            trained = [100 * float(r["history"][-1]["train"]["top1"]) for r in found]
            rows.append(
                f"| {name} | {found[0]['madds']:,} | {found[0]['parameters']:,} | {len(found)} | "
                f"{spread([top1(r) for r in found])} | {spread(trained)} | {paired(results, network, part[against])} |"
            )
    return rows


def sizes_table(results: Results) -> list[str]:
    """Return what DRConv gains over the static network at each cost."""
    rows = ["| multiply-adds | static, % | DRConv pooled, % | gain |", "|---|---|---|---|"]
    for name, madds in WIDTHS.items():
        static, pooled = SIZES[f"static, {name} cost"], SIZES[f"pooled, {name} cost"]
        cells = (spread([top1(r) for r in found_of(results, network)]) for network in (static, pooled))
        rows.append(f"| {madds / 1e6:g} M | {' | '.join(cells)} | {paired(results, pooled, static)} |")
    return rows


def rates_table(results: Results) -> list[str]:
    """Return one seed at two learning rates."""
    rows = [f"| | top-1 at {RATE:g}, % | at {LOW_RATE:g}, % |", "|---|---|---|"]
    for name, network in RATES.items():
        keys = (Run(network, SEEDS[0], rate=rate).key for rate in (RATE, LOW_RATE))
        cells = (f"{top1(results[key]):.1f}" if key in results else "-" for key in keys)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def stage_scores(found: list[dict[str, Any]], key: str, maps: str = "maps") -> str:
    """Return the mean of a score over layers, and that of the best layer, over seeds."""
    tables = [result[maps] for result in found if result.get(maps)]
    if not tables:
        return "- | -"
    means = [fmean(layer[key] for layer in table.values()) for table in tables]
    best = [max(layer[key] for layer in table.values()) for table in tables]
    return f"{spread(means, 2)} | {spread(best, 2)}"


def maps_table(results: Results) -> list[str]:
    """Return how far guided masks follow the true maps."""
    rows = [
        "| | seeds | NMI, mean of layers | NMI, best layer | ARI, mean of layers | ARI, best layer | regions alive | "
        "top-1, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    untrained = [r for r in found_of(results, MAPS["task alone"][0]) if r["untrained_maps"]]
    if untrained:
        alive = fmean(layer["alive"] for layer in untrained[0]["untrained_maps"].values())
        scores = (
            f"{stage_scores(untrained, 'nmi', 'untrained_maps')} | {stage_scores(untrained, 'ari', 'untrained_maps')}"
        )
        rows.append(f"| untrained | 1 | {scores} | {alive:.1f} of 4 | - |")
    for name, (network, weight) in MAPS.items():
        found = found_of(results, network, weight)
        if found:
            alive = fmean(layer["alive"] for result in found for layer in result["maps"].values())
            rows.append(
                f"| {name} | {len(found)} | {stage_scores(found, 'nmi')} | {stage_scores(found, 'ari')} | "
                f"{alive:.1f} of 4 | {spread([top1(r) for r in found])} |"
            )
    clusters = measured().get("clusters")
    if clusters:
        rows.append(f"| k-means on colour, k = 4 | | {clusters['nmi']:.2f} | | {clusters['ari']:.2f} | | | |")
    return rows


def times_table(results: Results) -> list[str]:
    """Return time beside accuracy."""
    times = measured().get("times")
    if not times:
        return ["(not yet measured)"]
    rows = ["| | top-1, % | batch 1, µs per image | batch 32, µs per image |", "|---|---|---|---|"]
    for name, network in EQUAL_MADDS.items():
        cells = (f"{1e6 * times[f'batch {batch}'][name]:.0f}" for batch in (1, 32))
        rows.append(f"| {name} | {spread([top1(r) for r in found_of(results, network)])} | {' | '.join(cells)} |")
    return rows
