"""When the Triton kernels may run, and that nothing needs Triton where they do not."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import drconv.kernels.triton as row
from drconv.errors import BackendError
from drconv.kernels import BACKENDS, choose_backend
from tests.kernels.test_choice import PROBLEM

ROW = BACKENDS["triton"]


def test_on_the_cpu_it_runs_when_the_interpreter_is_asked_for_and_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert ROW.why_not(PROBLEM) is None
    assert choose_backend(PROBLEM, "triton") is ROW
    half = replace(PROBLEM, dtype=torch.float16)
    assert choose_backend(half).name == "eager", "not by itself, also where nothing stands before it"
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(BackendError, match="only in Triton's interpreter, with TRITON_INTERPRET=1"):
        choose_backend(PROBLEM, "triton")


def test_objections(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not on mps" in ROW.why_not(replace(PROBLEM, device_type="mps"))
    assert "not torch.float64" in ROW.why_not(replace(PROBLEM, dtype=torch.float64))
    huge = replace(PROBLEM, shared_filters=True, batch=2**26)
    assert "at most 2147483647 pixels may share their filters" in ROW.why_not(huge)
    assert ROW.why_not(replace(huge, shared_filters=False)) is None
    if not torch.cuda.is_available():
        assert ROW.why_not(replace(PROBLEM, device_type="cuda")) == "PyTorch sees no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "compute capability 8.0 or newer, got 7.5" in ROW.why_not(replace(PROBLEM, device_type="cuda"))


def test_without_triton_and_with_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    row._why_not_installed.cache_clear()
    monkeypatch.setattr(row, "version", lambda name: "3.1.0+git")
    assert ROW.why_not(PROBLEM) == "it needs Triton 3.2 or newer, got 3.1.0+git"
    row._why_not_installed.cache_clear()
    monkeypatch.setattr(row, "find_spec", lambda name: None)
    assert ROW.why_not(PROBLEM).startswith("Triton is not installed")
    row._why_not_installed.cache_clear()


def test_everything_works_and_nothing_is_imported_without_triton() -> None:
    """Whole layers, their gradients and the choice of a backend, where importing Triton fails."""
    code = """
import sys
sys.modules["triton"] = None
import torch, drconv
from drconv.kernels import BACKENDS
layer = drconv.DRConv2d(4, 4, 1)
layer(torch.randn(1, 4, 5, 5)).sum().backward()
drconv.DRConv2d(4, 4, 1).double()(torch.randn(1, 4, 5, 5).double())
assert not [name for name in sys.modules if name.startswith("drconv.kernels.triton.")]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
