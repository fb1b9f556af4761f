"""One forward pass of a classifier, with its output checked against the data."""

from torch import Tensor, nn

from drconv.analysis import model_errors
from drconv.errors import TrainingError

__all__ = ["classify"]


def classify(model: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """Return logits `[B, classes]`, float32 or wider.

    Raises:
        ModelError: the model failed on these images.
        TrainingError: it gives something else than one logit per class.
    """
    with model_errors(model, images.shape):
        logits = model(images)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (len(images), num_classes):
        got = list(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        name = type(getattr(model, "module", model)).__name__
        raise TrainingError(
            f"{name} must give [B, {num_classes}] logits for this data, got {got} for {len(images)} images"
        )
    return logits if logits.element_size() >= 4 else logits.float()
