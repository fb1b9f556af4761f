"""The wheel for one platform: the kernels are inside, and run where there is no compiler."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.kernels.native.compilers import quick_compiler

ROOT = Path(__file__).parents[1]
RUN = """
import torch, drconv
from drconv.kernels.native import library
x, filters, guide = torch.ones(1, 4, 6, 6), torch.ones(1, 2, 4, 4, 1, 1), torch.zeros(1, 2, 6, 6)
print(float(drconv.region_conv2d(x, filters, guide, backend="native").sum()), drconv.__file__, library.why_not())
"""
BUILD = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"


def build(to: Path, **variables: str) -> Path:
    unset = {"DRCONV_BUILD_NATIVE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | variables
    command = [sys.executable, "-c", BUILD, str(to)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True)
    return to / done.stdout.split()[-1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="compiled on POSIX systems only")
def test_platform_wheel_ships_kernels_that_run_without_a_compiler(tmp_path: Path) -> None:
    wheel = build(tmp_path, DRCONV_BUILD_NATIVE="1", CXX=str(quick_compiler(tmp_path / "quick")))
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "drconv/kernels/native/libdrconv_native.so" in archive.namelist()
        archive.extractall(tmp_path / "site")
    bare = {"PATH": str(tmp_path), "CXX": "/nowhere/c++", "DRCONV_CACHE": str(tmp_path / "cache")}
    environment = {**os.environ, **bare, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["576.0", str(tmp_path / "site" / "drconv" / "__init__.py"), "None"]
    assert not (tmp_path / "cache").exists(), "nothing was compiled"


def test_any_other_wheel_is_for_every_platform_and_has_the_sources(tmp_path: Path) -> None:
    wheel = build(tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "drconv/kernels/native/libdrconv_native.so" not in names
    assert {f"drconv/kernels/native/{name}" for name in ("kernels.cpp", "dispatch.cpp", "tiles.h")} <= set(names)
    assert "drconv/models/weights/drconv_shufflenet_v2_demo.safetensors" in names
    assets = ROOT / "drconv" / "viz" / "page" / "assets"
    assert {str(path.relative_to(ROOT)) for path in assets.iterdir()} <= set(names)
    assert {path.suffix for path in assets.iterdir()} == {".html", ".css", ".js"}
