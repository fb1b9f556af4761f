"""A whole layer in one call of the compiled kernels."""

from ctypes import addressof
from itertools import count

import torch
from torch import Tensor

from drconv.errors import ArgumentError
from drconv.kernels.layer import ACTIVATIONS, GENERATORS, LayerParameters, LayerProblem
from drconv.kernels.native.library import Conv, Layer, Library, Parameters, load
from drconv.kernels.native.packed import packed
from drconv.kernels.native.plan import Strides, are_scores, check, has_even_taps, is_readable, steps
from drconv.kernels.native.scratch import give_back, take

__all__ = ["prepare"]

_STALE = 4
_never_again = count()

Tensors = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor, Tensor | None, Tensor | None]
"""The parameters of a layer, in the order of `LayerParameters`."""


def prepare(
    problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
) -> "_Inference | None":
    """Return the inference of calls alike, or None where tensors must be copied before the kernels can read them."""
    p = parameters
    dense = (p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias)
    readable = (
        is_readable(problem.conv, input)
        and (guided_feature is None or are_scores(guided_feature))
        and (p.guide_weight is None or has_even_taps(p.guide_weight))
        and all(t is None or t.is_contiguous() for t in dense)
        and all(t is None or (t.dtype == torch.float32 and t.is_cpu) for t in (*dense, p.guide_weight))
    )
    return _Inference(problem, parameters, input, guided_feature) if readable else None


class _Plan:
    """Sizes of a call as the kernels read them, and the scratch memory it takes; never written to."""

    def __init__(self, native: Library, threads: int, layer: Layer) -> None:
        self.native = native
        self.threads = threads
        self.layer = layer
        self.address = addressof(layer)
        self.function = native.functions["infer"]
        self.scratch_size: int = native.functions["infer_scratch"](native.isa, self.address)


class _Bound:
    """Where the kernels find the parameters; never written to."""

    def __init__(self, tensors: Tensors, activation: int, plan: _Plan, anew: bool) -> None:
        self.state = _state(tensors)
        weight, bias = tensors[4], tensors[5]
        self.packed = packed(plan.native, plan.layer, weight, bias, anew)
        pointers = [None if t is None else t.data_ptr() for t in tensors]
        self.parameters = Parameters(*pointers[:6], self.packed.data_ptr(), pointers[6], activation)
        self.address = addressof(self.parameters)


class _Inference:
    """From input to output in one call of the kernels, whose sizes and strides were found out before."""

    def __init__(
        self, problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
    ) -> None:
        p, conv = parameters, problem.conv
        self._problem = problem
        self._tensors: Tensors = (
            p.guide_weight, p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias
        )  # fmt: skip
        self._forms = _forms(self._tensors)
        self._input_steps = steps(input)
        self._score_steps = None if guided_feature is None else steps(guided_feature)
        self._output_shape = (conv.batch, conv.out_channels, *conv.output_size)
        empty = torch.empty(self._output_shape, device="meta", memory_format=conv.memory_format)
        self._output_strides = empty.stride()
        self._calls = 0
        native = load()
        self._plan = self._plan_for(native, native.threads())
        self._bound = self._bind(self._plan)

    def __call__(self, input: Tensor, guided_feature: Tensor | None) -> Tensor | None:
        # Another thread may replace plan and parameters at any time: this call goes on with those it has.
        native, plan, bound = load(), self._plan, self._bound
        threads = native.threads()
        if plan.native is not native or plan.threads != threads:
            plan = self._plan = self._plan_for(native, threads)
            bound = self._bound = self._bind(plan)
        elif bound.state != _state(self._tensors):
            if self._forms != _forms(self._tensors):
                return None
            bound = self._bound = self._bind(plan)
        output = torch.empty_strided(self._output_shape, self._output_strides, dtype=torch.float32)
        size = plan.scratch_size
        memory = take(size)
        self._calls += 1
        scores = None if guided_feature is None else guided_feature.data_ptr()
        arguments = (input.data_ptr(), scores, self._calls, output.data_ptr(), memory.address, size)
        status = plan.function(native.isa, plan.address, bound.address, *arguments)
        if status == _STALE:
            # Somebody wrote to a parameter through `.data`, which counts no version.
            bound = self._bound = self._bind(plan, anew=True)
            status = plan.function(native.isa, plan.address, bound.address, *arguments)
        give_back(memory)
        if status:
            check(status)
        return output

    def _plan_for(self, native: Library, threads: int) -> _Plan:
        problem, weight = self._problem, self._tensors[0]
        conv = _conv(problem, self._input_steps, self._score_steps, threads)
        guide = conv if weight is None else _guide(problem, self._input_steps, weight.stride(), threads)
        kind = GENERATORS.index(problem.generator)
        return _Plan(native, threads, Layer(conv, guide, weight is None, kind, problem.num_mixed))

    def _bind(self, plan: _Plan, anew: bool = False) -> _Bound:
        return _Bound(self._tensors, ACTIVATIONS.index(self._problem.activation), plan, anew)


def _forms(tensors: Tensors) -> list[object]:
    """Return what must not change if parameters are to be read as before."""
    return [None if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in tensors]


def _state(tensors: Tensors) -> list[int | None]:
    """Return what changes when parameters move, or when what is packed is written to; not when it is by `.data`."""
    guide_weight, guide_bias, routing_weight, routing_bias, made_weight, made_bias, bias = tensors
    state = [
        made_weight.data_ptr(),
        None if guide_weight is None else guide_weight.data_ptr(),
        None if guide_bias is None else guide_bias.data_ptr(),
        None if routing_weight is None else routing_weight.data_ptr(),
        None if routing_bias is None else routing_bias.data_ptr(),
        None if made_bias is None else made_bias.data_ptr(),
        None if bias is None else bias.data_ptr(),
    ]
    try:
        state.append(made_weight._version)
        if made_bias is not None:
            state.append(made_bias._version)
    except RuntimeError:
        # Inference tensors count no versions: what was packed of them is out of date at once.
        state.append(next(_never_again))
    return state


def _conv(problem: LayerProblem, input: Strides, scores: Strides | None, threads: int) -> Conv:
    p = problem.conv
    return Conv(
        p.batch, p.in_channels, p.out_channels, p.groups, p.num_regions,
        *p.input_size, *p.output_size,
        *p.kernel_size, *p.stride, *p.padding, *p.dilation,
        p.memory_format == torch.channels_last,
        *input,
        0, 0, 0, 0, 0, 0,
        *(scores or (0, 0, 0)),
        threads,
    )  # fmt: skip


def _guide(problem: LayerProblem, input: Strides, weight: Strides, threads: int) -> Conv:
    p, guide = problem.conv, problem.guide
    if guide is None:
        raise ArgumentError("a problem without a guide has no guide weight, got one")
    kernel_h, kernel_w = guide.kernel_size
    tap = weight[3] if kernel_w > 1 else weight[2] if kernel_h > 1 else 1
    return Conv(
        p.batch, p.in_channels, p.num_regions, 1, 1,
        *p.input_size, *p.output_size,
        kernel_h, kernel_w, *guide.stride, *guide.padding, *guide.dilation,
        p.memory_format == torch.channels_last,
        *input,
        1, 0, 0, weight[0], weight[1], tap,
        0, 0, 0,
        threads,
    )  # fmt: skip
