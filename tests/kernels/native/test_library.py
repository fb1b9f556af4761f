"""Where the compiled library comes from, and what happens when it cannot be had; in processes of their own."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from drconv.errors import BackendError
from drconv.kernels import BACKENDS
from drconv.kernels.native import library
from tests.kernels.test_choice import PROBLEM

ROOT = Path(__file__).parents[3]
RUN = """
import torch
from drconv import region_conv2d
x, filters, guide = torch.ones(1, 4, 6, 6), torch.ones(1, 2, 4, 4, 1, 1), torch.zeros(1, 2, 6, 6)
print(float(region_conv2d(x, filters, guide, backend="native").sum()))
"""
WHY_NOT = """
from drconv.kernels import why_not
from tests.kernels.test_choice import PROBLEM
print(why_not(PROBLEM)["native"])
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="compiled on POSIX systems only")


def start(code: str, **variables: str) -> subprocess.Popen[str]:
    unset = ("DRCONV_NATIVE_ISA", "DRCONV_CACHE", "XDG_CACHE_HOME", "CXX")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    arguments = [sys.executable, "-c", code]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, **variables: str) -> str:
    out, err = start(code, **variables).communicate(timeout=300)
    assert err == ""
    return out.strip()


def test_import_looks_for_nothing(tmp_path: Path) -> None:
    code = "import drconv.layers; from drconv.kernels.native.library import _found; print(len(_found))"
    assert run(code, DRCONV_CACHE=str(tmp_path / "cache"), CXX="/nowhere/c++") == "0"
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_two_processes_at_once_on_an_empty_cache(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [start(RUN, DRCONV_CACHE=str(cache)) for _ in range(2)]
    outcomes = [process.communicate(timeout=300) for process in processes]
    assert outcomes == [("576.0\n", "")] * 2
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (directory,) = cache.iterdir()
    assert [path.name for path in directory.iterdir()] == ["libdrconv_native.so"], "nothing half made is left"
    written = next(directory.iterdir()).stat().st_mtime_ns
    assert run(RUN, DRCONV_CACHE=str(cache)) == "576.0"
    assert next(directory.iterdir()).stat().st_mtime_ns == written, "compiled once"


@pytest.mark.slow
def test_home_that_cannot_be_written_to(tmp_path: Path) -> None:
    # A file in the way stops also the superuser, whom permissions do not.
    (tmp_path / "file").touch()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert run(RUN, XDG_CACHE_HOME=str(tmp_path / "file"), TMPDIR=str(scratch)) == "576.0"
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_cache_that_others_may_write_to_is_not_trusted(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    assert run(RUN, DRCONV_CACHE=str(cache)) == "576.0"
    assert list(cache.iterdir()) == []


def test_no_compiler_is_a_reason_and_eager_runs(tmp_path: Path) -> None:
    variables = {"DRCONV_CACHE": str(tmp_path), "PATH": str(tmp_path)}
    reason = "this installation ships no compiled kernels and there is no C++ compiler (tried c++, g++, clang++)"
    assert run(WHY_NOT, **variables) == reason
    assert run(WHY_NOT, **variables, CXX="no-such-c++").endswith("(tried CXX=no-such-c++)")
    assert run(RUN.replace('"native"', "None"), **variables) == "576.0"
    out, err = start(RUN, **variables).communicate()
    assert out == ""
    assert err.splitlines()[-1] == (
        f"drconv.errors.BackendError: backend 'native' cannot run this call: {reason}; able to: eager, naive, reference"
    )
    env = subprocess.run(
        [sys.executable, "-m", "drconv_cli", "env"],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"backend +native +cannot run: .* no C\+\+ compiler", env.stdout)


def test_compiler_that_fails_is_a_reason(tmp_path: Path) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "fatal error: no space" >&2\nexit 1\n')
    broken.chmod(0o755)
    found = run(WHY_NOT, DRCONV_CACHE=str(tmp_path / "cache"), CXX=str(broken))
    assert found == f"{broken} could not compile them: fatal error: no space"


def test_outcome_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    BACKENDS["native"].why_not(PROBLEM)
    monkeypatch.setattr(library, "_compiled", lambda: pytest.fail("looked twice"))
    BACKENDS["native"].why_not(PROBLEM)


@pytest.mark.parametrize(
    ("value", "message"),
    [("avx9", "must be one of portable, avx2, avx512, got 'avx9'"), ("", "got ''")],
)
def test_unknown_instruction_set_is_an_error(value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRCONV_NATIVE_ISA", value)
    library.forget()
    with pytest.raises(BackendError, match=message):
        BACKENDS["native"].why_not(PROBLEM)
    library.forget()


def test_an_instruction_set_that_this_cpu_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRCONV_NATIVE_ISA", "avx512")
    found = library._compiled()
    monkeypatch.setattr(found, "drconv_has_isa", lambda isa: isa == 0)
    with pytest.raises(BackendError, match="DRCONV_NATIVE_ISA=avx512 cannot run here; this CPU and library can: port"):
        library._prepare(found, "avx512")


RUNTIMES = """
import re
import {first}
from pathlib import Path
import torch
from drconv.kernels.native import library
native = library.load()
lines = Path("/proc/self/maps").read_text().splitlines()
loaded = {{line.split()[-1] for line in lines if re.search(r"lib(g|i|)omp", line)}}
home = str(Path(torch.__file__).parent.parent)
addresses = library._openmp_of_process()
ranges = [(*(int(x, 16) for x in line.split()[0].split("-")), line.split()[-1]) for line in lines]
owners = {{path for low, high, path in ranges for address in addresses if low <= address < high}}
print(len(loaded), len(owners), *(path.startswith(home + "/torch") for path in owners), native.has_threads)
"""


def test_one_openmp_runtime_and_it_is_torchs() -> None:
    assert run(RUNTIMES.format(first="torch")) == "1 1 True True"


def test_torchs_openmp_runtime_is_taken_where_another_package_has_brought_one_first() -> None:
    # scikit-learn comes with one of its own.
    loaded, *rest = run(RUNTIMES.format(first="sklearn.metrics")).split()
    assert int(loaded) > 1
    assert rest == ["1", "True", "True"]
