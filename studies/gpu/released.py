"""The yardstick that does what the released CUDA code does; see `released.cu`."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from place import Place
from torch import Tensor

__all__ = ["Released", "headers_not_needed"]

_SOURCE = Path(__file__).with_name("released.cu")
_BLOCK = 256
_ON_HOST = """
struct Index { long long x; };
static Index blockIdx, blockDim, threadIdx;
#define __global__
static void atomicAdd(float* at, float value) { *at += value; }
#include "%s"
extern "C" void run_forward(long long n, const float* a, const float* b, const int* c, float* d,
                            int e, int f, int g, int h, int i) {
    blockDim.x = 1;
    for (blockIdx.x = 0; blockIdx.x < n; ++blockIdx.x) released_forward(a, b, c, d, e, f, g, h, i);
}
extern "C" void run_backward(long long n, const float* a, const float* b, const float* c, const int* d, float* e,
                             float* f, float* g, int h, int i, int j, int k, int l, int m) {
    blockDim.x = 1;
    for (blockIdx.x = 0; blockIdx.x < n; ++blockIdx.x) released_backward(a, b, c, d, e, f, g, h, i, j, k, l, m);
}
"""
"""Runs the same source thread after thread on the host, to prove it without a GPU."""

Launch = Callable[..., None]


class Released:
    """Forward and backward for stride 1 and one channel group.

    Args:
        place: where; on a GPU NVRTC compiles the source, which PyTorch brings, in rehearsal the host's compiler.

    Raises:
        RuntimeError: it cannot be compiled here; the message says why.
    """

    def __init__(self, place: Place) -> None:
        self._forward, self._backward = (_on_host if place.is_rehearsal else _on_gpu)()

    def forward(self, input: Tensor, filters: Tensor, mask: Tensor, padding: int = 0) -> Tensor:
        """Return the output `[B, O, U, V]`.

        Args:
            input: `[B, C, H, W]`, NCHW, float32.
            filters: `[B, M, O, C, K, K]`, contiguous.
            mask: `[B, U, V]`, int32.
            padding: on all sides.
        """
        columns, sizes = _columns(input, filters, padding)
        output = torch.empty(len(input), filters.shape[2], *mask.shape[1:], device=input.device)
        self._forward(output.numel(), columns, filters, mask, output, *sizes)
        return output

    def backward(
        self, grad_output: Tensor, input: Tensor, filters: Tensor, mask: Tensor, padding: int = 0, products: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of input, filters and one-hot mask `[B, M, U, V]`; the last is zero if not asked for."""
        columns, sizes = _columns(input, filters, padding)
        grad_columns, grad_filters = torch.zeros_like(columns), torch.zeros_like(filters)
        of_mask = torch.zeros(sizes[0], sizes[1], *mask.shape[1:], device=input.device)
        self._backward(
            grad_output.numel(), grad_output, columns, filters, mask, grad_columns, grad_filters, of_mask, *sizes,
            int(products),
        )  # fmt: skip
        if filters.shape[-1] == 1:
            return grad_columns.view_as(input), grad_filters, of_mask
        folded = F.fold(grad_columns, input.shape[2:], tuple(filters.shape[-2:]), padding=padding)
        return folded, grad_filters, of_mask


def _columns(input: Tensor, filters: Tensor, padding: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return what every output reads, `[B, L, P]`, and B, M, O, L, P; larger kernels are unfolded, as released."""
    batch, regions, outs = filters.shape[:3]
    kernel = tuple(filters.shape[-2:])
    columns = input.flatten(2) if kernel == (1, 1) else F.unfold(input, kernel, padding=padding)
    return columns, (batch, regions, outs, columns.shape[1], columns.shape[2])


@cache
def _on_gpu() -> tuple[Launch, Launch]:
    compiled = getattr(torch.cuda, "_compile_kernel", None)
    if compiled is None:
        raise RuntimeError(f"PyTorch {torch.__version__} has no torch.cuda._compile_kernel")
    source = _SOURCE.read_text()

    def launcher(name: str) -> Launch:
        try:
            with headers_not_needed():
                kernel = compiled(source, name)
        except (ImportError, OSError, RuntimeError) as error:
            raise RuntimeError(f"torch.cuda._compile_kernel said: {str(error).strip()}") from error

        def launch(threads: int, *arguments: Tensor | int) -> None:
            kernel(grid=(-(-threads // _BLOCK), 1, 1), block=(_BLOCK, 1, 1), args=list(arguments))

        return launch

    return launcher("released_forward"), launcher("released_backward")


@contextmanager
def headers_not_needed() -> Iterator[None]:
    """Let PyTorch compile without a CUDA toolkit, whose headers it looks for although the source includes none."""
    from torch.utils import cpp_extension

    before = cpp_extension.CUDA_HOME
    cpp_extension.CUDA_HOME = before or str(_SOURCE.parent)
    try:
        yield
    finally:
        cpp_extension.CUDA_HOME = before


@cache
def _on_host() -> tuple[Launch, Launch]:
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "released.cpp"), Path(folder, "released.so")
        source.write_text(_ON_HOST % _SOURCE)
        command = ["c++", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except FileNotFoundError:
            raise RuntimeError("there is no C++ compiler called c++") from None
        if done.returncode:
            raise RuntimeError(f"the compiler said: {done.stderr.strip().splitlines()[0]}")
        loaded = ctypes.CDLL(str(library))

    def launcher(name: str) -> Launch:
        function = getattr(loaded, name)

        def launch(threads: int, *arguments: Tensor | int) -> None:
            function(
                ctypes.c_longlong(threads),
                *(ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else ctypes.c_int(a) for a in arguments),
            )

        return launch

    return launcher("run_forward"), launcher("run_backward")
