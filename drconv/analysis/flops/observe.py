"""Run a model once and watch: what every module is given and gives, every region convolution, and PyTorch's own count.

Unlike a trace this also works on the meta device, where nothing is computed.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from drconv.analysis.running import eval_mode, model_errors, without_fast_paths
from drconv.errors import ArgumentError
from drconv.kernels import BACKENDS, RegionConvProblem, choose_backend

__all__ = ["Call", "Observation", "RegionCall", "counting_input", "observe", "tensors_in"]


@dataclass(frozen=True)
class Call:
    """Shapes of one call of a module: of its tensor arguments, and of its output if that is a tensor."""

    inputs: tuple[tuple[int, ...], ...]
    output: tuple[int, ...] | None


@dataclass(frozen=True)
class RegionCall:
    """One call of the operator.

    Attributes:
        problem: its sizes.
        backend: the name that was asked for, or None.
        generated: elements of the filters that were made for this input; 0 for filters shared by the batch.
    """

    problem: RegionConvProblem
    backend: str | None
    generated: int

    def executed(self, backend: str | None = None) -> int:
        """Return the multiply-adds of the named backend, or else of the one that runs this call.

        On the meta device nothing runs, and the one that would run it on the CPU is counted.
        """
        problem = self.problem if self.problem.device_type != "meta" else replace(self.problem, device_type="cpu")
        chosen = BACKENDS[backend] if backend is not None else choose_backend(problem, self.backend)
        return chosen.madds(problem)


@dataclass
class Observation:
    """One pass of a batch.

    Attributes:
        calls: module name -> its calls.
        regions: module name -> the operator's calls while that module was the innermost one running.
        madds: module name -> multiply-adds inside it in the forward pass, counted by `FlopCounterMode`.
        backward: module name -> the same for the backward pass, if there was one.
        failed: modules that raised while the model went on.
    """

    calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    regions: dict[str, list[RegionCall]] = field(default_factory=lambda: defaultdict(list))
    madds: Counter[str] = field(default_factory=Counter)
    backward: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)


def counting_input(model: nn.Module, input_size: Sequence[int], batch_size: int, device: str | None = None) -> Tensor:
    """Return zeros `[B, *input_size]`, dtype and, unless told, device of the model's parameters.

    Raises:
        ArgumentError: a size is not positive.
    """
    if batch_size < 1 or any(size < 1 for size in input_size):
        raise ArgumentError(f"sizes must be at least 1, got {input_size=}, {batch_size=}")
    like = next(model.parameters(), torch.empty(0))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return torch.zeros((batch_size, *input_size), dtype=dtype, device=device or like.device)


def observe(model: nn.Module, input_size: Sequence[int], batch_size: int = 1, *, backward: bool = False) -> Observation:
    """Run a model in eval mode on zeros, and backwards from the sum of its outputs if asked to.

    Gradients of parameters are left as they were.

    Raises:
        ArgumentError: a size is not positive.
        ModelError: the model fails on such an input.
    """
    found = Observation()
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    # Who runs is followed here; PyTorch's own tracker cannot take the filters that a layer shares with its batch.
    counter.mod_tracker = _NoTracker()  # type: ignore[assignment]
    with eval_mode(model), model_errors(model, (batch_size, *input_size)):
        image = counting_input(model, input_size, batch_size)
        # Attention in its plain form: of the fused ones, PyTorch has no formula for the CPU's.
        with without_fast_paths(), sdpa_kernel(SDPBackend.MATH):
            _run(model, image, counter, found, backward)
    return found


def _run(model: nn.Module, image: Tensor, counter: FlopCounterMode, found: Observation, backward: bool) -> None:
    with torch.set_grad_enabled(backward), counter, _watching(model, counter, found):
        outputs = tensors_in(model(image))
        if backward:
            _run_backward(model, outputs)


@contextmanager
def _watching(model: nn.Module, counter: FlopCounterMode, found: Observation) -> Iterator[None]:
    """Keep the name of the innermost running module, and note what happens in it."""
    running: list[str] = []
    names = {module: name for name, module in reversed(list(model.named_modules()))}
    origins = _Origins()
    outside = sys.exception()

    def innermost() -> str:
        return running[-1] if running else ""

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        origins.claim(tensors_in((args, kwargs)), innermost())
        running.append(names[module])

    def leave(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        name = running.pop()
        if sys.exception() is not outside:
            found.failed.append(name)
            return
        origins.claim(tensors_in(output), name)
        inputs = tuple(tuple(t.shape) for t in tensors_in((args, kwargs)))
        found.calls[name].append(Call(inputs, tuple(output.shape) if isinstance(output, Tensor) else None))

    def count(madds: int) -> None:
        # To the module and to all that own it, whether their own forward runs or not.
        forward = origins.current is None
        path = innermost() if forward else origins.current or ""
        for name in {"", *_ancestors(path)}:
            (found.madds if forward else found.backward)[name] += madds

    def region_conv(args: Sequence[Any]) -> None:
        input, filters, guided, _, stride, padding, dilation, groups, backend = args
        pairs = ((stride[0], stride[1]), (padding[0], padding[1]), (dilation[0], dilation[1]))
        problem = RegionConvProblem.of(input, filters, (guided.shape[2], guided.shape[3]), *pairs, groups)
        generated = 0 if problem.shared_filters else filters.numel()
        found.regions[innermost()].append(RegionCall(problem, backend, generated))

    with ExitStack() as stack:
        for module in names:
            handle = module.register_forward_pre_hook(enter, with_kwargs=True, prepend=True)
            stack.callback(handle.remove)
            handle = module.register_forward_hook(leave, with_kwargs=True, always_call=True)
            stack.callback(handle.remove)
        stack.enter_context(_Watch(counter, count, region_conv))
        yield


class _Origins:
    """Which module every node of the autograd graph comes from.

    Attributes:
        current: in a backward pass, the name of the module whose node is running; else None.
    """

    def __init__(self) -> None:
        self.current: str | None = None
        self._names: dict[Any, str] = {}

    def claim(self, tensors: Sequence[Tensor], name: str) -> None:
        """Give a module all nodes that lead to some tensors and that no module has claimed before."""
        nodes: list[Any] = [t.grad_fn for t in tensors if t.grad_fn is not None]
        while nodes:
            node = nodes.pop()
            if node is not None and node not in self._names:
                self._names[node] = name
                node.register_prehook(lambda grads, name=name: self._enter(name))
                nodes += [above for above, _ in node.next_functions]

    def _enter(self, name: str) -> None:
        self.current = name


def _ancestors(path: str) -> Iterator[str]:
    """Yield a module's name and the names of all modules it is in."""
    parts = path.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


class _NoTracker(nullcontext[None]):
    """In place of a module tracker: all that runs is global."""

    parents = frozenset({"Global"})


class _Watch(TorchDispatchMode):
    """Tell the multiply-adds of every operator, and the arguments of every region convolution."""

    def __init__(
        self, counter: FlopCounterMode, count: Callable[[int], None], region_conv: Callable[[Sequence[Any]], None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter
        self.count = count
        self.region_conv = region_conv

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.drconv.region_conv2d.default:
            self.region_conv(args)
        before = self.counter.get_total_flops()
        output = func(*args, **(kwargs or {}))
        flops = self.counter.get_total_flops() - before
        if flops:
            self.count(flops // 2)
        return output


def _conv_backward(
    grad: Sequence[int], input: Sequence[int], weight: Sequence[int], *settings: Any, out_shape: Any = None
) -> int:
    """Count as much for each wanted gradient as for the forward pass; PyTorch's own formula forgets the groups."""
    transposed, wanted = settings[4], settings[7]
    positions = prod((input if transposed else grad)[2:])
    madds: int = grad[0] * positions * prod(weight) * (wanted[0] + wanted[1])
    return 2 * madds


def _vector_product(a: Sequence[int], b: Sequence[int], *settings: Any, out_shape: Any = None, **_: Any) -> int:
    """Count a matrix times a vector, or a vector times a vector; PyTorch has formulas for matrices only."""
    return 2 * prod(a)


_FORMULAS = {
    torch.ops.aten.convolution_backward: _conv_backward,
    torch.ops.aten.mv: _vector_product,
    torch.ops.aten.dot: _vector_product,
    torch.ops.aten.vdot: _vector_product,
}


def _run_backward(model: nn.Module, outputs: Sequence[Tensor]) -> None:
    trained = [p for p in model.parameters() if p.requires_grad]
    loss = sum(output.sum() for output in outputs if output.requires_grad)
    if not trained or not isinstance(loss, Tensor):
        raise ArgumentError("a backward pass needs parameters with requires_grad=True, got none that the output uses")
    torch.autograd.grad(loss, trained, allow_unused=True)


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists, dictionaries and dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, part.name) for part in fields(value)]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [t for item in value for t in tensors_in(item)] if isinstance(value, list | tuple) else []
