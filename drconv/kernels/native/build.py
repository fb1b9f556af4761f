"""Compile the kernels: which compiler, which flags, into which file.

The standard library alone, and nothing of this package: wheels are built with it where PyTorch is not installed.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

__all__ = ["ISAS", "LIBRARY", "NoKernelsError", "compile_kernels", "find_compiler", "key"]

ISAS = {"portable": 0, "avx2": 1, "avx512": 2}
"""Instruction sets by name, as numbered in drconv_native.h; the last one that the CPU has is taken."""

LIBRARY = "libdrconv_native.so"
"""Name of the compiled library's file."""

_SOURCES = Path(__file__).parent
_COMPILERS = ("c++", "g++", "clang++")
_TIMEOUT = 300
"""Seconds that a compiler may take; it needs about ten."""

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fno-exceptions", "-fno-rtti", "-ffp-contract=fast", "-fvisibility=hidden")
_LINK_FLAGS = ("-shared", "-fPIC")
_ISA_FLAGS = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mavx2", "-mfma"),
}


class NoKernelsError(Exception):
    """The kernels cannot be had; the message is the reason."""


def find_compiler() -> tuple[list[str], str]:
    """Return the command of a C++ compiler, and what it says about itself."""
    given = os.environ.get("CXX")
    names = [given] if given else list(_COMPILERS)
    for name in names:
        command = shlex.split(name)
        program = shutil.which(command[0]) if command else None
        if program is None:
            continue
        try:
            version = subprocess.run(
                [program, *command[1:], "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return [program, *command[1:]], version.stdout
    tried = f"CXX={given}" if given else ", ".join(_COMPILERS)
    raise NoKernelsError(f"this installation ships no compiled kernels and there is no C++ compiler (tried {tried})")


def _isas() -> list[str]:
    return list(ISAS) if platform.machine().lower() in ("x86_64", "amd64") else ["portable"]


def _sources() -> list[Path]:
    return sorted(path for path in _SOURCES.iterdir() if path.suffix in (".cpp", ".h"))


def key(compiler: list[str], version: str) -> str:
    """Return a name that changes with anything that could change the library."""
    digest = hashlib.sha256()
    parts = [platform.machine(), *compiler, version, *_FLAGS, *_LINK_FLAGS, str(_ISA_FLAGS)]
    for part in [*parts, *(path.name + "\0" + path.read_text() for path in _sources())]:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def compile_kernels(compiler: list[str], build: Path) -> None:
    """Compile the kernels once per instruction set, side by side, and link them."""
    isas = _isas()
    having = [f"-DDRCONV_WITH_{isa.upper()}" for isa in isas if isa != "portable"]
    jobs = {f"{name}.o": (*_FLAGS, *having, "-c", str(_SOURCES / f"{name}.cpp")) for name in ("dispatch", "threads")}
    for isa in isas:
        table = f"-DDRCONV_TABLE=drconv_kernels_{isa}"
        jobs[f"{isa}.o"] = (*_FLAGS, *having, *_ISA_FLAGS[isa], table, "-c", str(_SOURCES / "kernels.cpp"))
    running = [
        subprocess.Popen(
            [*compiler, "-w", *arguments, "-o", str(build / name)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for name, arguments in jobs.items()
    ]  # fmt: skip
    try:
        for process in running:
            _, said = process.communicate(timeout=_TIMEOUT)
            _check(compiler, process.returncode, said)
        objects = [str(build / name) for name in jobs]
        command = [*compiler, *_LINK_FLAGS, *objects, "-o", str(build / LIBRARY)]
        linked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT)
        _check(compiler, linked.returncode, linked.stderr)
    except subprocess.TimeoutExpired as error:
        raise NoKernelsError(f"{compiler[0]} took more than {_TIMEOUT} s to compile them") from error
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _check(compiler: list[str], code: int, said: str) -> None:
    if code != 0:
        lines = [line for line in said.splitlines() if "error" in line.lower()] or said.splitlines()
        raise NoKernelsError(f"{compiler[0]} could not compile them: {lines[0].strip() if lines else f'exit {code}'}")
