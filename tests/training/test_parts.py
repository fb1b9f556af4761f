"""Schedule, order, optimiser, average, tally, options: what a run is made of."""

import os
import signal
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from drconv.errors import ArgumentError, DrconvError, TrainingError, UnknownNameError
from drconv.layers import DynamicConv2d, set_temperature
from drconv.training import RECIPES, Tally, Trainer, TrainingOptions
from drconv.training.average import WeightAverage
from drconv.training.guide_loss import collect_guided_features
from drconv.training.optimizer import make_optimizer
from drconv.training.order import EvaluationBatches, TrainingBatches
from drconv.training.schedule import learning_rate
from drconv.training.seeds import derived_seed
from tests.training.tiny import Sample, TinyData, TinyImages, make


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("cosine", [0.5, 1.0, 0.5, 0.0]),
        ("linear", [0.5, 1.0, 0.5, 0.0]),
        ("constant", [0.5, 1.0, 1.0, 1.0]),
        ("step", [0.5, 1.0, 0.1, 0.01]),
    ],
)
def test_schedules(schedule: str, expected: list[float]) -> None:
    """At the middle of warm-up, after it, half way, and after the last step."""
    options = TrainingOptions(
        epochs=101,
        lr=1.0,
        schedule=schedule,
        warmup_steps=9,
        milestones=(40, 101),
        batch_size=1,  # type: ignore[arg-type]
    )
    rates = [learning_rate(options, step, 9) for step in (4, 9, 459, 909)]
    assert rates == pytest.approx(expected, abs=1e-12)


def test_every_epoch_takes_every_image_once_in_another_order() -> None:
    orders = [[i for batch in TrainingBatches(12, 4, seed=1, epoch=e) for i in batch] for e in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert orders[0] != [i for batch in TrainingBatches(12, 4, seed=2) for i in batch]


def test_processes_part_the_batches_of_one() -> None:
    whole = list(TrainingBatches(50, 12, seed=3))
    parts = [list(TrainingBatches(50, 12, seed=3, rank=rank, count=3)) for rank in range(3)]
    joined = [[index for part in batches for index in part] for batches in zip(*parts, strict=True)]
    assert joined == whole
    assert list(TrainingBatches(50, 12, seed=3, start=2)) == whole[2:]
    assert len(TrainingBatches(50, 12, seed=3, start=2)) == 2


def test_evaluation_takes_every_image_once_whatever_the_processes() -> None:
    for size, batch, count in ((10, 3, 1), (10, 3, 3), (2, 4, 3)):
        orders = [EvaluationBatches(size, batch, rank=rank, count=count) for rank in range(count)]
        assert len({len(list(order)) for order in orders}) == 1
        assert sorted(i for order in orders for b in order for i in b) == list(range(size))


def test_batches_that_cannot_be() -> None:
    with pytest.raises(ArgumentError, match="got 8 of 7 images"):
        TrainingBatches(7, 8, seed=0)
    with pytest.raises(ArgumentError, match="got 8 images for 3 processes"):
        TrainingBatches(70, 8, seed=0, count=3)


def test_seeds_differ_wherever_a_part_differs() -> None:
    seeds = {derived_seed(*parts) for parts in (("a", 1, 2), ("a", 12), ("a", 2, 1), ("b", 1, 2))}
    assert len(seeds) == 4
    # Part of what a checkpoint relies on: it must never change.
    assert derived_seed("order", 0, 0) == 8073061470549175911


def test_norms_and_biases_do_not_decay() -> None:
    model = make()
    optimizer = make_optimizer(model, TrainingOptions(weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.0 if name.endswith("bias") or name.startswith(("1.", "4.")) else 0.1
        assert decays[id(parameter)] == expected, name
    with pytest.raises(TrainingError, match="no parameter that is trained"):
        make_optimizer(nn.ReLU(), TrainingOptions())


def test_the_average_follows_and_copies_what_is_no_weight() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), DynamicConv2d(2, 2, 1))
    average = WeightAverage(model, 0.5)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight += 1
        model[1].running_mean += 1
        model[1].num_batches_tracked += 7
    set_temperature(model, 3.0)
    average.update(model)  # the first moves by 1 - 1/10
    torch.testing.assert_close(average.model[0].weight, start + 0.9)
    torch.testing.assert_close(average.model[1].running_mean, torch.full((2,), 0.9))
    assert average.model[1].num_batches_tracked == 7
    for _ in range(60):
        average.update(model)
    torch.testing.assert_close(average.model[0].weight, model[0].weight.detach())
    theirs = dict(model.named_buffers())
    assert all(torch.allclose(buffer, theirs[name]) for name, buffer in average.model.named_buffers())


def test_a_tally_is_the_same_in_any_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 7, generator=generator)
    labels = torch.randint(0, 7, (40,), generator=generator)
    losses = torch.rand(40, generator=generator) * 10 ** torch.randint(-9, 9, (40,), generator=generator).float()
    whole = Tally(7)
    whole.add(logits, labels, losses)
    order = list(range(40))
    Random(1).shuffle(order)
    merged = Tally(7)
    for part in (order[:3], order[3:30], order[30:]):
        counted = Tally(7)
        counted.add(logits[part], labels[part], losses[part])
        merged.merge(Tally.from_dict(counted.to_dict()))
    assert merged.to_dict() == whole.to_dict()
    assert whole.top1 == int((logits.argmax(1) == labels).sum()) == sum(whole.class_top1)
    assert whole.top5 == sum(
        int(label) in row.topk(5).indices.tolist() for row, label in zip(logits, labels, strict=True)
    )
    assert whole.mean_loss == pytest.approx(float(losses.double().mean()), rel=1e-12)
    whole.add(logits[:1], labels[:1], torch.tensor([float("nan")]))
    assert whole.mean_loss is None


def test_options_and_recipes() -> None:
    options = TrainingOptions.of("dyconv_resnet", epochs=7, lr=None)
    assert (options.optimizer, options.epochs, options.lr, options.milestones) == ("sgd", 7, 0.1, (30, 60, 90))
    assert TrainingOptions.from_dict(options.to_dict()) == options
    assert all(TrainingOptions.of(name) for name in RECIPES)
    with pytest.raises(UnknownNameError, match="did you mean dyconv_resnet"):
        TrainingOptions.of("dyconv_resnets")
    assert (TrainingOptions(epochs=100).temperature_span, TrainingOptions(epochs=6).temperature_span) == (10, 3)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"ema": 1.0}, {"epochs": 0}, {"schedule": "exp"}, {"clip": -1.0}, {"lr": float("nan")}]
)
def test_options_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        replace(TrainingOptions(), **wrong)  # type: ignore[arg-type]


def test_data_model_and_device_that_do_not_go_together() -> None:
    with pytest.raises(ArgumentError, match="float16 trains on cuda alone"):
        Trainer(make(), TinyData(), TrainingOptions(precision="float16", batch_size=4))
    with pytest.raises(ArgumentError, match="needs data with true region maps; tiny has none, mosaic has"):
        Trainer(make(), TinyData(has_region_maps=False), TrainingOptions(guide_supervision=1.0, batch_size=4))
    with pytest.raises(ArgumentError, match="needs layers with guides"):
        Trainer(nn.Linear(2, 2), TinyData(), TrainingOptions(guide_supervision=1.0, batch_size=4))
    with pytest.raises(TrainingError, match=r"must give \[B, 3\] logits for this data, got \[4, 5\] for 4 images"):
        next(Trainer(make(5), TinyData(), TrainingOptions(batch_size=4)).steps())


def test_guide_supervision_teaches_the_guide() -> None:
    """The true map is whether a pixel is bright: a guide that is told so parts the images there."""
    agreement = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        options = TrainingOptions(epochs=1, batch_size=8, guide_supervision=weight, lr=0.03, warmup_steps=5)
        trainer = Trainer(make(), TinyData(train=TinyImages(400)), options)
        list(trainer.steps())
        batch = torch.stack([TinyImages(30)[i].image for i in range(0, 30, 3)])
        with collect_guided_features(trainer.model) as features:
            trainer.model(batch)
        left = features[0].argmax(1)[:, :, :4].float().mean()
        right = features[0].argmax(1)[:, :, 4:].float().mean()
        agreement[weight] = abs(float(left - right))
    assert agreement[1.0] > 0.8
    assert agreement[0.0] < agreement[1.0]


def test_learning_happens() -> None:
    torch.manual_seed(0)
    options = TrainingOptions(epochs=2, batch_size=8, lr=0.005, warmup_steps=5)
    trainer = Trainer(make(), TinyData(train=TinyImages(240)), options)
    for _ in range(2):
        list(trainer.steps())
        record = trainer.finish_epoch(None)
    assert record is not None
    assert record["validation"]["top1"] >= 0.9
    assert [layer["name"] for layer in record["regions"]] == ["3"]
    assert sum(record["regions"][0]["region_share"]) == pytest.approx(1)


class Deadly(TinyImages):
    """Ends the process that reads it, as the system does when memory is short."""

    def __getitem__(self, index: int) -> Sample:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_has_ended_is_said() -> None:
    data = TinyData(train=Deadly(24))
    options = TrainingOptions(epochs=1, batch_size=8)
    with pytest.raises(DrconvError, match=r"process that makes images has ended \(DataLoader worker .*--workers"):
        next(Trainer(make(), data, options, workers=1).steps())


@pytest.mark.parametrize(
    "given",
    [
        {"lr": "0.1"},
        {"lr": None},
        {"clip": 10**400},
        {"warmup_steps": 1.5},
        {"warmup_steps": 10**400},
        {"seed": 1.5},
        {"seed": 2**63},
        {"temperature": 5},
        {"temperature": (30.0,)},
        {"temperature": (float("nan"), 1.0)},
    ],
)
def test_options_of_a_wrong_kind(given: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=f"{next(iter(given))} must be"):
        TrainingOptions(**given)


def test_the_temperature_that_is_saved_is_the_one_that_was_validated() -> None:
    """Also where it would fall on, had training more epochs."""
    options = TrainingOptions(epochs=2, batch_size=8, temperature=(30.0, 10.0), temperature_epochs=4)
    trainer = Trainer(make(), TinyData(), options)
    for expected in (30.0, 25.0):
        for _ in trainer.steps():
            pass
        record = trainer.finish_epoch(None)
        assert record is not None
        assert record["temperature"] == expected
    found = [float(t) for name, t in trainer.weights.state_dict().items() if name.endswith("temperature")]
    assert found == [25.0]
