"""Train the demo weights: a narrow ShuffleNetV2 whose guides are supervised with region maps of mosaics and of photos.

That supervision is not in the paper. Run with `python studies/demo_weights.py`; see docs/demo_weights.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi, sqrt
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from demo_evaluation import mosaics, network_agreement, photos, summary
from photo_crops import draw_crops
from photo_segments import IGNORED, segmented_photos
from torch import Tensor, nn

from drconv import create_model, fold_guide_norm
from drconv.analysis import environment
from drconv.layers import BasisFilterGenerator, GuideConv2d
from drconv.models import DEMO_WEIGHTS, ModelDescription, save_weights
from drconv.training.average import WeightAverage
from drconv.training.guide_loss import collect_guided_features, guide_pair_loss
from drconv.training.mosaic import MosaicDataset
from drconv.training.region_contrast import region_contrast_loss
from drconv.viz.image import normalised

MODEL = "drconv_shufflenet_v2_demo"
RESULTS = Path(__file__).parent / "results" / "demo_weights.json"
IMAGE_SIZE = 64
WARM_UP, WEIGHT_DECAY, CLIP = 50, 0.02, 5.0
PAIR_WEIGHT = 2.0
AVERAGE = 0.998
"""Decay per step of the running average of the weights, which is what ships."""
CHOICE_SEED = 2000
"""Of the mosaics that choose how to train; demo_evaluation.py has others."""


@dataclass(frozen=True)
class Phase:
    """A part of the training, with a learning rate that ends at zero.

    Attributes:
        steps: of the optimiser.
        rate: the highest learning rate.
        mosaics, crops: how many of a batch are mosaics, and crops of photos.
        images: how many of each are drawn before; every epoch sees them augmented anew.
    """

    steps: int
    rate: float
    mosaics: int
    crops: int
    images: int


PHASES = (
    Phase(steps=5000, rate=5e-3, mosaics=32, crops=0, images=24_000),
    Phase(steps=2000, rate=2e-3, mosaics=36, crops=24, images=12_000),
    Phase(steps=1800, rate=1e-3, mosaics=40, crops=16, images=16_000),
)
"""Textures first; then photos, too, without the guides' norms; then fewer of them, so that no texture is forgotten."""


class Embedding(nn.Module):
    """A vector for every position, from the maps at strides 4 and 8; only training has it."""

    def __init__(self, channels: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(channels[-2], width, 1), nn.Conv2d(channels[-1], width, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return `[B, width, U, V]` at the stride of the finer map."""
        coarse = self.coarse(maps[-1])
        return self.fine(maps[-2]) + F.interpolate(coarse, maps[-2].shape[2:], mode="bilinear", align_corners=False)


def draw_mosaics(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return mosaics as bytes `[N, 3, S, S]`, and their region maps `[N, S, S]`."""
    data = MosaicDataset(count, size, seed, photos=True)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    maps = torch.empty(count, size, size, dtype=torch.uint8)
    for index in range(count):
        mosaic = data.mosaic(index)
        images[index] = torch.from_numpy(mosaic.levels).permute(2, 0, 1).mul(255).round().byte()
        maps[index] = torch.from_numpy(mosaic.region_map)
    return images, maps


def batches(
    images: Tensor, maps: Tensor, size: int, random: torch.Generator, *, natural: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented batches for ever, each epoch in another order."""
    while True:
        order = torch.randperm(len(images), generator=random)
        for chosen in order.split(size):
            if len(chosen) == size:
                yield augmented(images[chosen].float() / 255, maps[chosen].long(), random, natural=natural)


def augmented(images: Tensor, maps: Tensor, random: torch.Generator, *, natural: bool) -> tuple[Tensor, Tensor]:
    """Return images as the network takes them, mirrored, with other colours and light; and their maps, mirrored.

    Args:
        images: RGB 0 to 1, `[B, 3, S, S]`.
        maps: `[B, S, S]`.
        random: source of all randomness.
        natural: whether they are photos, which keep their upper side and about their colours. Photos in any colours
            teach less (docs/demo_weights.md).
    """
    count = len(images)

    def drawn(low: float, high: float, channels: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, channels, 1, 1, generator=random)

    images, maps = images.clone(), maps.clone()
    for axis in (2,) if natural else (1, 2):
        flips = torch.rand(count, generator=random) < 0.5
        images[flips], maps[flips] = images[flips].flip(axis + 1), maps[flips].flip(axis)
    if natural:
        images, saturation = images * drawn(0.92, 1.08, channels=3), drawn(0.5, 1.3)
    else:
        channels = torch.rand(count, 3, generator=random).argsort(1)
        images, saturation = images.gather(1, channels[:, :, None, None].expand_as(images)), drawn(0, 1.2).sqrt()
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * saturation
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * drawn(0.6, 1.4) + mean + drawn(-0.15, 0.15)
    return normalised(images.clamp(0, 1)), maps


def mixed(phase: Phase, seed: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of mosaics and crops of photos; both are in each, so that the norms' statistics fit both."""
    parts = [batches(*draw_mosaics(phase.images, IMAGE_SIZE, seed), phase.mosaics, random, natural=False)]
    if phase.crops:
        parts.append(batches(*draw_crops(phase.images, IMAGE_SIZE, seed), phase.crops, random, natural=True))
    for drawn in zip(*parts, strict=True):
        images, maps = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
        yield images.contiguous(memory_format=torch.channels_last), maps


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return all parameters, with decay for matrices outside of guides."""
    guides = {id(p) for m in model.modules() if isinstance(m, GuideConv2d) for p in m.parameters()}
    decayed = [p for p in model.parameters() if p.dim() > 1 and id(p) not in guides]
    others = [p for p in model.parameters() if p.dim() <= 1 or id(p) in guides]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the learning rate: linear warm-up, then a cosine to zero."""
    return min((step + 1) / warm_up, 1) * (1 + cos(pi * step / steps)) / 2


def new_model(seed: int) -> nn.Module:
    """Return the network with random weights and norms on its guides."""
    torch.manual_seed(seed)
    model = create_model(MODEL, features_only=True, guide_norm="batch")
    widen_bases(model)
    return model


def train(model: nn.Module, phase: Phase, seed: int, every: int) -> Iterator[tuple[int, nn.Module]]:
    """Train a model in place, and yield (step, the average of it, of the paper's layers) now and then and at the end.

    Args:
        model: the network.
        phase: what to do.
        seed: of the embedding, the images and their augmentation.
        every: steps between two yields.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    head = Embedding(model.feature_channels)
    both = nn.ModuleList([model, head]).train().requires_grad_(True).to(memory_format=torch.channels_last)
    stream = mixed(phase, seed, random)
    optimizer = torch.optim.AdamW(parameter_groups(both, WEIGHT_DECAY), lr=phase.rate)
    average = WeightAverage(model, AVERAGE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, phase.steps, WARM_UP))
    start, sums = perf_counter(), [0.0, 0.0]
    for step in range(1, phase.steps + 1):
        images, maps = next(stream)
        with collect_guided_features(model) as guided:
            contrast = region_contrast_loss(head(model(images)), maps, random, ignore_index=IGNORED)
            pair = guide_pair_loss(guided, maps, random, ignore_index=IGNORED)
        optimizer.zero_grad()
        (contrast + PAIR_WEIGHT * pair).backward()
        nn.utils.clip_grad_norm_(both.parameters(), CLIP)
        optimizer.step()
        schedule.step()
        average.update(model)
        sums = [total + float(loss.detach()) for total, loss in zip(sums, (contrast, pair), strict=True)]
        if step % 100 == 0:
            contrast_mean, pair_mean = (total / 100 for total in sums)
            seconds = perf_counter() - start
            print(f"step {step}, {seconds:.0f} s: contrast {contrast_mean:.3f}, pair {pair_mean:.3f}", flush=True)
            sums = [0.0, 0.0]
        if step == phase.steps or step % every == 0:
            yield step, rounded(fold_guide_norm(average.model))


def widen_bases(model: nn.Module) -> None:
    """Make the mean of all bases as large as He's filters are, where the released code makes each base so."""
    for module in model.modules():
        if isinstance(module, BasisFilterGenerator):
            with torch.no_grad():
                module.bases.mul_(sqrt(module.num_experts))


def shortened(phase: Phase, part: float) -> Phase:
    """Return a phase of fewer steps and images, at least one step and one batch."""
    images = max(round(part * phase.images), phase.mosaics, phase.crops)
    return replace(phase, steps=max(1, round(part * phase.steps)), images=images)


@torch.no_grad()
def rounded(model: nn.Module) -> nn.Module:
    """Round a model's weights as the file of weights does, so that what is measured is what ships."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(parameter.bfloat16())
    return model.to(memory_format=torch.contiguous_format)


def recipe_of(phases: Sequence[Phase], seed: int, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what the file of weights says of itself; `found` is what was measured at the end."""
    return {
        "about": "guides supervised with region maps of mosaics and of photos, which is not in the paper",
        "script": "studies/demo_weights.py",
        "seed": seed,
        "phases": [asdict(phase) for phase in phases],
        "image_size": IMAGE_SIZE,
        "weight_decay": WEIGHT_DECAY,
        "pair_weight": PAIR_WEIGHT,
        "weight_average": AVERAGE,
        "clip": CLIP,
        **{
            name: {"mean_nmi": round(scores["mean_nmi"], 4), "mean_ari": round(scores["mean_ari"], 4)}
            for name, scores in found.items()
        },
    }


def main() -> None:
    """Train, and write weights and results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--part", type=float, default=1.0, help="of steps and images: below 1 for a trial, in other files"
    )
    parser.add_argument("--output", type=Path, default=DEMO_WEIGHTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.part < 1 and (asked.output == DEMO_WEIGHTS or asked.results == RESULTS):
        parser.error("a trial needs --output and --results, so that it does not take the place of the whole training")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    segmented_photos("training")  # so that a missing one is told now, not after the first phase
    for path in (asked.output, asked.results):
        path.parent.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    kept = {
        "choice_photos": photos(segmented_photos("choice")),
        "choice_mosaics": mosaics("validation", seed=CHOICE_SEED),
    }
    phases = [shortened(phase, asked.part) for phase in PHASES]
    model, course = new_model(asked.seed), []
    for number, phase in enumerate(phases):
        for step, averaged in train(model, phase, len(PHASES) * asked.seed + number, max(1, phase.steps // 5)):
            found = {name: summary(network_agreement(averaged, items)) for name, items in kept.items()}
            course.append({"phase": number, "step": step, **found})
            for name, scores in found.items():
                best = ", ".join(f"{layer['nmi']:.3f}" for layer in scores["best"].values())
                print(f"step {step}: {name}, NMI {scores['mean_nmi']:.3f}, best of each stage {best}", flush=True)
        model = averaged
    seconds = perf_counter() - start
    recipe = recipe_of(phases, asked.seed, found)
    description = ModelDescription(MODEL, {"features_only": True}, trained=recipe)
    save_weights(asked.output, model.state_dict(), description, "bfloat16")
    results = {"recipe": recipe, "seconds": seconds, "course": course, "environment": environment(torch.device("cpu"))}
    asked.results.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{asked.output}: {seconds:.0f} s")


if __name__ == "__main__":
    main()
