"""The weights that ship with the package, so that the first picture means something (docs/demo_weights.md)."""

from pathlib import Path

from torch import nn

from drconv.models.weights import load_described

__all__ = ["DEMO", "DEMO_REMARK", "DEMO_WEIGHTS", "load_demo_model"]

DEMO = "demo"
"""What a user writes where a model is asked for."""

DEMO_WEIGHTS = Path(__file__).parent / "weights" / "drconv_shufflenet_v2_demo.safetensors"

DEMO_REMARK = "its guides were supervised with known region maps, which is not in the paper"


def load_demo_model() -> nn.Module:
    """Return the small DRConv network that ships with the package, with trained weights.

    Its guides were supervised with region maps of mosaics and of photos, which is not in the paper: its regions show
    what a guide can do, not what a task makes of it. It has no head; it returns the maps at strides 2, 4 and 8.

    Returns:
        The network, in eval mode on the CPU.

    Example:
        >>> drconv.visualize(load_demo_model(), "photo.jpg")
    """
    return load_described(DEMO_WEIGHTS)[0].eval()
