"""Do the regions of a network follow the image? Agreement of its region maps with known and with hand-drawn segments.

`python studies/demo_evaluation.py` measures the demo weights, the same network untrained, and k-means on colour, and
writes studies/results/demo_evaluation.json. The blind photos are measured here and nowhere else.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from photo_segments import IGNORED, SegmentedPhoto, segmented_photos
from scipy import stats
from sklearn.cluster import KMeans
from torch import Tensor, nn

from drconv import create_model, record_regions
from drconv.analysis import environment
from drconv.analysis.agreement import label_agreement, resized
from drconv.models import DEMO, calibrate_batch_norm, load_model
from drconv.training.mosaic import MosaicDataset
from drconv.viz.image import load_image

RESULTS = Path(__file__).parent / "results" / "demo_evaluation.json"
SHORTER_SIDE = 224  # of photos, pixels: what `drconv visualize` does by default
SPLITS = ("validation", "unseen", "photos")
REGIONS = 4
_TITLES = {
    "validation": "mosaics, same families",
    "unseen": "mosaics, unseen families",
    "photos": "mosaics of photos",
    "choice": "photos, choice",
    "blind": "photos, blind",
}

Item = tuple[Tensor, NDArray[np.integer[Any]]]
"""An image `[3, H, W]` as a network takes it, and the true segment of every pixel."""


@dataclass(frozen=True)
class Agreement:
    """Means over images.

    Attributes:
        nmi, ari: with the true segments.
        live: regions that occur in the set.
        smallest_share: of the positions of the set, of the rarest region.
        regions_per_image: regions with at least 5 % of an image's positions, mean over images.
        entropy: of the regions' shares over the set, bits.
    """

    nmi: float
    ari: float
    live: int
    smallest_share: float
    regions_per_image: float
    entropy: float


class Tally:
    """Collects maps of one source and the segments that they are compared with."""

    def __init__(self) -> None:
        self.scores: list[tuple[float, float]] = []
        self.shares: list[NDArray[np.float64]] = []

    def add(self, mask: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]]) -> None:
        """Count one map, `[U, V]`, against segments `[H, W]`, each position against the pixel in its middle."""
        found = label_agreement(mask, resized(labels, mask.shape), REGIONS, (IGNORED,))
        self.scores.append((found.nmi, found.ari))
        self.shares.append(np.bincount(mask.ravel(), minlength=REGIONS) / mask.size)

    def result(self) -> Agreement:
        """Return the means."""
        nmi, ari = np.mean(self.scores, axis=0)
        shares = np.array(self.shares)
        whole = shares.mean(0)
        entropy = -sum(share * log2(share) for share in whole if share > 0)
        per_image = float((shares >= 0.05).sum(1).mean())
        return Agreement(float(nmi), float(ari), int((whole > 0).sum()), float(whole.min()), per_image, float(entropy))


def mosaics(split: str, count: int = 100, seed: int = 1000) -> list[Item]:
    """Return held-out mosaics."""
    data = MosaicDataset(count, 64, seed, split=split, photos=split != "unseen")
    return [(sample.image, sample.region_map.numpy()) for sample in (data[index] for index in range(count))]


def photos(chosen: Iterable[SegmentedPhoto]) -> list[Item]:
    """Return photos with their hand-drawn segments."""
    return [(load_image(photo.path, SHORTER_SIDE).tensor[0], photo.labels) for photo in chosen]


def network_agreement(model: nn.Module, items: Iterable[Item]) -> dict[str, Agreement]:
    """Return the agreement of every region layer."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for image, labels in items:
        with record_regions(model) as recording, torch.inference_mode():
            model(image[None])
        for layer in recording.layers:
            tallies[layer.name].add(layer.guided_mask[0].numpy(), labels)
    return {name: tally.result() for name, tally in tallies.items()}


def colour_agreement(items: Iterable[Item]) -> Agreement:
    """Return the agreement of k-means on the colours of each image, with k = 4, on the grid of stride 4."""
    tally = Tally()
    for image, labels in items:
        small = F.avg_pool2d(image[None], 4, ceil_mode=True)[0]
        found = KMeans(REGIONS, n_init=4, random_state=0).fit_predict(small.flatten(1).T.numpy())
        tally.add(found.reshape(small.shape[1:]), labels)
    return tally.result()


def summary(layers: dict[str, Agreement]) -> dict[str, Any]:
    """Return the mean over layers and the best layer of each stage."""
    stages: dict[str, dict[str, Agreement]] = defaultdict(dict)
    for name, found in layers.items():
        stages[name.partition(".")[0]][name] = found
    best = {stage: max(of_stage, key=lambda name: of_stage[name].nmi) for stage, of_stage in stages.items()}
    return {
        "mean_nmi": float(np.mean([found.nmi for found in layers.values()])),
        "mean_ari": float(np.mean([found.ari for found in layers.values()])),
        "best": {stage: {"layer": name, **asdict(layers[name])} for stage, name in best.items()},
        "layers": {name: asdict(found) for name, found in layers.items()},
    }


def chosen_layer(found: dict[str, dict[str, Any]]) -> str:
    """Return the layer that is best on the photos of the choice."""
    return max(found["choice"]["layers"].items(), key=lambda of_layer: of_layer[1]["nmi"])[0]


def bars(found: dict[str, dict[str, Any]], colours: dict[str, Agreement]) -> list[tuple[str, bool, str]]:
    """Return what is demanded of the weights, whether it holds, and the numbers."""
    held_out = found["validation"]
    rows = []
    for stage, best in held_out["best"].items():
        rows.append(
            (f"validation mosaics, best layer of {stage}: NMI >= 0.65", best["nmi"] >= 0.65, f"{best['nmi']:.3f}")
        )
    mean = held_out["mean_nmi"]
    rows.append(("validation mosaics, mean over layers: NMI >= 0.55", mean >= 0.55, f"{mean:.3f}"))
    colour = colours["validation"].nmi
    rows.append(("the same, above k-means on colour", mean > colour, f"{mean:.3f} > {colour:.3f}"))
    live = min(layer["live"] for split in SPLITS for layer in found[split]["layers"].values())
    rows.append((f"all {REGIONS} regions alive in every layer, on every set of mosaics", live == REGIONS, str(live)))
    chosen = chosen_layer(found)
    photo, colour = found["blind"], colours["blind"].nmi
    for what, nmi in (
        ("mean over layers", photo["mean_nmi"]),
        (f"{chosen}, the best layer on the photos of the choice,", photo["layers"][chosen]["nmi"]),
    ):
        rows.append((f"blind photos: {what} at least k-means", nmi >= colour, f"{nmi:.3f} against {colour:.3f}"))
    counts = [layer["regions_per_image"] for layer in held_out["layers"].values()]
    rows.append(
        (
            "regions per validation mosaic, each layer: 2 to 4",
            min(counts) >= 2 and max(counts) <= 4,
            f"{min(counts):.1f} to {max(counts):.1f}",
        )
    )
    return rows


def advantage(differences: list[float]) -> dict[str, Any]:
    """Return by how much photos gain: the mean, its 95 % interval (paired t), and how many gain at all."""
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    better = sum(difference > 0 for difference in differences)
    return {"mean": float(np.mean(differences)), "interval": [float(low), float(high)], "better": better}


def photo_rows(split: str, items: list[Item], model: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the NMI of each photo of a split."""
    for photo, item in zip(segmented_photos(split), items, strict=True):
        layers = network_agreement(model, [item])
        last = {name.partition(".")[0]: layer.nmi for name, layer in layers.items()}
        yield {
            "photo": photo.name,
            "split": split,
            "mean": float(np.mean([layer.nmi for layer in layers.values()])),
            "last": list(last.values()),
            "layers": {name: layer.nmi for name, layer in layers.items()},
            "k_means": colour_agreement([item]).nmi,
        }


def markdown(found: dict[str, dict[str, dict[str, Any]]], colours: dict[str, Agreement]) -> Iterator[str]:
    """Yield the lines of the table of docs/demo_weights.md."""
    stages = list(found["demo"]["validation"]["best"])
    names = [f"best of {stage}" for stage in stages]
    yield f"| set | demo: mean over layers | {' | '.join(names)} | untrained: mean | k-means on colour |"
    yield f"|---|{'---:|' * (len(names) + 3)}"
    for split in colours:
        demo, untrained = found["demo"][split], found["untrained"][split]
        cells = [f"{demo['mean_nmi']:.3f} / {demo['mean_ari']:.3f}"]
        cells += [f"{demo['best'][stage]['nmi']:.3f} / {demo['best'][stage]['ari']:.3f}" for stage in stages]
        cells += [f"{untrained['mean_nmi']:.3f} / {untrained['mean_ari']:.3f}"]
        cells += [f"{colours[split].nmi:.3f} / {colours[split].ari:.3f}"]
        yield f"| {_TITLES[split]} | {' | '.join(cells)} |"
    yield ""
    yield "| layer | NMI | ARI | live regions | rarest | regions per mosaic | per photo | entropy, bits |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, layer in found["demo"]["validation"]["layers"].items():
        photo = found["demo"]["blind"]["layers"][name]["regions_per_image"]
        yield (
            f"| `{name}` | {layer['nmi']:.3f} | {layer['ari']:.3f} | {layer['live']} | "
            f"{100 * layer['smallest_share']:.1f} % | {layer['regions_per_image']:.1f} | {photo:.1f} | "
            f"{layer['entropy']:.2f} |"
        )


def main() -> None:
    """Measure the demo weights, an untrained network and k-means on all sets; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=DEMO)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    sets = {split: mosaics(split) for split in SPLITS}
    sets |= {split: photos(segmented_photos(split)) for split in ("choice", "blind")}
    torch.manual_seed(0)
    untrained = create_model("drconv_shufflenet_v2_demo", features_only=True)
    # Without the statistics of some images, a fresh network puts every position into one region.
    calibrate_batch_norm(untrained, torch.stack([image for image, _ in sets["validation"][:32]]))
    models = {"demo": load_model(asked.weights).eval(), "untrained": untrained.eval()}
    found = {
        name: {split: summary(network_agreement(model, items)) for split, items in sets.items()}
        for name, model in models.items()
    }
    colours = {split: colour_agreement(items) for split, items in sets.items()}
    print("\n".join(markdown(found, colours)))
    by_photo = [row for split in ("choice", "blind") for row in photo_rows(split, sets[split], models["demo"])]
    print("\n| photo | split | demo: mean over layers | last layer of each stage | k-means on colour |")
    print("|---|---|---:|---:|---:|")
    for row in by_photo:
        last = ", ".join(f"{nmi:.3f}" for nmi in row["last"])
        print(f"| {row['photo']} | {row['split']} | {row['mean']:.3f} | {last} | {row['k_means']:.3f} |")
    blind = [row for row in by_photo if row["split"] == "blind"]
    layer = chosen_layer(found["demo"])
    advantages = {
        "mean over layers": advantage([row["mean"] - row["k_means"] for row in blind]),
        layer: advantage([row["layers"][layer] - row["k_means"] for row in blind]),
    }
    print()
    for what, gain in advantages.items():
        low, high = gain["interval"]
        print(
            f"blind photos, {what}, NMI less that of k-means: {gain['mean']:+.3f} "
            f"(95 %: {low:+.3f} to {high:+.3f}); better on {gain['better']} of {len(blind)}"
        )
    rows = bars(found["demo"], colours)
    for bar, met, numbers in rows:
        print(f"{'met   ' if met else 'MISSED'} {bar}: {numbers}")
    results = {
        "networks": found,
        "k_means": {split: asdict(agreement) for split, agreement in colours.items()},
        "bars": [{"bar": bar, "met": met, "measured": numbers} for bar, met, numbers in rows],
        "photos": by_photo,
        "blind_less_k_means": advantages,
        "images": {split: len(items) for split, items in sets.items()},
        "environment": environment(torch.device("cpu")),
    }
    asked.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
