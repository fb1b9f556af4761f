"""Time the networks of the comparison at equal multiply-adds, and cluster colours, into measured.json.

`python studies/evidence/measure.py` takes two minutes and wants the machine for itself.
"""

import json
from functools import partial
from statistics import fmean

import torch
import torch.nn.functional as F
from networks import IMAGE_SIZE, build
from results import MEASURED
from runs import EQUAL_MADDS
from sklearn.cluster import KMeans
from train import MAP_IMAGES, VALIDATION_IMAGES, Kept

from drconv.analysis import environment
from drconv.analysis.agreement import label_agreement
from drconv.analysis.timing import Candidate, StopRule, time_interleaved
from drconv.training.mosaic import MosaicDataset


def times(num_classes: int) -> dict[str, dict[str, float]]:
    """Return the medians of inference of the networks at equal multiply-adds, one thread, seconds per image."""
    medians = {}
    for batch in (1, 32):
        images = torch.randn(batch, 3, IMAGE_SIZE, IMAGE_SIZE)
        candidates = {}
        for name, network in EQUAL_MADDS.items():
            model = build(network, num_classes)[0].eval()
            candidates[name] = Candidate(partial(model, images))
        with torch.inference_mode():
            found = time_interleaved(candidates, StopRule(max_time=10.0), torch.device("cpu"))
        medians[f"batch {batch}"] = {name: found[name].median / batch for name in candidates}
    return medians


def color_clusters(validation: Kept) -> dict[str, float]:
    """Return NMI and ARI of k-means on colours, at a quarter of the images' side, as the masks of the first stage."""
    scores = []
    for index in range(MAP_IMAGES):
        sample = validation[index]
        colors = F.avg_pool2d(sample.image[None], 4)[0]
        points = colors.flatten(1).T.numpy()
        mask = KMeans(4, n_init=2, random_state=0).fit_predict(points).reshape(colors.shape[1:])
        found = label_agreement(mask, sample.region_map.numpy(), 4)
        scores.append((found.nmi, found.ari))
    return {"nmi": fmean(n for n, _ in scores), "ari": fmean(a for _, a in scores)}


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    validation = Kept(MosaicDataset(VALIDATION_IMAGES, IMAGE_SIZE, seed=0, split="validation"), mirrored=False)
    found = {
        "times": times(len(validation.class_names)),
        "clusters": color_clusters(validation),
        "environment": environment(),
    }
    MEASURED.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
