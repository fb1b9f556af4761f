"""The optimiser of a model: which of its parameters decay, and by which rule they move."""

from torch import nn
from torch.nn import Parameter
from torch.optim import SGD, AdamW, Optimizer

from drconv.errors import TrainingError
from drconv.training.options import TrainingOptions

__all__ = ["make_optimizer"]


def make_optimizer(model: nn.Module, options: TrainingOptions) -> Optimizer:
    """Return an optimiser with two groups, the decaying parameters and the others, in the model's order.

    Parameters with fewer than two axes (those of norms) and biases, also those of several experts, do not decay.

    Raises:
        TrainingError: the model has nothing to train.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not trained:
        raise TrainingError(f"{type(model).__name__} has no parameter that is trained")
    decaying = [p for name, p in trained if _decays(name, p)]
    others = [p for name, p in trained if not _decays(name, p)]
    parts: list[tuple[list[Parameter], float]] = [(decaying, options.weight_decay), (others, 0.0)]
    groups = [{"params": parameters, "weight_decay": decay} for parameters, decay in parts if parameters]
    if options.optimizer == "adamw":
        return AdamW(groups, lr=options.lr)
    nesterov = options.nesterov and options.momentum > 0
    return SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=nesterov)


def _decays(name: str, parameter: Parameter) -> bool:
    return parameter.dim() > 1 and name.rpartition(".")[2] != "bias"
