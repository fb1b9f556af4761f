"""Networks by name; importing a family registers its models."""

from drconv.models import mobilefacenet, mobilenet_v1, mobilenet_v2, mobilenet_v3, resnet, shufflenet_v2
from drconv.models.build import build_model
from drconv.models.calibrate import calibrate_batch_norm, has_fresh_batch_norm
from drconv.models.checkpoint import fits_by_name, load_checkpoint, load_state, read_metadata, read_state_dict
from drconv.models.demo import DEMO, DEMO_REMARK, DEMO_WEIGHTS, load_demo_model
from drconv.models.description import METADATA_KEY, ConvertedLayers, ModelDescription, build_described
from drconv.models.load import has_random_weights, input_size_of, is_weights_file, load_model, weights_file
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
from drconv.models.weights import SaveDtype, described_without_code, load_described, read_description, save_weights

__all__ = [
    "DEFAULT_MODEL",
    "DEMO",
    "DEMO_REMARK",
    "DEMO_WEIGHTS",
    "METADATA_KEY",
    "MODELS",
    "ConvertedLayers",
    "ModelDescription",
    "Network",
    "SaveDtype",
    "build_described",
    "build_model",
    "calibrate_batch_norm",
    "create_model",
    "default_input_size",
    "describe_models",
    "described_without_code",
    "fits_by_name",
    "has_fresh_batch_norm",
    "has_random_weights",
    "input_size_of",
    "is_weights_file",
    "list_models",
    "load_checkpoint",
    "load_demo_model",
    "load_described",
    "load_model",
    "load_state",
    "mobilefacenet",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3",
    "read_description",
    "read_metadata",
    "read_state_dict",
    "register_model",
    "resnet",
    "save_weights",
    "shufflenet_v2",
    "weights_file",
]
