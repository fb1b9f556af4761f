"""Train the demo weights: a narrow ShuffleNetV2 whose guides are supervised with the known region maps of mosaics.

That supervision is not in the paper. Run with `python studies/demo_weights.py`; see docs/demo_weights.md.
"""

import argparse
import json
from collections.abc import Iterator
from math import cos, pi, sqrt
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from demo_evaluation import mosaics, network_agreement, photos, summary
from photo_segments import segmented_photo
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
STEPS, IMAGES = 5000, 24_000
IMAGE_SIZE, BATCH = 64, 32
RATE, WARM_UP, WEIGHT_DECAY, CLIP = 5e-3, 50, 0.02, 5.0
PAIR_WEIGHT = 2.0
AVERAGE = 0.998
"""Decay per step of the running average of the weights, which is what ships."""
CHOICE = ("chelsea", "china", "flower", "rocket")
"""Photos that choose the step."""


class Embedding(nn.Module):
    """A vector for every position, from the maps at strides 4 and 8; only training has it."""

    def __init__(self, channels: tuple[int, ...], width: int = 16) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(channels[-2], width, 1), nn.Conv2d(channels[-1], width, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return `[B, width, U, V]` at the stride of the finer map."""
        coarse = self.coarse(maps[-1])
        return self.fine(maps[-2]) + F.interpolate(coarse, maps[-2].shape[2:], mode="bilinear", align_corners=False)


def draw_images(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return mosaics as bytes `[N, 3, S, S]`, and their region maps `[N, S, S]`."""
    data = MosaicDataset(count, size, seed, photos=True)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)
    maps = torch.empty(count, size, size, dtype=torch.uint8)
    for index in range(count):
        mosaic = data.mosaic(index)
        images[index] = torch.from_numpy(mosaic.levels).permute(2, 0, 1).mul(255).round().byte()
        maps[index] = torch.from_numpy(mosaic.region_map)
    return images, maps


def batches(images: Tensor, maps: Tensor, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield augmented batches for ever, each epoch in another order."""
    while True:
        order = torch.randperm(len(images), generator=random)
        for chosen in order.split(size):
            if len(chosen) == size:
                yield augmented(images[chosen].float() / 255, maps[chosen].long(), random)


def augmented(images: Tensor, maps: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images, flipped, with other colours and light, as the network takes them; and their maps, flipped."""
    count = len(images)

    def drawn(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=random)

    images, maps = images.clone(), maps.clone()
    for axis in (1, 2):
        flips = torch.rand(count, generator=random) < 0.5
        images[flips], maps[flips] = images[flips].flip(axis + 1), maps[flips].flip(axis)
    channels = torch.rand(count, 3, generator=random).argsort(1)
    images = images.gather(1, channels[:, :, None, None].expand_as(images))
    gray = images.mean(1, keepdim=True)
    images = gray + (images - gray) * drawn(0, 1.2).sqrt()
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * drawn(0.6, 1.4) + mean + drawn(-0.15, 0.15)
    return normalised(images.clamp(0, 1)).contiguous(memory_format=torch.channels_last), maps


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return all parameters, with decay for matrices outside of guides."""
    guides = {id(p) for m in model.modules() if isinstance(m, GuideConv2d) for p in m.parameters()}
    decayed = [p for p in model.parameters() if p.dim() > 1 and id(p) not in guides]
    others = [p for p in model.parameters() if p.dim() <= 1 or id(p) in guides]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the learning rate: linear warm-up, then a cosine to zero."""
    return min((step + 1) / warm_up, 1) * (1 + cos(pi * step / steps)) / 2


def train(steps: int, images: int, seed: int, every: int) -> Iterator[tuple[int, nn.Module]]:
    """Train, and yield (step, the averaged model folded to the paper's layers) now and then in the last quarter.

    Args:
        steps: of the optimiser; the learning rate ends at zero.
        images: mosaics drawn before, which each epoch sees augmented anew.
        seed: of weights, mosaics and augmentation.
        every: steps between two yields.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = create_model(MODEL, features_only=True, guide_norm="batch")
    widen_bases(model)
    head = Embedding(model.feature_channels)
    both = nn.ModuleList([model, head]).train().to(memory_format=torch.channels_last)
    stream = batches(*draw_images(images, IMAGE_SIZE, seed), BATCH, random)
    optimizer = torch.optim.AdamW(parameter_groups(both, WEIGHT_DECAY), lr=RATE)
    average = WeightAverage(model, AVERAGE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps, WARM_UP))
    start, sums = perf_counter(), [0.0, 0.0]
    for step in range(1, steps + 1):
        batch, maps = next(stream)
        with collect_guided_features(model) as guided:
            contrast = region_contrast_loss(head(model(batch)), maps, random)
            pair = guide_pair_loss(guided, maps, random)
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
        if step == steps or (step % every == 0 and step >= 3 * steps // 4):
            yield step, rounded(fold_guide_norm(average.model))


def widen_bases(model: nn.Module) -> None:
    """Make the mean of all bases as large as He's filters are, where the released code makes each base so."""
    for module in model.modules():
        if isinstance(module, BasisFilterGenerator):
            with torch.no_grad():
                module.bases.mul_(sqrt(module.num_experts))


@torch.no_grad()
def rounded(model: nn.Module) -> nn.Module:
    """Round a model's weights as the file of weights does, so that what is measured is what ships."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(parameter.bfloat16())
    return model.to(memory_format=torch.contiguous_format)


def main() -> None:
    """Train, choose the step by the photos kept for that, and write weights and results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500)
    parser.add_argument("--output", type=Path, default=DEMO_WEIGHTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = perf_counter()
    choice = photos(segmented_photo(name) for name in CHOICE)
    tried, best, chosen = [], -1.0, None
    for step, model in train(asked.steps, asked.images, asked.seed, asked.every):
        found = summary(network_agreement(model, choice))
        tried.append({"step": step, "choice_mean_nmi": found["mean_nmi"], "choice_layers": found["layers"]})
        print(f"step {step}: choice photos, mean NMI over layers {found['mean_nmi']:.3f}", flush=True)
        if found["mean_nmi"] > best:
            best, chosen = found["mean_nmi"], (step, model)
    seconds = perf_counter() - start
    step, model = chosen
    held_out = summary(network_agreement(model, mosaics("validation")))
    recipe = {
        "about": "guides supervised with the known region maps of mosaics, which is not in the paper",
        "script": "studies/demo_weights.py",
        "seed": asked.seed,
        "steps": asked.steps,
        "chosen_step": step,
        "images": asked.images,
        "image_size": IMAGE_SIZE,
        "batch": BATCH,
        "rate": RATE,
        "weight_decay": WEIGHT_DECAY,
        "pair_weight": PAIR_WEIGHT,
        "weight_average": AVERAGE,
        "clip": CLIP,
        "validation_mosaics": {"mean_nmi": round(held_out["mean_nmi"], 4), "mean_ari": round(held_out["mean_ari"], 4)},
        "choice_photos": {"mean_nmi": round(best, 4)},
    }
    description = ModelDescription(MODEL, {"features_only": True}, trained=recipe)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    save_weights(asked.output, model.state_dict(), description, "bfloat16")
    results = {"recipe": recipe, "seconds": seconds, "tried": tried, "environment": environment(torch.device("cpu"))}
    asked.results.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{asked.output}: step {step} of {asked.steps}, {seconds:.0f} s; validation mean {held_out['mean_nmi']:.3f}")


if __name__ == "__main__":
    main()
