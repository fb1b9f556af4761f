"""Above its size limit, `eager` holds no buffer that grows with M."""

from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from drconv.kernels import RegionConvProblem, eager, naive


class LargestTensor(TorchDispatchMode):
    """Note the largest storage that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.untyped_storage().nbytes() // value.element_size())
        return result


@pytest.mark.parametrize("kernel", [1, 3])
def test_no_buffer_of_m_o_p_in_forward_or_backward(kernel: int) -> None:
    regions, channels, size, pad = 64, 16, 96, kernel // 2
    x, grad = torch.randn(2, 1, channels, size, size)
    filters = torch.randn(1, regions, channels, channels, kernel, kernel)
    mask = torch.randint(regions, (1, size, size))
    problem = RegionConvProblem.of(x, filters, (size, size), (1, 1), (pad, pad), (1, 1), 1)
    forbidden = regions * channels * size * size
    largest = {}
    for backend in (naive, eager):
        with LargestTensor() as seen:
            backend.forward(problem, x, filters, mask)
            backend.backward(problem, grad, x, filters, mask, (True, True, True))
        largest[backend] = seen.numel
    assert largest[naive] >= forbidden, "the measurement must be able to fail"
    assert largest[eager] < forbidden / 4


def test_rows_are_gathered_in_blocks_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    x, filters = torch.randn(1, 16, 64, 64), torch.randn(1, 2, 16, 16, 3, 3)
    mask = torch.randint(2, (1, 64, 64))
    problem = RegionConvProblem.of(x, filters, (62, 62), (1, 1), (0, 0), (1, 1), 1)
    monkeypatch.setattr(eager, "_ROWS_LIMIT", 1 << 16)
    with LargestTensor() as seen:
        eager.forward(problem, x, filters, mask[:, :62, :62])
        eager.backward(problem, torch.randn(1, 16, 62, 62), x, filters, mask[:, :62, :62], (True, True, True))
    assert seen.numel <= 1 << 16


@pytest.mark.parametrize("backend", [eager, naive], ids=["eager", "naive"])
def test_shared_filters_are_not_copied_for_every_sample(backend: ModuleType) -> None:
    x, filters = torch.randn(64, 32, 3, 3), torch.randn(8, 32, 32, 3, 3)
    mask = torch.randint(8, (64, 3, 3))
    problem = RegionConvProblem.of(x, filters, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    with LargestTensor() as seen:
        backend.forward(problem, x, filters, mask)
        backend.backward(problem, torch.randn(64, 32, 3, 3), x, filters, mask, (True, True, True))
    assert seen.numel < 64 * filters.numel() / 4
