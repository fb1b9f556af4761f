"""Draw photos beside their regions: of the demo weights, of the same network with random weights, of k-means on colour.

`python studies/demo_pictures.py` writes docs/images/demo_weights.png.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from demo_evaluation import REGIONS, SHORTER_SIDE
from matplotlib.figure import Figure
from numpy.typing import NDArray
from photo_segments import segmented_photos
from sklearn.cluster import KMeans
from torch import Tensor, nn

from drconv import DRConv2d, create_model, record_regions
from drconv.models import DEMO, calibrate_batch_norm, load_model
from drconv.viz.image import load_image
from drconv.viz.palette import region_colors

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "demo_weights.png"


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the last region layer of each stage."""
    names = [name for name, module in model.named_modules() if isinstance(module, DRConv2d)]
    return tuple({name.partition(".")[0]: name for name in names}.values())


def region_maps(model: nn.Module, tensor: Tensor, layers: tuple[str, ...]) -> list[NDArray[np.int64]]:
    """Return the guided masks of some layers."""
    with record_regions(model) as recording, torch.inference_mode():
        model(tensor)
    return [recording[name].guided_mask[0].numpy() for name in layers]


def main() -> None:
    """Draw one row per photo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=DEMO)
    parser.add_argument("--split", nargs="+", default=["choice", "blind"])
    parser.add_argument("--output", type=Path, default=PICTURE)
    asked = parser.parse_args()
    photos = [photo for split in asked.split for photo in segmented_photos(split)]
    torch.manual_seed(0)
    untrained = create_model("drconv_shufflenet_v2_demo", features_only=True).eval()
    trained = load_model(asked.weights).eval()
    layers = last_layers(trained)
    colours = region_colors(REGIONS)
    columns = ["photo", *(f"demo weights\n{name}" for name in layers), f"random weights\n{layers[0]}"]
    columns.append("k-means on colour")
    matplotlib.rcParams["font.size"] = 7
    figure = Figure(figsize=(1.35 * len(columns), 1.05 * len(photos) + 0.3), layout="constrained")
    axes = figure.subplots(len(photos), len(columns), squeeze=False)
    for row, photo in zip(axes, photos, strict=True):
        loaded = load_image(photo.path, SHORTER_SIDE)
        # A fresh network has no statistics yet; `drconv visualize` takes those of the first image, too.
        calibrate_batch_norm(untrained, loaded.tensor)
        small = F.avg_pool2d(loaded.tensor, 4, ceil_mode=True)[0]
        clusters = KMeans(REGIONS, n_init=4, random_state=0).fit_predict(small.flatten(1).T.numpy())
        maps = [*region_maps(trained, loaded.tensor, layers), *region_maps(untrained, loaded.tensor, layers[:1])]
        maps.append(clusters.reshape(small.shape[1:]))
        extent = (0, loaded.pixels.shape[1], loaded.pixels.shape[0], 0)
        row[0].imshow(loaded.pixels, extent=extent)
        row[0].set_ylabel(f"{photo.name}\n({photo.split})")
        for axis, mask in zip(row[1:], maps, strict=True):
            axis.imshow(colours[mask], extent=extent, interpolation="nearest")
        for axis in row:
            axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(title, fontsize=7)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(asked.output, dpi=130)


if __name__ == "__main__":
    main()
