"""Threads and forks around the compiled kernels."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from drconv.errors import BackendError
from drconv.kernels import BACKENDS, RegionConvProblem
from drconv.kernels.native import convolution
from drconv.ops import region_conv2d
from tests.fresh import Fresh
from tests.kernels.native.test_library import start
from tests.kernels.test_choice import PROBLEM

FORK = """
import os, torch
from drconv import region_conv2d
x, filters, guide = torch.ones(4, 8, 64, 64), torch.ones(4, 2, 8, 8, 1, 1), torch.zeros(4, 2, 64, 64)
torch.set_num_threads({before})
region_conv2d(x, filters, guide, backend="native")
child = os.fork()
torch.set_num_threads({after})
try:
    said = str(float(region_conv2d(x, filters, guide, backend="native").mean()))
except Exception as error:
    said = f"{{type(error).__name__}} {{error}}"
os.write(1, (said + "\\n").encode())  # at once: two processes write
if child:
    os.waitpid(child, 0)
else:
    os._exit(0)
"""
REFUSAL = "BackendError backend 'native' cannot use 2 threads in a process forked after its first use"


@pytest.fixture(autouse=True)
def _able() -> None:
    reason = BACKENDS["native"].why_not(PROBLEM)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("before", [1, 2])
def test_one_thread_works_in_a_forked_child(before: int, fresh: Fresh) -> None:
    out, err = start(fresh, FORK.format(before=before, after=1)).communicate(timeout=60)
    assert (out.splitlines(), err) == (["8.0", "8.0"], "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_more_threads_in_a_forked_child_raise_and_do_not_hang(fresh: Fresh) -> None:
    out, err = start(fresh, FORK.format(before=2, after=2)).communicate(timeout=60)
    first, second = sorted(out.splitlines())
    assert (first, err) == ("8.0", "")
    assert second.startswith(REFUSAL)


def test_one_thread_opens_no_parallel_region(fresh: Fresh) -> None:
    """Seen from outside: no thread is started."""
    code = """
import os, torch
torch.set_num_threads(1)
from drconv import region_conv2d
leaves = [torch.randn(4, 8, 32, 32), torch.randn(4, 2, 8, 8, 3, 3), torch.randn(4, 2, 32, 32)]
before = len(os.listdir("/proc/self/task"))
for layout in (torch.contiguous_format, torch.channels_last):
    leaves[0] = leaves[0].contiguous(memory_format=layout)
    region_conv2d(*leaves, padding=1, backend="native")
print(len(os.listdir("/proc/self/task")) - before)
"""
    out, err = start(fresh, code).communicate(timeout=60)
    assert (out, err) == ("0\n", "")


def test_several_python_threads_at_once() -> None:
    problems = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        size = 9 + seed
        shapes = ((2, 20, size, size), (2, 3, 18, 20, 3, 3), (2, 3, size, size))
        problems.append([torch.randn(shape, generator=generator).requires_grad_() for shape in shapes])

    def train(leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        output = region_conv2d(*leaves, padding=1, backend="native")
        return [output, *torch.autograd.grad(output.square().sum(), leaves)]

    expected = [train(leaves) for leaves in problems]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(train, problems), expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("batch", "channels", "size", "kernel", "groups"),
    [(3, 40, 17, 3, 1), (1, 24, 9, 3, 24), (5, 12, 8, 3, 3), (1, 70, 6, 1, 1), (2, 20, 40, 1, 1)],
)
@pytest.mark.parametrize("shared", [False, True], ids=["per-sample", "shared"])
def test_same_bits_for_any_number_of_threads(
    batch: int, channels: int, size: int, kernel: int, groups: int, shared: bool, layout: torch.memory_format
) -> None:
    """Of the kernels; the softmax that `ops` adds to the products is PyTorch's."""
    x, grad = (torch.randn(batch, channels, size, size).contiguous(memory_format=layout) for _ in range(2))
    sets = () if shared else (batch,)
    filters = torch.randn(*sets, 5, channels, channels // groups, kernel, kernel)
    mask = torch.randint(5, (batch, size, size))
    pad = kernel // 2
    problem = RegionConvProblem.of(x, filters, (size, size), (1, 1), (pad, pad), (1, 1), groups)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found = convolution.backward(problem, grad, x, filters, mask, (True, True, True))
            results.append([convolution.forward(problem, x, filters, mask), *found])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_mask_out_of_range_is_refused() -> None:
    x, filters = torch.zeros(1, 4, 8, 8), torch.zeros(1, 2, 4, 4, 1, 1)
    for bad in (2, -1):
        mask = torch.zeros(1, 8, 8, dtype=torch.int64)
        mask[0, 3, 3] = bad
        with pytest.raises(BackendError, match="a region outside"):
            BACKENDS["native"].forward()(PROBLEM, x, filters, mask)
