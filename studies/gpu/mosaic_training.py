"""Training on mosaics for some minutes, beside the plain network for as many epochs."""

from time import perf_counter

import torch
from findings import Findings
from place import Place

__all__ = ["train_on_mosaic"]


def train_on_mosaic(place: Place, found: Findings) -> None:
    """Train DRConv-ShuffleNetV2 x0.5 until the minutes are over, then the plain network, and compare accuracies."""
    try:
        from drconv.layers import set_backend
        from drconv.models import create_model
        from drconv.training import Team, Trainer, TrainingOptions
        from drconv.training.data import load_data
    except ImportError as error:
        found.skip("training on mosaic", f"package {error.name} is missing")
        return
    images, size, batch, workers = (24, 32, 8, 0) if place.is_rehearsal else (12_000, 64, 256, 12)
    precision = "float32" if place.is_rehearsal else "bfloat16"
    data = load_data("mosaic", image_size=size, seed=0, train_size=images, validation_size=max(8, images // 12))
    epochs = 1 if place.is_rehearsal else 1000
    options = TrainingOptions(
        epochs=epochs, batch_size=batch, warmup_steps=1 if place.is_rehearsal else 50, schedule="constant",
        lr=0.002, precision=precision,
    )  # fmt: skip
    limit = 60 * place.minutes * 2 / 3  # the plain network needs the rest, and at most as long
    for name, bar in (("drconv_shufflenet_v2_x0_5", "accuracy"), ("shufflenet_v2_x0_5", "accuracy plain")):
        torch.manual_seed(0)
        model = create_model(name, num_classes=data.num_classes)
        if name.startswith("drconv"):
            set_backend(model, "eager" if place.is_rehearsal else "triton")
        trainer = Trainer(model, data, options, team=Team(device=place.device), workers=workers)
        start = perf_counter()
        while trainer.epoch < epochs:
            began = perf_counter()
            for _ in trainer.steps():
                pass
            place.synchronize()
            record = trainer.finish_epoch(perf_counter() - began)
            if record is None:
                raise RuntimeError("validation was stopped, and nobody can have stopped it")
            accuracy = 100 * record["validation"]["top1"]
            if not place.is_rehearsal:
                found.details.setdefault(name, []).append(
                    {"accuracy": accuracy, "loss": record["train"]["loss"], "seconds": record["seconds"],
                     "regions": record["regions"] if trainer.epoch == 1 else None}
                )  # fmt: skip
                print(
                    f"{name}, epoch {trainer.epoch}: {accuracy:.1f} % after {perf_counter() - start:.0f} s", flush=True
                )
            found.measure(bar, "mosaic", accuracy)
            if bar == "accuracy" and perf_counter() - start > limit:
                break
        epochs = trainer.epoch
