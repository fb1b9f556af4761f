"""Train what is missing of the study, and write one line per run into studies/results/evidence/.

`python studies/evidence/train.py --share 0/2` and `--share 1/2` side by side use two cores; a run that was interrupted
is done again. `python studies/evidence/measure.py` then times the networks, and `python studies/evidence/report.py`
makes tables and plots.
"""

import argparse
import json
import time
from statistics import fmean
from typing import Any

import numpy as np
import torch
from networks import IMAGE_SIZE, build
from results import RESULTS, lines
from runs import Run, all_runs

from drconv.analysis import environment, record_regions
from drconv.analysis.agreement import label_agreement
from drconv.errors import ModelError
from drconv.models.calibrate import calibrate_batch_norm
from drconv.training import Trainer, TrainingOptions
from drconv.training.mosaic import MosaicDataset
from drconv.training.sample import Sample, SampleDataset

TRAIN_IMAGES, VALIDATION_IMAGES, MAP_IMAGES = 8192, 2048, 200
EPOCHS, BATCH = 12, 64


class Kept(SampleDataset):
    """A mosaic data set in memory, drawn once and, for training, mirrored anew in every epoch."""

    def __init__(self, source: MosaicDataset, *, mirrored: bool) -> None:
        super().__init__(source.class_names, has_region_maps=True)
        self._samples = [source[index] for index in range(len(source))]
        self._mirrored = mirrored

    def __len__(self) -> int:
        return len(self._samples)

    def _item(self, index: int) -> Sample:
        image, label, region_map = self._samples[index]
        if self._mirrored:
            flips = np.random.default_rng((self.epoch, index)).random(2) < 0.5
            axes = [axis for axis, flip in zip((-1, -2), flips, strict=True) if flip]
            image, region_map = image.flip(axes), region_map.flip(axes)
        return Sample(image, label, region_map)


class Data:
    """The same images for every run."""

    name = "mosaic, kept"
    has_region_maps = True

    def __init__(self) -> None:
        self.train = Kept(MosaicDataset(TRAIN_IMAGES, IMAGE_SIZE, seed=0), mirrored=True)
        self.validation = Kept(MosaicDataset(VALIDATION_IMAGES, IMAGE_SIZE, seed=0, split="validation"), mirrored=False)
        self.class_names = self.train.class_names
        self.num_classes = len(self.class_names)


def agreement(model: torch.nn.Module, data: Kept) -> dict[str, dict[str, float]]:
    """Return per layer the mean NMI and ARI of guided masks with the true maps, and how many regions are alive."""
    found: dict[str, list[tuple[float, float]]] = {}
    alive: dict[str, set[int]] = {}
    with torch.inference_mode():
        for index in range(MAP_IMAGES):
            sample = data[index]
            with record_regions(model) as recording:
                model(sample.image[None])
            for layer in recording.layers:
                mask = layer.guided_mask[0].numpy()
                scores = label_agreement(mask, sample.region_map.numpy(), layer.guided_feature.shape[1])
                found.setdefault(layer.name, []).append((scores.nmi, scores.ari))
                alive.setdefault(layer.name, set()).update(np.unique(mask).tolist())
    return {
        name: {"nmi": fmean(n for n, _ in pairs), "ari": fmean(a for _, a in pairs), "alive": len(alive[name])}
        for name, pairs in found.items()
    }


def maps_of(model: torch.nn.Module, data: Kept) -> dict[str, dict[str, float]] | None:
    """Return what `agreement` does; None for a network without regions."""
    try:
        return agreement(model, data)
    except ModelError:
        return None


def train(run: Run, data: Data) -> dict[str, Any]:
    """Train one network and return what is to be kept."""
    options = TrainingOptions(
        epochs=EPOCHS,
        batch_size=BATCH,
        lr=run.rate,
        warmup_steps=50,
        guide_supervision=run.guide_supervision,
        seed=run.seed,
    )
    torch.manual_seed(run.seed)
    model, channels, madds = build(run.network, data.num_classes)
    untrained = None
    if run.network.kind == "basis" and run.seed == 0:
        calibrate_batch_norm(model, torch.stack([data.validation[index].image for index in range(64)]))
        untrained = maps_of(model, data.validation)
        torch.manual_seed(run.seed)
        model = build(run.network, data.num_classes)[0]
    trainer = Trainer(model, data, options)
    start = time.perf_counter()
    for _ in range(options.epochs):
        for _ in trainer.steps():
            pass
        trainer.finish_epoch(None)
    seconds = time.perf_counter() - start
    return {
        "key": run.key,
        "network": run.network.__dict__,
        "guide_supervision": run.guide_supervision,
        "seed": run.seed,
        "channels": channels,
        "madds": madds,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(seconds, 1),
        "history": [{"train": epoch["train"], "validation": epoch["validation"]} for epoch in trainer.history],
        "regions": trainer.history[-1]["regions"],
        "maps": maps_of(trainer.weights, data.validation),
        "untrained_maps": untrained,
        "options": options.to_dict(),
    }


def main() -> None:
    """Train all runs of this share that have no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", default="0/1", help="which part of the runs: I/N, I from 0")
    parser.add_argument("--stop-after", type=float, default=float("inf"), help="begin no run after so many minutes")
    arguments = parser.parse_args()
    rank, count = (int(part) for part in arguments.share.split("/"))
    torch.set_num_threads(1)
    start = time.perf_counter()
    data = Data()
    print(f"{TRAIN_IMAGES + VALIDATION_IMAGES} images in {time.perf_counter() - start:.0f} s")
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"runs-{rank}-of-{count}.jsonl"
    for run in all_runs()[rank::count]:
        if any(line["key"] == run.key for line in lines()):
            continue
        if time.perf_counter() - start > 60 * arguments.stop_after:
            break
        result = train(run, data) | {"environment": environment()}
        with path.open("a") as file:
            file.write(json.dumps(result) + "\n")
        last = result["history"][-1]["validation"]
        print(f"{run.key}: top-1 {last['top1']:.3f}, {result['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
