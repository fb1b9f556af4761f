"""Estimate the memory of a batch without using it: run on the meta device and add up the tensors that are alive."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from weakref import WeakSet, finalize

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from drconv.analysis.flops.observe import counting_input, observe
from drconv.analysis.running import eval_mode, model_errors, without_fast_paths

__all__ = ["MemoryEstimate", "estimate_memory"]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one batch, by adding up tensors; what backends and allocators take besides is not in it.

    Attributes:
        batch_size: of the batch.
        parameters: parameters and buffers.
        activations: what the forward pass of a training step keeps for the backward pass.
        generated_filters: all filters that dynamic layers make for the batch.
        inference_peak: most that is alive at once without gradients, parameters and input included.
        training_peak: the same for a training step, gradients of parameters included, optimiser state not.
    """

    batch_size: int
    parameters: int
    activations: int
    generated_filters: int
    inference_peak: int
    training_peak: int

    def to_dict(self) -> dict[str, int]:
        """Return bytes."""
        return asdict(self)

    @property
    def note(self) -> str:
        """One line in MB."""
        sizes = asdict(self)
        batch = sizes.pop("batch_size")
        listed = ", ".join(f"{name.replace('_', ' ')} {n / 1e6:,.1f}" for name, n in sizes.items())
        return f"Memory of a batch of {batch} in MB, by the tensors alive (no allocator, no optimiser): {listed}"


def estimate_memory(model: nn.Module, input_size: Sequence[int] = (3, 224, 224), batch_size: int = 1) -> MemoryEstimate:
    """Estimate what a batch needs, in eval mode, whatever device the model is on.

    Args:
        model: any module that takes one tensor `[B, *input_size]` and runs on the meta device.
        input_size: of one image, (C, H, W).
        batch_size: images.

    Returns:
        Bytes.

    Raises:
        ArgumentError: a size is not positive.
        ModelError: the model cannot run on the meta device, or not on such an input.
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    on_meta = {name: torch.empty_like(t, device="meta").requires_grad_(t.requires_grad) for name, t in tensors.items()}
    parameters = sum(t.numel() * t.element_size() for t in on_meta.values())
    with eval_mode(model), without_fast_paths(), model_errors(model, (batch_size, *input_size)):
        image = counting_input(model, input_size, batch_size, "meta")
        held = parameters + image.numel() * image.element_size()
        with torch.no_grad(), _Alive() as inference:
            output = functional_call(model, on_meta, (image,))
            del output
        with torch.enable_grad(), _Alive() as training:
            outputs = [t for t in tree_leaves(functional_call(model, on_meta, (image,))) if isinstance(t, Tensor)]
            activations = training.bytes
            trained = [t for t in on_meta.values() if t.requires_grad]
            loss = sum(output.sum() for output in outputs if output.requires_grad)
            if trained and isinstance(loss, Tensor):
                torch.autograd.grad(loss, trained, allow_unused=True)
        seen = observe(_Functional(model, on_meta), input_size, batch_size)
    generated = sum(call.generated for calls in seen.regions.values() for call in calls) * image.element_size()
    return MemoryEstimate(batch_size, parameters, activations, generated, held + inference.peak, held + training.peak)


class _Functional(nn.Module):
    """A model with other tensors in place of its own."""

    def __init__(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._held = (model, tensors)  # in a tuple, so that it is no submodule

    def parameters(self, recurse: bool = True) -> Any:
        return iter(self._held[1].values())

    def forward(self, input: Tensor) -> Any:
        return functional_call(self._held[0], self._held[1], (input,))


class _Alive(TorchDispatchMode):
    """Add up the storages that operators make, as long as they live.

    Attributes:
        bytes: alive now.
        peak: most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self.peak = 0
        self._known: WeakSet[Any] = WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # What goes in was there before, or has been counted.
        for tensor in _tensors((args, kwargs)):
            self._known.add(tensor.untyped_storage())
        output = func(*args, **(kwargs or {}))
        for tensor in _tensors(output):
            self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: Any) -> None:
        if storage not in self._known:
            self._known.add(storage)
            self.bytes += storage.nbytes()
            self.peak = max(self.peak, self.bytes)
            finalize(storage, self._free, storage.nbytes()).atexit = False

    def _free(self, size: int) -> None:
        self.bytes -= size


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
