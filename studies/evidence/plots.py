"""The plots of docs/evidence.md."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from results import Results, found_of, measured, top1
from runs import EQUAL_MADDS, FILTERS, GUIDES, MAPS, REGIONS, SIZES, WIDTHS

PICTURES = Path(__file__).parent.parent.parent / "docs" / "images" / "evidence"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"  # Okabe and Ito's


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
    axes.set_xticks(
        range(len(parts)),
        [label if "=" in label else label.replace(", ", ",\n").replace(" ", "\n", 1) for label in parts],
    )
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
    clusters = measured().get("clusters")
    if clusters:
        axes.axhline(clusters["nmi"], color=GREY, linestyle=":", linewidth=1, label="k-means on colour, k = 4")
    axes.set_ylim(0, 0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    _save(figure, "maps")
