"""A loss that is not finite any more stops training, says where it began, and loses no checkpoint."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from drconv.errors import TrainingError
from drconv.models import ModelDescription
from drconv.training import RunFiles, Trainer, TrainingOptions, run_training
from tests.training.tiny import TinyData, make

OPTIONS = TrainingOptions(epochs=2, batch_size=4, warmup_steps=0)
TINY = ModelDescription("tiny.py:make")


class Breaks(nn.Module):
    """Becomes NaN in forward or only in backward once it has run often enough."""

    def __init__(self, calls: int, backward: bool) -> None:
        super().__init__()
        self.calls, self.backward = calls, backward
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= self.training
        if self.calls >= 0 or not self.training:
            return x * self.scale
        # The square root of 0 is finite, and its slope is not.
        return x + (self.scale * 0).sqrt() if self.backward else x * float("nan")


def broken(backward: bool) -> nn.Module:
    model = make()
    assert isinstance(model, nn.Sequential)
    model[5] = Breaks(8, backward)  # one epoch has 6 steps
    return model


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (False, r"in step 3 of epoch 2: the first is the output of 5 \(Breaks\); try a lower learning rate"),
        (True, r"in step 3 of epoch 2: all modules give finite numbers, and the gradient of 5\.scale is not"),
    ],
)
def test_the_layer_is_named_and_the_checkpoint_kept(backward: bool, message: str, tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    kept: list[bytes] = []
    with pytest.raises(TrainingError, match=message):
        run_training(
            Trainer(broken(backward), TinyData(), OPTIONS),
            TINY,
            files,
            on_epoch=lambda record: kept.append(files.checkpoint.read_bytes()),
        )
    assert kept == [files.checkpoint.read_bytes()]
    assert not files.weights.exists()


def test_weights_that_are_not_finite_are_named() -> None:
    trainer = Trainer(make(), TinyData(), OPTIONS)
    with torch.no_grad():
        trainer.model[3].guide.weight[0] = float("inf")  # type: ignore[index, union-attr]
    before = {name: t.clone() for name, t in trainer.model.named_parameters()}
    with pytest.raises(TrainingError, match=r"3\.guide \(GuideConv2d\), whose parameter weight is not finite any more"):
        list(trainer.steps())
    assert all(torch.equal(t, before[name]) for name, t in trainer.model.named_parameters())


def test_an_image_that_is_not_finite_is_told_from_a_layer() -> None:
    data = TinyData()
    image = data.train[0].image
    data.train.__class__ = type("Bad", (type(data.train),), {"__getitem__": lambda self, i: _bad(image)})
    with pytest.raises(TrainingError, match="epoch 1: an image is not finite"):
        list(Trainer(make(), data, OPTIONS).steps())


def _bad(image: Tensor) -> object:
    from tests.training.tiny import Sample

    return Sample(image * float("nan"), 0, torch.zeros(0, 0, dtype=torch.int64))
