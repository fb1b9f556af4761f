"""Count with fvcore: trace a model and add up its operators, module by module."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from drconv.analysis.flops.observe import counting_input, tensors_in
from drconv.analysis.flops.operators import HANDLES, UNCOUNTED, uncounted
from drconv.analysis.running import eval_mode, model_errors, without_fast_paths
from drconv.errors import ArgumentError

with warnings.catch_warnings():
    # fvcore scripts a loss function at import, which newer releases of torch deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn import FlopCountAnalysis

__all__ = ["Trace", "trace"]


@dataclass(frozen=True)
class Trace:
    """What fvcore saw of a batch.

    Attributes:
        counts: module name -> kind -> count of all that ran inside it; shared modules under their first name.
        uncounted: operators without a formula -> (times they ran, elements they gave).
        uncalled: modules with parameters of their own that did not run.
    """

    counts: Mapping[str, Counter[str]]
    uncounted: Mapping[str, tuple[int, int]]
    uncalled: tuple[str, ...]


def trace(model: nn.Module, input_size: Sequence[int], batch_size: int) -> Trace:
    """Trace a model in eval mode on zeros.

    Raises:
        ArgumentError: a size is not positive, or the model is on the meta device, where nothing can be traced.
        ModelError: the model fails on such an input.
    """
    with eval_mode(model), without_fast_paths(), model_errors(model, (batch_size, *input_size)):
        image = counting_input(model, input_size, batch_size)
        if image.is_meta:
            raise ArgumentError("fvcore cannot trace on the meta device; count with engine='dispatch'")
        # A trace takes no outputs but tensors.
        handle = model.register_forward_hook(lambda module, args, output: tuple(tensors_in(output)))
        try:
            counts, unknown, uncalled = _analyse(model, image)
        finally:
            handle.remove()
    elements = {name: counts[""].get(UNCOUNTED + name, 0) for name in unknown}
    with_parameters = {n for n, m in model.named_modules() if next(m.parameters(recurse=False), None) is not None}
    return Trace(
        counts,
        {name.removeprefix("aten::"): (times, elements[name]) for name, times in sorted(unknown.items())},
        tuple(sorted(with_parameters & uncalled)),
    )


def _analyse(model: nn.Module, image: Tensor) -> tuple[dict[str, Counter[str]], dict[str, int], set[str]]:
    """Return counts by module and kind, operators without a formula, and modules that did not run."""
    analysis = FlopCountAnalysis(model, image).set_op_handle(**HANDLES)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.total()
    unknown = dict(analysis.unsupported_ops())
    # Traced once more only if something has no formula, to see how much it is.
    for name in unknown:
        analysis.set_op_handle(name, uncounted(name))
    counts = {
        name: Counter({kind: int(n) for kind, n in kinds.items()})
        for name, kinds in analysis.by_module_and_operator().items()
    }
    return counts, unknown, set(analysis.uncalled_modules())
