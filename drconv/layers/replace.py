"""Put modules in the place of others, wherever a model holds them."""

from collections.abc import Mapping

from torch import nn

__all__ = ["replace_modules"]


def replace_modules(model: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Put new modules in the place of old ones, in place.

    Args:
        model: whose modules are replaced; a module that stands in several places is replaced in all of them.
        replaced: old module -> new module. What is inside an old module is left alone.

    Returns:
        The model, or what takes its place if it is itself among the old ones.
    """
    for module in list(model.modules()):
        # Not `named_children`, which leaves out the second place of a module that is used twice.
        for name, child in module._modules.items():
            if child is not None and child in replaced and module not in replaced:
                module._modules[name] = replaced[child]
    return replaced.get(model, model)
