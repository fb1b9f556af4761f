"""The learning rate as a function of the step; nothing to keep between steps."""

from math import cos, pi

from drconv.training.options import TrainingOptions

__all__ = ["learning_rate"]


def learning_rate(options: TrainingOptions, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step.

    Args:
        options: with `lr`, `schedule`, `warmup_steps`, `epochs`, `milestones` and `step_factor`.
        step: from 0, over all epochs.
        steps_per_epoch: of the data and the batch size.
    """
    if step < options.warmup_steps:
        return options.lr * (step + 1) / (options.warmup_steps + 1)
    if options.schedule == "constant":
        return options.lr
    if options.schedule == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in options.milestones)
        return options.lr * float(options.step_factor**passed)
    left = max(1, options.epochs * steps_per_epoch - options.warmup_steps)
    done = min(1.0, (step - options.warmup_steps) / left)
    return options.lr * (1 - done if options.schedule == "linear" else (1 + cos(pi * done)) / 2)
