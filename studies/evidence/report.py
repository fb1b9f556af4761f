"""Print the tables of docs/evidence.md from the results, draw its plots, and measure the time of the networks.

`python studies/evidence/report.py` prints Markdown and draws into docs/images/evidence/; `--time` first times the
networks of the comparison at equal multiply-adds, interleaved, into studies/results/evidence/times.json.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from networks import IMAGE_SIZE, Network, build
from runs import EQUAL_MADDS, FILTERS, GUIDES, LOW_RATE, MAPS, RATE, RATES, REGIONS, SEEDS, SIZES, WIDTHS, Run
from scipy.stats import t as student
from scipy.stats import ttest_rel
from train import RESULTS, Data, lines

from drconv.analysis import environment
from drconv.analysis.timing import Candidate, StopRule, time_interleaved

PICTURES = Path(__file__).parent.parent.parent / "docs" / "images" / "evidence"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"  # Okabe and Ito's

Results = dict[str, dict[str, Any]]


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


def maps_table(results: Results, data: Data) -> list[str]:
    """Return how far guided masks follow the true maps."""
    rows = [
        "| | seeds | NMI, mean of layers | NMI, best layer | ARI, mean of layers | ARI, best layer | regions alive | "
        "top-1, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    untrained = [r for r in results.values() if r.get("untrained_maps")][:1]
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
    nmi, ari = color_clusters(data)
    rows.append(f"| k-means on colour, k = 4 | | {nmi:.2f} | | {ari:.2f} | | | |")
    return rows


def color_clusters(data: Data) -> tuple[float, float]:
    """Return NMI and ARI of k-means on colours, at a quarter of the images' side, as the masks of the first stage."""
    import torch.nn.functional as F
    from sklearn.cluster import KMeans
    from train import MAP_IMAGES

    from drconv.analysis.agreement import label_agreement

    scores = []
    for index in range(MAP_IMAGES):
        sample = data.validation[index]
        colors = F.avg_pool2d(sample.image[None], 4)[0]
        points = colors.flatten(1).T.numpy()
        mask = KMeans(4, n_init=2, random_state=0).fit_predict(points).reshape(colors.shape[1:])
        found = label_agreement(mask, sample.region_map.numpy(), 4)
        scores.append((found.nmi, found.ari))
    return fmean(n for n, _ in scores), fmean(a for _, a in scores)


def time_networks(num_classes: int) -> None:
    """Time inference of the networks at equal multiply-adds, and keep it."""
    torch.set_num_threads(1)
    times: dict[str, Any] = {"environment": environment()}
    for batch in (1, 32):
        images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)
        candidates = {}
        for name, network in EQUAL_MADDS.items():
            model = build(network, num_classes)[0].eval()
            candidates[name] = Candidate(partial(model, images))
        with torch.inference_mode():
            found = time_interleaved(candidates, StopRule(max_time=10.0))
        times[f"batch {batch}"] = {name: found[name].median / batch for name in candidates}
    (RESULTS / "times.json").write_text(json.dumps(times, indent=1) + "\n")


def times_table(results: Results) -> list[str]:
    """Return time beside accuracy."""
    path = RESULTS / "times.json"
    if not path.exists():
        return ["(no times yet: `--time`)"]
    times = json.loads(path.read_text())
    rows = ["| | top-1, % | batch 1, µs per image | batch 32, µs per image |", "|---|---|---|---|"]
    for name, network in EQUAL_MADDS.items():
        cells = (f"{1e6 * times[f'batch {batch}'][name]:.0f}" for batch in (1, 32))
        rows.append(f"| {name} | {spread([top1(r) for r in found_of(results, network)])} | {' | '.join(cells)} |")
    return rows


def _axes(figure: Figure, ylabel: str) -> Any:
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel(ylabel)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _save(figure: Figure, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(PICTURES / f"{name}.png", dpi=160)


def dots(results: Results, parts: dict[str, list[dict[str, Any]]], name: str, ylabel: str) -> None:
    """Draw every seed as a dot, and the mean as a line, one column per network."""
    figure = Figure(figsize=(1.2 + 1.15 * len(parts), 3.2), layout="constrained")
    axes = _axes(figure, ylabel)
    for column, found in enumerate(parts.values()):
        values = [top1(result) for result in found]
        if values:
            axes.plot([column] * len(values), values, "o", color=BLUE, alpha=0.6, markersize=5)
            axes.plot([column - 0.25, column + 0.25], [fmean(values)] * 2, color=ORANGE, linewidth=2)
    axes.set_xticks(range(len(parts)), [label.replace(", ", ",\n").replace(" ", "\n", 1) for label in parts])
    axes.set_xlim(-0.5, len(parts) - 0.5)
    _save(figure, name)


def draw(results: Results) -> None:
    """Draw the plots of the page."""
    ylabel = "top-1 on held-out mosaics, %"
    dots(results, {n: found_of(results, w) for n, w in EQUAL_MADDS.items()}, "equal-madds", ylabel)
    dots(results, {n: found_of(results, w) for n, w in REGIONS.items()}, "regions", ylabel)
    dots(results, {n: found_of(results, w) for n, w in GUIDES.items()}, "guides", ylabel)
    dots(results, {n: found_of(results, w) for n, w in FILTERS.items()}, "filters", ylabel)
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = _axes(figure, ylabel)
    for kind, label, color, marker in (("static", "static", GREY, "s"), ("pooled", "DRConv pooled", BLUE, "o")):
        points = []
        for name, madds in WIDTHS.items():
            found = found_of(results, SIZES[f"{kind}, {name} cost"])
            values = [top1(r) for r in found]
            axes.plot([madds / 1e6] * len(found), values, marker, color=color, alpha=0.4, markersize=4)
            if found:
                points.append((madds / 1e6, fmean(values)))
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([madds / 1e6 for madds in WIDTHS.values()], [f"{madds / 1e6:g}" for madds in WIDTHS.values()])
    axes.set_xlabel("multiply-adds per image, millions")
    axes.legend(frameon=False)
    _save(figure, "sizes")
    figure = Figure(figsize=(5.6, 3.2), layout="constrained")
    axes = _axes(figure, "NMI with the true map")
    for (name, (network, weight)), color in zip(MAPS.items(), (GREY, BLUE, ORANGE, GREEN), strict=True):
        tables = [result["maps"] for result in found_of(results, network, weight)]
        if tables:
            layers = list(tables[0])
            means = [fmean(table[layer]["nmi"] for table in tables) for layer in layers]
            axes.plot(range(1, len(layers) + 1), means, marker="o", color=color, label=name)
    axes.set_xlabel("DRConv layer, from input to output")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, "maps")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--time", action="store_true", help="time the networks first; leave the machine alone meanwhile"
    )
    arguments = parser.parse_args()
    data = Data()
    if arguments.time:
        time_networks(data.num_classes)
    results = {line["key"]: line for line in lines()}
    print(f"{len(results)} runs, {sum(r['seconds'] for r in results.values()) / 3600:.1f} hours of one core")
    parts = {
        "Equal multiply-adds": accuracy_table(results, EQUAL_MADDS, "static"),
        "Number of regions": accuracy_table(results, REGIONS, "m = 1"),
        "Guides and gradients": accuracy_table(results, GUIDES, "guide trained"),
        "Regions or only filters from the image, basis generator": accuracy_table(results, FILTERS, "1 region"),
        "Learning rate, seed 0": rates_table(results),
        "Smaller and larger": sizes_table(results),
        "Do regions follow the image": maps_table(results, data),
        "Time": times_table(results),
    }
    for title, rows in parts.items():
        print(f"\n## {title}\n")
        print("\n".join(rows))
    draw(results)


if __name__ == "__main__":
    main()
