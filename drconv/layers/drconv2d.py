"""`DRConv2d`: a drop-in for `nn.Conv2d` whose filter depends on the region and on the input."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drconv.checks import Size2d, flag, pick, positive
from drconv.errors import ArgumentError
from drconv.layers.activation import ACTIVATIONS
from drconv.layers.base import RegionLayer
from drconv.layers.filter_generator import FILTER_GENERATORS, FilterGenerator, FilterSpec
from drconv.layers.fused import FusedCalls, forget_fused, report_scores
from drconv.layers.guide import GUIDE_NORMS, GuideConv2d

__all__ = ["DRConv2d"]


class DRConv2d(RegionLayer):
    r"""Dynamic region-aware convolution: every region of the output plane gets its own filter, made from the input.

    A guide scores M regions at every output position and the largest score wins; a generator makes one filter per
    region; every position is convolved with the filter of its region (`drconv.region_conv2d`). Arguments up to `dtype`
    are those of `nn.Conv2d`, in its order.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K, one or two integers.
        stride: one or two integers.
        padding: one or two integers, `"valid"`, or `"same"` with stride 1.
        dilation: one or two integers.
        groups: channel groups; must divide C and O.
        bias: whether to add one learned value per output channel, zero at the start, the same in all regions.
        padding_mode: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`.
        device: of the parameters.
        dtype: of the parameters.
        num_regions: M.
        filter_generator: `"pooled"` (the paper's, as others describe it), `"basis"` (the released code) or `"learned"`
            (M static filters); see `drconv.layers.filter_generator`.
        guide_bias: whether the layer's own guide has a bias.
        guide_norm: `"batch"` for a BatchNorm on the scores of the layer's own guide; see `drconv.GuideConv2d`.
        backend: name from `drconv.kernels.BACKENDS`; None lets every call take the first able one.
        own_guide: whether the layer makes a `GuideConv2d` of its own. Without it, `forward` must be given a guided
            feature, and the layer holds no unused parameters.
        soft_filter_gradient: whether every position trains every region's filter, weighted by the softmax of its
            scores; see `drconv.region_conv2d`.

    Attributes:
        activation: what is applied after the bias: None, `"relu"`, `"relu6"` or `"hardswish"`. Set by
            `drconv.optimize_for_inference`.

    Shape:
        input `[B, C, H, W]` or `[C, H, W]`; output `[B, O, U, V]` or `[O, U, V]`, U and V as for `nn.Conv2d`.

    Raises:
        ArgumentError: the arguments do not describe a convolution.
        UnknownNameError: no such filter generator or backend.

    Example:
        >>> layer = DRConv2d(24, 48, 3, padding=1, num_regions=4)
        >>> layer(torch.randn(2, 24, 28, 28)).shape
        torch.Size([2, 48, 28, 28])
    """

    activation: str | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size2d,
        stride: Size2d = 1,
        padding: Size2d | str = 0,
        dilation: Size2d = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        *,
        num_regions: int = 8,
        filter_generator: str = "pooled",
        guide_bias: bool = True,
        guide_norm: str | None = None,
        backend: str | None = None,
        own_guide: bool = True,
        soft_filter_gradient: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, backend
        )
        self.num_regions = positive("num_regions", num_regions)
        flag("guide_bias", guide_bias)
        self.region_conv.soft_filter_gradient = flag("soft_filter_gradient", soft_filter_gradient)
        if guide_norm is not None:
            pick("guide_norm", guide_norm, GUIDE_NORMS)
        made = {"device": device, "dtype": dtype}
        spec = FilterSpec(self.in_channels, self.out_channels, self.kernel_size, self.groups, self.num_regions)
        self.filter_generator: FilterGenerator = FILTER_GENERATORS[filter_generator](spec, **made)
        self.guide: GuideConv2d | None = None
        if own_guide:
            geometry = (self.kernel_size, self.stride, self.padding, self.dilation)
            self.guide = GuideConv2d(
                self.in_channels,
                self.num_regions,
                *geometry,
                guide_bias,
                padding_mode,
                **made,
                guide_norm=guide_norm,
            )
        if bias:
            self.bias = nn.Parameter(torch.zeros(self.out_channels, **made))
        else:
            self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Draw the generator and the guide anew and set the bias to zero."""
        self.filter_generator.reset_parameters()
        if self.guide is not None:
            self.guide.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def start_from(self, weight: Tensor, bias: Tensor | None) -> str | None:
        """Start as a convolution: every region with its filter, and the guide as it is. See the base class."""
        if self.bias is not None:
            self.bias.zero_() if bias is None else self.bias.copy_(bias)
        return self.filter_generator.start_from(weight)

    @torch.no_grad()
    def static_filter(self) -> tuple[Tensor, Tensor | None] | None:
        """Return weight and bias if all regions have the same filter for every input. See the base class."""
        filters = self.filter_generator.static_filters()
        if filters is None or not bool((filters == filters[:1]).all()):
            return None
        return filters[0], self.bias

    @torch.no_grad()
    def absorb_affine(self, scale: Tensor, shift: Tensor) -> str | None:
        """Scale the filters that the generator makes, and the bias, and add the shift to that. See the base class."""
        reason = self.filter_generator.scale_outputs(scale)
        if reason is None:
            self.bias = nn.Parameter(shift if self.bias is None else self.bias * scale + shift)
            self.has_bias = True
        return reason

    def forward(self, input: Tensor, guided_feature: Tensor | None = None) -> Tensor:
        """Convolve each position with the filter of its region.

        Args:
            input: `[B, C, H, W]` or `[C, H, W]`.
            guided_feature: scores made elsewhere, `[B, M, U', V']` (without B for an unbatched input); resized to the
                output with nearest neighbours where the sizes differ. None uses the layer's own guide.

        Returns:
            `[B, O, U, V]`, or `[O, U, V]` for an unbatched input.

        Raises:
            ArgumentError: the shapes do not fit the layer, or there is no guide.
        """
        calls: FusedCalls | None = None
        if not torch.compiler.is_compiling():
            calls = self.__dict__.get("_fused_calls") or self._new_calls()
            fused = calls.run(self, input, guided_feature)
            if fused is not None:
                return fused
        self.check_input(input)
        if input.dim() == 3:
            guided = None if guided_feature is None else guided_feature[None]
            return self.forward(input[None], guided)[0]
        if self.prefers_channels_last():
            input = input.contiguous(memory_format=torch.channels_last)
        size = self.output_size(input.shape[2], input.shape[3])
        if guided_feature is None:
            if self.guide is None:
                raise ArgumentError("a layer made with own_guide=False must be given a guided_feature, got None")
            guided_feature = self.guide(input)
        elif guided_feature.shape[2:] != size:
            return self.forward(input, F.interpolate(guided_feature, size, mode="nearest"))
        if calls is not None and report_scores(self, guided_feature):
            fused = calls.run(self, input, guided_feature, is_reported=True)
            if fused is not None:
                return fused
        filters = self.filter_generator(input)
        output: Tensor = self.region_conv(self.pad(input), filters, guided_feature, self.bias, self.backend)
        return output if self.activation is None else ACTIVATIONS[self.activation](output)

    def _new_calls(self) -> FusedCalls:
        # A cache, which is not part of the layer's state: a layer that was pickled before there was one has none.
        calls = self.__dict__["_fused_calls"] = FusedCalls()
        return calls

    def train(self, mode: bool = True) -> "DRConv2d":
        """Set the mode, as `nn.Module`; training frees the memory that fused inference keeps."""
        if mode:
            forget_fused(self)
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> "DRConv2d":
        # `.to`, `.half`, `.share_memory` and the like.
        forget_fused(self)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **keywords: Any) -> None:
        forget_fused(self)
        super()._load_from_state_dict(*args, **keywords)

    def extra_repr(self) -> str:
        """Show what differs from the defaults, as `nn.Conv2d` does."""
        activation = "" if self.activation is None else f", activation={self.activation!r}"
        return f"{super().extra_repr()}, num_regions={self.num_regions}{activation}"
