"""The three forms of a network: plain, and with DRConv or DyConv in place of some of its convolutions.

A family gives the builder of the plain network and the patterns of its placements; names, keywords and the replacement
are here.
"""

from collections.abc import Sequence
from inspect import Parameter, Signature, signature
from typing import Any, Literal

from torch import nn

from drconv.checks import pick
from drconv.layers import convert
from drconv.models.registry import Builder, InputSize, register_model

__all__ = ["DyConvPlacement", "register_drconv", "register_dyconv", "register_forms"]

DyConvPlacement = Literal["all", "blocks"]
Patterns = str | Sequence[str]
"""As `drconv.convert` takes them."""


def register_forms(
    plain: Builder,
    name: str,
    title: str,
    *,
    regions: Patterns,
    regions_summary: str,
    blocks: Patterns,
    input_size: InputSize = (3, 224, 224),
) -> None:
    """Register `name`, `drconv_name` and `dyconv_name`.

    Args:
        plain: builds the network; its keywords are those of all forms.
        name: of the plain form.
        title: of the network, for summaries.
        regions: the convolutions that become DRConv.
        regions_summary: the same in words.
        blocks: the convolutions inside blocks, without those of squeeze-excite; DyConv can be limited to them.
        input_size: of one image.
    """
    register_model(plain, name=name, summary=f"{title}, plain", input_size=input_size)
    register_drconv(plain, name, f"{title}, DRConv in {regions_summary}", regions, input_size)
    register_dyconv(plain, name, f"{title}, DyConv in all convolutions but the first", blocks, input_size)


def register_drconv(
    plain: Builder, name: str, summary: str, regions: Patterns, input_size: InputSize = (3, 224, 224)
) -> None:
    """Register `drconv_name`; arguments as for `register_forms`."""

    def build(
        *,
        num_regions: int = 8,
        filter_generator: str = "pooled",
        guide_bias: bool = True,
        guide_norm: str | None = None,
        **of_plain: Any,
    ) -> nn.Module:
        keywords = {
            "num_regions": num_regions,
            "filter_generator": filter_generator,
            "guide_bias": guide_bias,
            "guide_norm": guide_norm,
        }
        return convert(plain(**of_plain), "drconv2d", regions, keep_weights=False, **keywords)[0]

    _register(build, plain, f"drconv_{name}", summary, input_size)


def register_dyconv(
    plain: Builder, name: str, summary: str, blocks: Patterns, input_size: InputSize = (3, 224, 224)
) -> None:
    """Register `dyconv_name`; arguments as for `register_forms`.

    Its keyword `placement` is "all", every convolution but the first and those of squeeze-excite, or "blocks".
    """

    def build(
        *,
        num_experts: int = 4,
        reduction: int = 4,
        temperature: float = 30.0,
        placement: DyConvPlacement = "all",
        **of_plain: Any,
    ) -> nn.Module:
        # What `convert` chooses without patterns is "all".
        where = blocks if pick("placement", placement, ("all", "blocks")) == "blocks" else None
        keywords = {"num_experts": num_experts, "reduction": reduction, "temperature": temperature}
        return convert(plain(**of_plain), "dynamic_conv2d", where, keep_weights=False, **keywords)[0]

    _register(build, plain, f"dyconv_{name}", summary, input_size)


def _register(build: Builder, plain: Builder, name: str, summary: str, input_size: InputSize) -> None:
    """Register a builder that hands the keywords it does not know to the plain one, with the keywords of both."""
    own = [p for p in signature(build).parameters.values() if p.kind is Parameter.KEYWORD_ONLY]
    build.__signature__ = Signature([*signature(plain).parameters.values(), *own])  # type: ignore[attr-defined]
    register_model(build, name=name, summary=summary, input_size=input_size)
