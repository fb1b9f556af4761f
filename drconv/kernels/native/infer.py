"""A whole layer in one call of the compiled kernels."""

from ctypes import addressof

import torch
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.kernels.backend import memory_format_of
from drconv.kernels.layer import ACTIVATIONS, GENERATORS, LayerParameters, LayerProblem
from drconv.kernels.native.library import Conv, Layer, Library, Parameters, is_open, load
from drconv.kernels.native.packed import packed
from drconv.kernels.native.plan import Strides, are_scores, check, has_even_taps, is_even, steps
from drconv.kernels.native.scratch import Block, give_back, take

__all__ = ["prepare"]

_STALE, _MOVED = 4, 5

Tensors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor | None, Tensor | None]
"""The parameters of a layer, in the order of `LayerParameters`."""


def prepare(
    problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
) -> "_Inference | None":
    """Return the inference of calls alike, or None where tensors must be copied before the kernels can read them."""
    p = parameters
    dense = (p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias)
    readable = (
        _is_readable(input)
        and (guided_feature is None or are_scores(guided_feature))
        and (p.guide_weight is None or has_even_taps(p.guide_weight))
        and all(t is None or t.is_contiguous() for t in dense)
        and all(t is None or (t.dtype == torch.float32 and t.is_cpu) for t in (*dense, p.guide_weight))
    )
    return _Inference(problem, parameters, input, guided_feature) if readable else None


def _is_readable(input: Tensor) -> bool:
    _, channel, pixel = steps(input)
    return (channel if _is_rows(input) else pixel) == 1 and is_even(input)


def _is_rows(input: Tensor) -> bool:
    return memory_format_of(input) == torch.channels_last


class _Ready:
    """All that a call hands to the kernels beside its tensors; never written to.

    Slots, here and below: between two calls of a layer all others of its network run, so that whatever a call looks at
    has to come from memory, object by object.
    """

    __slots__ = (
        "address", "bias_version", "function", "isa", "layer", "native", "packed", "parameters", "parameters_address",
        "scratch_size", "threads", "weight_version",
    )  # fmt: skip

    def __init__(self, native: Library, threads: int, layer: Layer, tensors: Tensors, activation: int, anew: bool):
        weight, bias = tensors[4], tensors[5]
        self.native = native
        self.isa = native.isa
        self.threads = threads
        self.layer = layer
        self.address = addressof(layer)
        self.function = native.functions["infer"]
        self.scratch_size: int = native.functions["infer_scratch"](native.isa, self.address)
        # Read before what they are versions of.
        self.weight_version = _version(weight)
        self.bias_version = 0 if bias is None else _version(bias)
        self.packed = packed(native, layer, weight, bias, anew)
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        self.parameters = Parameters(*pointers[:6], self.packed.data_ptr(), pointers[6], activation)
        self.parameters_address = addressof(self.parameters)


class _Inference:
    """From input to output in one call of the kernels, whose sizes and strides were found out before."""

    __slots__ = (
        "_calls", "_forms", "_input_steps", "_is_rows", "_made_bias", "_made_weight", "_output_shape",
        "_output_strides", "_problem", "_ready", "_score_steps", "_tensors",
    )  # fmt: skip

    def __init__(
        self, problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
    ) -> None:
        p, conv = parameters, problem.conv
        self._problem = problem
        self._made_weight = p.made_weight
        self._made_bias = p.made_bias
        self._tensors: Tensors = (
            p.guide_weight, p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias
        )  # fmt: skip
        self._forms = _forms(self._tensors)
        self._input_steps = steps(input)
        self._is_rows = _is_rows(input)
        self._score_steps = None if guided_feature is None else steps(guided_feature)
        self._output_shape = (conv.batch, conv.out_channels, *conv.output_size)
        empty = torch.empty(self._output_shape, device="meta", memory_format=conv.memory_format)
        self._output_strides = empty.stride()
        self._calls = 0
        native = load()
        self._ready = self._made_ready(native, native.threads())

    def __call__(self, input: Tensor, guided_feature: Tensor | None) -> Tensor | None:
        # Another thread may replace it at any time: this call goes on with what it has.
        ready = self._ready
        native = ready.native if is_open(ready.native) else load()
        threads, bias = native.threads(), self._made_bias
        try:
            is_packed = self._made_weight._version == ready.weight_version and (
                bias is None or bias._version == ready.bias_version
            )
        except RuntimeError:
            is_packed = False  # inference tensors count no versions
        if not is_packed or ready.threads != threads or ready.native is not native:
            if self._forms != _forms(self._tensors):
                return None
            ready = self._ready = self._made_ready(native, threads)
        output = torch.empty_strided(self._output_shape, self._output_strides, dtype=torch.float32)
        memory = take(ready.scratch_size)
        status = self._run(ready, input, guided_feature, output, memory)
        if status in (_STALE, _MOVED):
            # Somebody wrote to a parameter through `.data`, which counts no version, or gave it other memory.
            if self._forms != _forms(self._tensors):
                return None
            ready = self._ready = self._made_ready(native, threads, anew=status == _STALE)
            status = self._run(ready, input, guided_feature, output, memory)
        give_back(memory)
        if status:
            check(status)
        return output

    def _run(self, ready: _Ready, input: Tensor, scores: Tensor | None, output: Tensor, memory: Block) -> int:
        self._calls = seed = self._calls + 1
        status: int = ready.function(
            ready.isa, ready.address, ready.parameters_address,
            *[None if t is None else t.data_ptr() for t in self._tensors],
            input.data_ptr(), None if scores is None else scores.data_ptr(), seed,
            output.data_ptr(), memory.address, ready.scratch_size,
        )  # fmt: skip
        return status

    def _made_ready(self, native: Library, threads: int, anew: bool = False) -> _Ready:
        problem, weight = self._problem, self._tensors[0]
        conv = _conv(problem, self._is_rows, self._input_steps, self._score_steps, threads)
        guide = conv
        if weight is not None:
            guide = _guide(problem, self._is_rows, self._input_steps, weight.stride(), threads)
        output_rows = problem.conv.memory_format == torch.channels_last
        kind = GENERATORS.index(problem.generator)
        layer = Layer(conv, guide, weight is None, output_rows, kind, problem.num_mixed)
        return _Ready(native, threads, layer, self._tensors, ACTIVATIONS.index(problem.activation), anew)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _forms(tensors: Tensors) -> list[object]:
    """Return what must not change if parameters are to be read as before."""
    return [None if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in tensors]


def _conv(problem: LayerProblem, rows: bool, input: Strides, scores: Strides | None, threads: int) -> Conv:
    p = problem.conv
    return Conv(
        p.batch, p.in_channels, p.out_channels, p.groups, p.num_regions,
        *p.input_size, *p.output_size,
        *p.kernel_size, *p.stride, *p.padding, *p.dilation,
        rows,
        *input,
        0, 0, 0, 0, 0, 0,
        *(scores or (0, 0, 0)),
        threads,
    )  # fmt: skip


def _guide(problem: LayerProblem, rows: bool, input: Strides, weight: Strides, threads: int) -> Conv:
    p, guide = problem.conv, problem.guide
    if guide is None:
        raise ArgumentError("a problem without a guide has no guide weight, got one")
    kernel_h, kernel_w = guide.kernel_size
    tap = weight[3] if kernel_w > 1 else weight[2] if kernel_h > 1 else 1
    return Conv(
        p.batch, p.in_channels, p.num_regions, 1, 1,
        *p.input_size, *p.output_size,
        kernel_h, kernel_w, *guide.stride, *guide.padding, *guide.dilation,
        rows,
        *input,
        1, 0, 0, weight[0], weight[1], tap,
        0, 0, 0,
        threads,
    )  # fmt: skip
