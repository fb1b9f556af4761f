"""Draw photos beside their regions: of the demo weights, of the same network with random weights, of k-means on colour.

`python studies/demo_pictures.py` writes docs/images/demo_weights.png and demo_weights_segments.png. The latter is of
the blind photos, which must be fetched and are not ours to show: their segments stand for them.
"""

import argparse
from math import ceil
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from demo_evaluation import REGIONS, SHORTER_SIDE
from matplotlib.figure import Figure
from numpy.typing import NDArray
from photo_segments import IGNORED, SegmentedPhoto, segmented_photos
from sklearn.cluster import KMeans
from torch import Tensor, nn

from drconv import DRConv2d, create_model, record_regions
from drconv.models import DEMO, calibrate_batch_norm, load_model
from drconv.viz.image import load_image
from drconv.viz.palette import region_colors

IMAGES = Path(__file__).parents[1] / "docs" / "images"


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the last region layer of each stage."""
    names = [name for name, module in model.named_modules() if isinstance(module, DRConv2d)]
    return tuple({name.partition(".")[0]: name for name in names}.values())


def region_maps(model: nn.Module, tensor: Tensor, layers: tuple[str, ...]) -> list[NDArray[np.int64]]:
    """Return the guided masks of some layers."""
    with record_regions(model) as recording, torch.inference_mode():
        model(tensor)
    return [recording[name].guided_mask[0].numpy() for name in layers]


class Painter:
    """Draws rows of maps."""

    def __init__(self, weights: str) -> None:
        torch.manual_seed(0)
        self.untrained = create_model("drconv_shufflenet_v2_demo", features_only=True).eval()
        self.trained = load_model(weights).eval()
        self.layers = last_layers(self.trained)
        self.titles = [
            "drawn by hand",
            *(f"demo weights\n{name}" for name in self.layers),
            f"random weights\n{self.layers[0]}",
            "k-means on colour",
        ]

    def pictures(self, photo: SegmentedPhoto) -> tuple[NDArray[np.uint8], list[NDArray[np.float64]]]:
        """Return a photo, and in colours its segments and all region maps; what nobody would say is white."""
        loaded = load_image(photo.path, SHORTER_SIDE)
        # A fresh network has no statistics yet; `drconv visualize` takes those of the first image, too.
        calibrate_batch_norm(self.untrained, loaded.tensor)
        small = F.avg_pool2d(loaded.tensor, 4, ceil_mode=True)[0]
        clusters = KMeans(REGIONS, n_init=4, random_state=0).fit_predict(small.flatten(1).T.numpy())
        colours = np.ones((IGNORED + 1, 3))
        colours[:IGNORED] = region_colors(IGNORED)
        maps = [photo.labels, *region_maps(self.trained, loaded.tensor, self.layers)]
        maps += [*region_maps(self.untrained, loaded.tensor, self.layers[:1]), clusters.reshape(small.shape[1:])]
        return loaded.pixels, [colours[mask] for mask in maps]

    def draw(self, photos: list[SegmentedPhoto], path: Path, *, shown: bool, blocks: int = 1) -> None:
        """Write one row per photo, in some blocks side by side, with the photos themselves or without."""
        titles = ["photo", *self.titles] if shown else self.titles
        rows = ceil(len(photos) / blocks)
        matplotlib.rcParams["font.size"] = 7
        figure = Figure(figsize=(1.35 * blocks * len(titles), 1.05 * rows + 0.3), layout="constrained")
        whole = figure.subplots(rows, blocks * len(titles), squeeze=False)
        for axis in whole.flat:
            axis.set(xticks=[], yticks=[])
            axis.set_axis_off()  # the last places may stay empty
        for number, photo in enumerate(photos):
            block, row = divmod(number, rows)
            pixels, maps = self.pictures(photo)
            axes = whole[row, block * len(titles) : (block + 1) * len(titles)]
            for axis, title, picture in zip(axes, titles, [pixels, *maps] if shown else maps, strict=True):
                axis.set_axis_on()
                axis.imshow(picture, extent=(0, pixels.shape[1], pixels.shape[0], 0), interpolation="nearest")
                if row == 0:
                    axis.set_title(title, fontsize=7)
            axes[0].set_ylabel(photo.name)
        figure.savefig(path, dpi=130)


def main() -> None:
    """Draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default=DEMO)
    parser.add_argument("--output", type=Path, default=IMAGES, help="a folder")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    painter = Painter(asked.weights)
    painter.draw(segmented_photos("choice"), asked.output / "demo_weights.png", shown=True)
    painter.draw(segmented_photos("blind"), asked.output / "demo_weights_segments.png", shown=False, blocks=2)


if __name__ == "__main__":
    main()
