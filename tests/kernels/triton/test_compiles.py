"""Every kernel through Triton's compiler and NVIDIA's assembler, which see types that the interpreter does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "compiled.py"


def compiled(tmp_path: Path, *arguments: str) -> list[str]:
    """Return a line for each kernel, compiled in a process that does not interpret."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def kernels(lines: list[str]) -> set[str]:
    return {line.split()[0] for line in lines}


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper(tmp_path: Path) -> None:
    lines = compiled(tmp_path, "90", "bfloat16", "exact", "pointwise", "3x3", "depthwise", "layer")
    assert kernels(lines) == {
        "regions._mask_kernel", "regions._count_kernel", "regions._place_kernel", "tile_products._tile_kernel",
        "filter_gradient._filter_kernel", "products._products_kernel", "input_gradient._taps_kernel",
        "depthwise._forward_kernel", "depthwise._input_kernel", "depthwise._filter_kernel",
        "depthwise._products_kernel", "layer_stages._pool_kernel", "layer_stages._guide_kernel",
        "mixed_tiles._mixed_kernel",
    }  # fmt: skip
    forward = next(line for line in lines if line.startswith("tile_products"))
    assert "wgmma" in forward, "half precision is for the tensor cores"
    assert "cp.async" in forward, "rows of whole 16 bytes are fetched ahead"
    for line in lines:
        assert int(re.search(r"SHARED:(\d+)", line)[1]) <= 48 << 10, "more is not there on every GPU"


@pytest.mark.slow
def test_every_kernel_compiles_with_wide_offsets(tmp_path: Path) -> None:
    lines = compiled(tmp_path, "80", "float16", "wide", "pointwise", "3x3", "depthwise", "layer")
    assert len(kernels(lines)) == 14
    assert all("WIDE=True" in line for line in lines if "WIDE" in line)


@pytest.mark.slow
@pytest.mark.parametrize("products", ["exact", "tf32"])
def test_float32_compiles_for_ampere_and_uses_tensor_cores_only_if_asked(products: str, tmp_path: Path) -> None:
    lines = compiled(tmp_path, "80", "float32", products, "pointwise")
    dots = [line for line in lines if line.startswith(("tile_products", "filter_gradient", "products"))]
    assert len(dots) == 4
    assert all(("mma.sync" in line) == (products == "tf32") for line in dots)
