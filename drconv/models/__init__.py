"""Networks by name; importing a family registers its models."""

from drconv.models import mobilefacenet, mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet, shufflenet_v2
from drconv.models.calibrate import calibrate_batch_norm, has_fresh_batch_norm
from drconv.models.checkpoint import fits_by_name, load_checkpoint, load_state, read_state_dict
from drconv.models.load import has_random_weights, input_size_of, load_model
from drconv.models.network import Network
from drconv.models.registry import (
    DEFAULT_MODEL,
    MODELS,
    create_model,
    default_input_size,
    describe_models,
    list_models,
    register_model,
)

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "Network",
    "calibrate_batch_norm",
    "create_model",
    "default_input_size",
    "describe_models",
    "fits_by_name",
    "has_fresh_batch_norm",
    "has_random_weights",
    "input_size_of",
    "list_models",
    "load_checkpoint",
    "load_model",
    "load_state",
    "mobilefacenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "read_state_dict",
    "register_model",
    "resnet",
    "shufflenet_v2",
]
