"""A whole layer for inference: pool; guide and coefficients; order of positions; convolution with mixed filters."""

from torch import Tensor

from drconv.kernels.layer import LayerParameters, LayerProblem
from drconv.kernels.triton.layer_stages import coefficients_and_mask, pooled
from drconv.kernels.triton.mixed_tiles import multiply_mixed_tiles
from drconv.kernels.triton.regions import guided_mask, sort_positions

__all__ = ["prepare"]

Form = tuple[object, ...] | None


def prepare(
    problem: LayerProblem, parameters: LayerParameters, input: Tensor, guided_feature: Tensor | None
) -> "_Inference | None":
    """Return the inference of calls alike, or None where tensors must be copied before the kernels can read them."""
    p = parameters
    dense = (p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias)
    readable = all(t is None or t.is_contiguous() for t in dense) and all(
        t is None or (t.dtype == input.dtype and t.device == input.device) for t in (*dense, p.guide_weight)
    )
    return _Inference(problem, parameters) if readable else None


class _Inference:
    """From input to output; parameters are read anew at every call."""

    def __init__(self, problem: LayerProblem, parameters: LayerParameters) -> None:
        self._problem = problem
        self._parameters = parameters
        self._forms = _forms(parameters)

    def __call__(self, input: Tensor, guided_feature: Tensor | None) -> Tensor | None:
        problem, parameters = self._problem, self._parameters
        if _forms(parameters) != self._forms:
            return None
        conv = problem.conv
        means = pooled(input, conv.kernel_size if problem.generator == "pooled" else (1, 1))
        coefficients, mask = coefficients_and_mask(problem, parameters, input, means)
        if guided_feature is not None:
            mask = guided_mask(guided_feature)
        regions = sort_positions(mask, conv.batch, conv.num_regions)
        return multiply_mixed_tiles(problem, parameters, input, coefficients, regions)


def _forms(parameters: LayerParameters) -> list[Form]:
    """Return what must not change if parameters are to be read as before."""
    p = parameters
    tensors = (
        p.guide_weight, p.guide_bias, p.routing_weight, p.routing_bias, p.made_weight, p.made_bias, p.bias
    )  # fmt: skip
    return [None if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in tensors]
