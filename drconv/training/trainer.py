"""The steps and epochs of training, and their state; no files."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from drconv.errors import ArgumentError, TrainingError
from drconv.layers import DynamicConv2d, TemperatureSchedule
from drconv.training.average import WeightAverage
from drconv.training.classify import classify
from drconv.training.guide_loss import collect_guided_features, guide_pair_loss
from drconv.training.loading import Batch, batches
from drconv.training.not_finite import first_bad_gradient, first_bad_module
from drconv.training.optimizer import make_optimizer
from drconv.training.options import TrainingOptions
from drconv.training.order import TrainingBatches
from drconv.training.precision import autocast, check_precision, weight_dtype
from drconv.training.schedule import learning_rate
from drconv.training.seeds import derived_seed
from drconv.training.tally import Tally
from drconv.training.team import Team, first_of
from drconv.training.validate import has_regions, validate

__all__ = ["Data", "EpochRecord", "Trainer"]

EpochRecord = dict[str, Any]
"""What the log says about one epoch, JSON-ready."""

_LEAST_SCALE = 2.0**-14
"""A loss scale below which float16 has no more room: the gradients themselves are not finite."""


class Data(Protocol):
    """What is trained on; `drconv.training.data.load_data` gives it."""

    train: Any
    validation: Any
    num_classes: int
    class_names: Sequence[str]
    has_region_maps: bool
    name: str


class Trainer:
    """Trains a classifier step by step.

    Everything random is drawn anew in each step from seed, step and process, so that a step does not depend on how
    training came to it.

    Args:
        model: is moved to the team's device, and trained in place.
        data: what on.
        options: how.
        team: the processes that train together; all make a trainer of the same arguments.
        workers: processes that make the images, for each process of the team.

    Attributes:
        model: in train mode while steps run.
        average: of its weights, if options.ema is above 0.
        epoch: epochs done.
        step: steps done in the epoch under way.
        tally: of the training images of the epoch under way, of this process.
        gradient_norms: of the steps of the epoch under way.
        history: one record per epoch done.

    Raises:
        ArgumentError: options, data, model and device do not go together.
        TrainingError: the model has nothing to train.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        options: TrainingOptions,
        *,
        team: Team | None = None,
        workers: int = 0,
    ) -> None:
        self.team = team if team is not None else Team()
        check_precision(options.precision, self.team.device)
        if options.guide_supervision and not data.has_region_maps:
            raise ArgumentError(f"guide supervision needs data with true region maps; {data.name} has none, mosaic has")
        if options.guide_supervision and not has_regions(model):
            raise ArgumentError(
                f"guide supervision needs layers with guides (DRConv2d), and {type(model).__name__} has none"
            )
        self.data, self.options, self.workers = data, options, workers
        self.model = model.to(self.team.device, weight_dtype(options.precision))
        self.average = WeightAverage(self.model, options.ema) if options.ema else None
        self.optimizer = make_optimizer(self.model, options)
        self.scaler = torch.amp.GradScaler(self.team.device.type, enabled=options.precision == "float16")
        self.temperature = (
            TemperatureSchedule(self.model, *options.temperature, options.temperature_span)
            if any(isinstance(module, DynamicConv2d) for module in self.model.modules())
            else None
        )
        self._runner = self.model
        if self.team.count > 1:
            ids = [self.team.device] if self.team.device.type == "cuda" else None
            self._runner = DistributedDataParallel(self.model, device_ids=ids)
        self.epoch = self.step = 0
        self.tally = Tally(data.num_classes)
        self.gradient_norms: list[float] = []
        self.history: list[EpochRecord] = []
        self.steps_per_epoch = self._order(0).steps

    @property
    def steps_done(self) -> int:
        """Steps over all epochs."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def weights(self) -> nn.Module:
        """The model whose weights count: the average if there is one."""
        return self.model if self.average is None else self.average.model

    def steps(self) -> Iterator[None]:
        """Take the steps that are left of this epoch, and yield after each.

        Raises:
            TrainingError: loss or gradients are not finite; the weights are those of the step before.
            DrconvError: what data or model raised.
        """
        self.data.train.set_epoch(self.epoch)
        loaded = batches(
            self.data.train,
            self._order(self.step),
            workers=self.workers,
            device=self.team.device,
            dtype=weight_dtype(self.options.precision),
        )
        for batch in loaded:
            if batch is not None:
                self._set_mode()
                self._take_step(batch)
                self.step += 1
                yield

    def finish_epoch(
        self,
        seconds: float | None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> EpochRecord | None:
        """Validate, and go to the next epoch.

        Args:
            seconds: that the steps took, for the record.
            should_stop: asked after each batch of validation.
            progress: called with (what, batches done, batches).

        Returns:
            The epoch's record, the same in every process; None if it was stopped, before anything was changed.
        """
        found = validate(
            self.weights,
            self.data.validation,
            self.data.num_classes,
            team=self.team,
            batch_size=max(1, self.options.batch_size // self.team.count),
            workers=self.workers,
            precision=self.options.precision,
            should_stop=should_stop,
            progress=progress,
        )
        if found is None:
            return None
        trained, *others = self.team.gather(self.tally)
        for other in others:
            trained.merge(other)
        norms = self.gradient_norms
        record: EpochRecord = {
            "epoch": self.epoch + 1,
            "step": (self.epoch + 1) * self.steps_per_epoch,
            "learning_rate": self._rate(self.steps_done - 1),
            "temperature": None if self.temperature is None else self.temperature.temperature,
            "train": trained.numbers(),
            "validation": found.numbers(),
            "gradient_norm": sum(norms) / len(norms) if norms else None,
            "seconds": seconds,
            "regions": [layer.to_dict() for layer in found.regions.report()],
        }
        self.history.append(record)
        self.epoch, self.step = self.epoch + 1, 0
        self.tally, self.gradient_norms = Tally(self.data.num_classes), []
        # After the last epoch it stays, for what is saved is what was validated.
        if self.temperature is not None and self.epoch < self.options.epochs:
            self.temperature.step()
        return record

    def _order(self, start: int) -> TrainingBatches:
        return TrainingBatches(
            len(self.data.train),
            self.options.batch_size,
            seed=self.options.seed,
            epoch=self.epoch,
            start=start,
            rank=self.team.rank,
            count=self.team.count,
        )

    def _rate(self, step: int) -> float:
        return learning_rate(self.options, step, self.steps_per_epoch)

    def _set_mode(self) -> None:
        self.model.train()
        if self.options.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def _seed(self) -> None:
        """Draw this step's randomness from what the step is, not from what came before."""
        seed = derived_seed("step", self.options.seed, self.steps_done, self.team.rank)
        torch.manual_seed(seed)
        random.seed(seed)

    def _take_step(self, batch: Batch) -> None:
        self._seed()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.steps_done)
        logits, losses, loss = self._forward(self._runner, batch)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        loss_fails, gradient_fails = not bool(torch.isfinite(loss.detach())), not bool(torch.isfinite(norm))
        # With a scaled loss gradients may overflow: the scaler skips the step and lowers the scale.
        overflows = self.scaler.is_enabled() and self.scaler.get_scale() > _LEAST_SCALE
        if any(self.team.largest(int(loss_fails), int(gradient_fails and not overflows))):
            self._fail(batch)
        if self.options.clip:
            clip_grads_with_norm_(parameters, self.options.clip, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        self.tally.add(logits, batch.labels, losses)
        if not gradient_fails:
            self.gradient_norms.append(float(norm))

    def _forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, the loss of each image, and the number that is made smaller."""
        weight = self.options.guide_supervision
        watching: AbstractContextManager[list[Tensor]] = (
            collect_guided_features(self.model) if weight else nullcontext([])
        )
        with autocast(self.options.precision, self.team.device), watching as features:
            logits = classify(model, batch.images, self.data.num_classes)
            losses = F.cross_entropy(
                logits, batch.labels, reduction="none", label_smoothing=self.options.label_smoothing
            )
        loss = losses.mean()
        if weight:
            seed = derived_seed("guide", self.options.seed, self.steps_done, self.team.rank)
            generator = torch.Generator().manual_seed(seed)
            loss = loss + weight * guide_pair_loss(features, batch.region_maps, generator).to(loss.dtype)
        return logits, losses, loss

    def _fail(self, batch: Batch) -> None:
        """Say in every process what first was not finite in any of them.

        Raises:
            TrainingError: always.
        """
        gradient = first_bad_gradient(self.model)
        if not bool(torch.isfinite(batch.images).all()):
            reason: str | None = "an image is not finite"
        else:
            self._seed()
            module = first_bad_module(self.model, lambda: self._forward(self.model, batch))
            reason = None if module is None else f"the first is the output of {module}"
        named = first_of(self.team.gather(reason))
        if named is None:
            named = f"all modules give finite numbers, and the gradient of {gradient} is not"
        raise TrainingError(
            f"numbers stopped being finite in step {self.step + 1} of epoch {self.epoch + 1}: {named}; try a lower "
            f"learning rate (it was {self._rate(self.steps_done):.3g}), gradient clipping, a longer warm-up or float32"
        )
