"""Train the demo weights: a narrow ShuffleNetV2 whose guides are supervised with the region maps of mosaics and photos.

That supervision is not in the paper. Run with `python studies/demo_weights.py`; see docs/demo_weights.md.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import cos, pi, sqrt
from pathlib import Path
from time import perf_counter

import torch
import torch.nn.functional as F
from demo_evaluation import MOSAIC_SIZE, mosaics, network_agreement, photos, summary
from photo_crops import draw_crops
from photo_segments import IGNORED
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
WARM_UP, WEIGHT_DECAY, CLIP = 50, 0.02, 5.0
PAIR_WEIGHT = 2.0
AVERAGE = 0.998
"""Decay per step of the running average of the weights, which is what ships."""


@dataclass(frozen=True)
class Phase:
    """A part of the training, with a learning rate that ends at zero.

    Attributes:
        steps: of the optimiser.
        rate: the highest learning rate.
        size: of images, pixels.
        mosaics, crops: how many are drawn before; each epoch sees them augmented anew.
        batch: how many of each are in a batch.
    """

    steps: int
    rate: float
    size: int
    mosaics: int
    crops: int
    batch: tuple[int, int]


PHASES = (
    Phase(5000, 5e-3, 64, 24_000, 0, (32, 0)),
    Phase(2500, 2.5e-3, MOSAIC_SIZE, 5000, 6000, (10, 6)),
)


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


def stream(phase: Phase, seed: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a phase. Mosaics and photos share them: the norms' statistics must fit both."""
    parts = [batches(*draw_mosaics(phase.mosaics, phase.size, seed), phase.batch[0], random)]
    if phase.batch[1]:
        parts.append(batches(*draw_crops(phase.crops, phase.size, seed), phase.batch[1], random))
    for drawn in zip(*parts, strict=True):
        images, maps = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
        yield images.contiguous(memory_format=torch.channels_last), maps


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
    return normalised(images.clamp(0, 1)), maps


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return all parameters, with decay for matrices outside of guides."""
    guides = {id(p) for m in model.modules() if isinstance(m, GuideConv2d) for p in m.parameters()}
    decayed = [p for p in model.parameters() if p.dim() > 1 and id(p) not in guides]
    others = [p for p in model.parameters() if p.dim() <= 1 or id(p) in guides]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def rate(step: int, steps: int, warm_up: int) -> float:
    """Return the share of the learning rate: linear warm-up, then a cosine to zero."""
    return min((step + 1) / warm_up, 1) * (1 + cos(pi * step / steps)) / 2


def train(phases: Sequence[Phase], seed: int, every: int) -> Iterator[tuple[int, nn.Module]]:
    """Train, and yield (step, the averaged model, of the paper's layers) in the second half of the last phase.

    Args:
        phases: one after the other; the guides' norms are folded at the end of the first.
        seed: of weights, images and augmentation.
        every: steps between two yields.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = create_model(MODEL, features_only=True, guide_norm="batch")
    widen_bases(model)
    head = Embedding(model.feature_channels)
    for number, phase in enumerate(phases):
        images = stream(phase, seed + 100 * number, random)
        for step, average in train_phase(model, head, phase, images, random):
            last = number == len(phases) - 1
            if last and (step == phase.steps or (step % every == 0 and step > phase.steps // 2)):
                yield step, rounded(fold_guide_norm(average.model))
        model = fold_guide_norm(average.model).requires_grad_(True)


def train_phase(
    model: nn.Module, head: Embedding, phase: Phase, images: Iterator[tuple[Tensor, Tensor]], random: torch.Generator
) -> Iterator[tuple[int, WeightAverage]]:
    """Train a model in place; yield the number of every step, and the running average after it."""
    both = nn.ModuleList([model, head]).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parameter_groups(both, WEIGHT_DECAY), lr=phase.rate)
    average = WeightAverage(model, AVERAGE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, phase.steps, WARM_UP))
    start, sums = perf_counter(), [0.0, 0.0]
    for step in range(1, phase.steps + 1):
        batch, maps = next(images)
        with collect_guided_features(model) as guided:
            contrast = region_contrast_loss(head(model(batch)), maps, random, ignore_index=IGNORED)
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
        yield step, average


def widen_bases(model: nn.Module) -> None:
    """Make the mean of all bases as large as He's filters are, where the released code makes each base so."""
    for module in model.modules():
        if isinstance(module, BasisFilterGenerator):
            with torch.no_grad():
                module.bases.mul_(sqrt(module.num_experts))


def shortened(phase: Phase, part: float) -> Phase:
    """Return a phase of fewer steps and images."""
    steps, mosaics, crops = (round(part * count) for count in (phase.steps, phase.mosaics, phase.crops))
    return replace(phase, steps=steps, mosaics=mosaics, crops=crops)


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
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=float, default=1.0, help="of steps and images, below 1 for a trial")
    parser.add_argument("--output", type=Path, default=DEMO_WEIGHTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    start = perf_counter()
    choice = photos("choice")
    tried, best, chosen = [], -1.0, None
    phases = [shortened(phase, asked.part) for phase in PHASES]
    for step, model in train(phases, asked.seed, round(500 * asked.part)):
        found = summary(network_agreement(model, choice))
        tried.append({"step": step, "choice_mean_nmi": found["mean_nmi"], "choice_layers": found["layers"]})
        print(f"step {step}: choice photos, mean NMI over layers {found['mean_nmi']:.3f}", flush=True)
        if found["mean_nmi"] > best:
            best, chosen = found["mean_nmi"], (step, model)
    seconds = perf_counter() - start
    step, model = chosen
    held_out = summary(network_agreement(model, mosaics("validation")))
    recipe = {
        "about": "guides supervised with known region maps of mosaics and of photos, which is not in the paper",
        "script": "studies/demo_weights.py",
        "seed": asked.seed,
        "phases": [asdict(phase) for phase in phases],
        "chosen_step": step,
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
    print(f"{asked.output}: step {step} of the last phase, {seconds:.0f} s; validation mean {held_out['mean_nmi']:.3f}")


if __name__ == "__main__":
    main()
