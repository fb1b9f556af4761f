"""Where the compiled library comes from, and what happens when it cannot be had."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drconv.errors import BackendError
from drconv.kernels import BACKENDS, why_not
from drconv.kernels.native import library
from tests.conftest import Outcome
from tests.fresh import Fresh, Running
from tests.kernels.native.compilers import quick_compiler, ready_compiler, times_linked
from tests.kernels.test_choice import PROBLEM

ROOT = Path(__file__).parents[3]
RUN = """
import torch
from drconv import region_conv2d
x, filters, guide = torch.ones(1, 4, 6, 6), torch.ones(1, 2, 4, 4, 1, 1), torch.zeros(1, 2, 6, 6)
print(float(region_conv2d(x, filters, guide, backend="native").sum()))
"""
VARIABLES = ("DRCONV_NATIVE_ISA", "DRCONV_CACHE", "XDG_CACHE_HOME", "CXX")
"""Those that say where a library comes from."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="compiled on POSIX systems only")


def run(code: str, **variables: str) -> str:
    """Run code with imports of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    return done.stdout.strip()


def start(fresh: Fresh, code: str, **variables: str) -> Running:
    return fresh.start(code, without=VARIABLES, **variables)


def test_import_looks_for_nothing(tmp_path: Path) -> None:
    code = "import drconv.layers; from drconv.kernels.native.library import _found; print(len(_found))"
    assert run(code, DRCONV_CACHE=str(tmp_path / "cache"), CXX="/nowhere/c++") == "0"
    assert not (tmp_path / "cache").exists()


def test_two_processes_at_once_on_an_empty_cache(tmp_path: Path, fresh: Fresh) -> None:
    cache = tmp_path / "cache"
    compiler = ready_compiler(tmp_path / "c++", together=2)
    processes = [start(fresh, RUN, DRCONV_CACHE=str(cache), CXX=str(compiler)) for _ in range(2)]
    outcomes = [process.communicate() for process in processes]
    assert outcomes == [("576.0\n", "")] * 2
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    (directory,) = cache.iterdir()
    assert [path.name for path in directory.iterdir()] == ["libdrconv_native.so"], "nothing half made is left"
    written = next(directory.iterdir()).stat().st_mtime_ns
    third = start(fresh, RUN, DRCONV_CACHE=str(cache), CXX=str(compiler))
    assert third.communicate() == ("576.0\n", "")
    assert next(directory.iterdir()).stat().st_mtime_ns == written
    assert times_linked(compiler) == 2, "what is in the cache is taken"


@pytest.mark.slow
def test_home_that_cannot_be_written_to(tmp_path: Path, fresh: Fresh) -> None:
    """Compiled for real, if without optimising: no library but the one that is made here can be opened."""
    # A file in the way stops also the superuser, whom permissions do not.
    (tmp_path / "file").touch()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    compiler = quick_compiler(tmp_path / "c++")
    variables = {"XDG_CACHE_HOME": str(tmp_path / "file"), "TMPDIR": str(scratch), "CXX": str(compiler)}
    assert start(fresh, RUN, **variables).communicate() == ("576.0\n", "")
    assert list(scratch.iterdir()) == []


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Set variables of the environment, and look again as a new process would; afterwards all is as before."""

    def look(**variables: str) -> None:
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        library.forget()

    yield look
    monkeypatch.undo()
    library.forget()


def test_cache_that_others_may_write_to_is_not_trusted(tmp_path: Path, anew: Callable[..., None]) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    compiler = ready_compiler(tmp_path / "c++")
    anew(DRCONV_CACHE=str(cache), CXX=str(compiler))
    assert library.load().functions["abi"]() > 0
    assert list(cache.iterdir()) == []
    assert times_linked(compiler) == 1, "made elsewhere"


def test_no_compiler_is_a_reason_and_eager_runs(
    tmp_path: Path, anew: Callable[..., None], run_cli: Callable[..., Outcome], fresh: Fresh
) -> None:
    variables = {"DRCONV_CACHE": str(tmp_path), "PATH": str(tmp_path)}
    anew(**variables, CXX="no-such-c++")
    assert why_not(PROBLEM)["native"].endswith("(tried CXX=no-such-c++)")
    anew(**variables)
    reason = "this installation ships no compiled kernels and there is no C++ compiler (tried c++, g++, clang++)"
    assert why_not(PROBLEM)["native"] == reason
    assert re.search(r"backend +native +cannot run: .* no C\+\+ compiler", run_cli("env").out)
    out, err = start(fresh, RUN.replace('"native"', "None") + RUN, **variables).communicate()
    assert out == "576.0\n"
    assert err.splitlines()[-1] == (
        f"drconv.errors.BackendError: backend 'native' cannot run this call: {reason}; able to: eager, naive, reference"
    )


def test_compiler_that_fails_is_a_reason(tmp_path: Path, anew: Callable[..., None]) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "fatal error: no space" >&2\nexit 1\n')
    broken.chmod(0o755)
    anew(DRCONV_CACHE=str(tmp_path / "cache"), CXX=str(broken))
    assert why_not(PROBLEM)["native"] == f"{broken} could not compile them: fatal error: no space"


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
from tests.kernels.native.compilers import quick_compiler, ready_compiler, times_linked
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
