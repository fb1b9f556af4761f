"""Find the compiled kernels beside the package, or compile them once into the user's cache; open them with ctypes.

Nothing happens at import. The outcome of the first look, good or bad, is kept for the life of the process.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch

from drconv.errors import BackendError

__all__ = ["ISAS", "Conv", "Library", "forget", "load", "why_not"]

ISAS = {"portable": 0, "avx2": 1, "avx512": 2}
"""Instruction sets by name, as numbered in drconv_native.h; the last one that the CPU has is taken."""

_ABI = 2
_SOURCES = Path(__file__).parent
_NAME = "libdrconv_native.so"
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


class Conv(ctypes.Structure):
    """`drconv_conv` of drconv_native.h."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
            "batch", "in_channels", "out_channels", "groups", "regions",
            "height", "width", "out_height", "out_width",
            "kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w",
            "channels_last",
            "input_batch_stride", "input_channel_stride", "input_pixel_stride",
            "shared", "filter_batch_stride", "filter_region_stride",
            "filter_out_stride", "filter_in_stride", "filter_tap_stride",
            "threads",
        )
    )  # fmt: skip


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES = {
    "argmax": (_INT, _POINTER, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _POINTER),
    "forward": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER, _INT),
    "input_gradient": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "filter_gradient": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "products": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "forward_scratch": (_INT, _POINTER),
    "input_gradient_scratch": (_INT, _POINTER),
    "filter_gradient_scratch": (_INT, _POINTER),
    "products_scratch": (_INT, _POINTER),
    "abi": (),
    "conv_size": (),
    "has_isa": (_INT,),
}


@dataclass(frozen=True, eq=False)
class Library:
    """The kernels, opened.

    Attributes:
        functions: by their name without `drconv_`.
        isa: the instruction set that calls name.
        isa_name: the same as users write it.
        has_threads: whether the process has an OpenMP runtime to share.
        pid: the process that opened it; threads do not survive a fork.
    """

    functions: Mapping[str, "ctypes._NamedFuncPointer"]
    isa: int
    isa_name: str
    has_threads: bool
    pid: int

    def threads(self) -> int:
        """Return how many threads a call may use.

        Raises:
            BackendError: more than one, in a forked child, where starting them would hang.
        """
        threads = torch.get_num_threads() if self.has_threads else 1
        if threads > 1 and os.getpid() != self.pid:
            raise BackendError(
                f"backend 'native' cannot use {threads} threads in a process forked after its first use (OpenMP would "
                "hang); call torch.set_num_threads(1) in the child, or start it with the 'spawn' method"
            )
        return threads


_lock = Lock()


def load() -> Library:
    """Return the kernels, compiled if need be.

    Raises:
        BackendError: there are none; the message says why.
    """
    found = _outcome()
    if isinstance(found, str):
        raise BackendError(f"backend 'native' cannot run: {found}")
    return found


def why_not() -> str | None:
    """Return the reason why there are no kernels, or None if there are.

    Raises:
        BackendError: the environment asks for an instruction set that cannot be had.
    """
    found = _outcome()
    return found if isinstance(found, str) else None


_found: dict[None, Library | str] = {}


def _outcome() -> Library | str:
    found = _found.get(None)
    if found is None:
        with _lock:
            found = _found.get(None)
            if found is None:
                found = _found[None] = _look()
    return found


def forget() -> None:
    """Look again at the next use, as a new process would."""
    with _lock:
        _found.clear()


def _look() -> Library | str:
    """Open the shipped library, else the compiled one; a string is the reason why neither works."""
    wanted = os.environ.get("DRCONV_NATIVE_ISA")
    if wanted is not None and wanted not in ISAS:
        raise BackendError(f"DRCONV_NATIVE_ISA must be one of {', '.join(ISAS)}, got {wanted!r}")
    try:
        shipped = _SOURCES / _NAME
        library = _open(shipped) if shipped.is_file() else _compiled()
    except _NoKernelsError as reason:
        return str(reason)
    return _prepare(library, wanted)


class _NoKernelsError(Exception):
    """The kernels cannot be had; the message is the reason."""


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise _NoKernelsError(f"the compiled library cannot be opened ({error})") from error
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, f"drconv_{name}", None)
        if function is None:
            raise _NoKernelsError(f"{path} has no function drconv_{name}; reinstall drconv")
        function.argtypes, function.restype = arguments, _INT
    if library.drconv_abi() != _ABI or library.drconv_conv_size() != ctypes.sizeof(Conv):
        raise _NoKernelsError(f"{path} belongs to another version of drconv; reinstall drconv")
    return library


def _prepare(library: ctypes.CDLL, wanted: str | None) -> Library:
    able = [name for name, isa in ISAS.items() if library.drconv_has_isa(isa)]
    if wanted is not None and wanted not in able:
        raise BackendError(f"DRCONV_NATIVE_ISA={wanted} cannot run here; this CPU and library can: {', '.join(able)}")
    runtime = _openmp_of_process()
    library.drconv_set_parallel.argtypes, library.drconv_set_parallel.restype = (_POINTER,) * 3, None
    library.drconv_set_parallel(*(runtime or (None,) * 3))
    name = wanted or able[-1]
    functions = {function: getattr(library, f"drconv_{function}") for function in _SIGNATURES}
    return Library(functions, ISAS[name], name, runtime is not None, os.getpid())


def _openmp_of_process() -> list[int | None] | None:
    """Return the functions of the OpenMP runtime that torch has loaded; LLVM's and Intel's have GNU's entry point too.

    Linking against one instead could bring a second pool of threads into the process.
    """
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return None
    paths = {line.split(maxsplit=5)[-1].strip() for line in maps.read_text(errors="replace").splitlines()}
    runtimes = [path for path in sorted(paths) if Path(path).name.startswith(("libgomp", "libomp", "libiomp"))]
    # Torch's own first: another package may have brought one more.
    home = str(Path(torch.__file__).parent.parent)
    for path in sorted(runtimes, key=lambda path: not path.startswith(home)):
        try:
            runtime = ctypes.CDLL(path)
            functions = [
                getattr(runtime, name) for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
            ]
        except (OSError, AttributeError):
            continue
        return [ctypes.cast(function, _POINTER).value for function in functions]
    return None


def _compiled() -> ctypes.CDLL:
    """Open the library in the user's cache, compiling it first if it is not there."""
    if sys.platform == "win32":
        raise _NoKernelsError(
            "this installation ships no compiled kernels, and they are compiled on Linux and macOS only"
        )
    compiler, version = _compiler()
    name = _key(compiler, version)
    errors = []
    for cache_directory in _cache_directories():
        path = cache_directory / name / _NAME
        if path.is_file():
            return _open(path)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache_directory) as build:
                _compile(compiler, Path(build))
                # Of two processes at once the last one wins, with the same library; neither sees half a file.
                (Path(build) / _NAME).replace(path)
        except OSError as error:
            errors.append(str(error))
            continue
        return _open(path)
    try:
        # An open library needs its file no longer.
        with tempfile.TemporaryDirectory(prefix="drconv-") as build:
            _compile(compiler, Path(build))
            return _open(Path(build) / _NAME)
    except OSError as error:
        raise _NoKernelsError(f"there is no place to compile them in ({'; '.join([*errors, str(error)])})") from error


def _compiler() -> tuple[list[str], str]:
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
    raise _NoKernelsError(f"this installation ships no compiled kernels and there is no C++ compiler (tried {tried})")


def _isas() -> list[str]:
    return list(ISAS) if platform.machine().lower() in ("x86_64", "amd64") else ["portable"]


def _sources() -> list[Path]:
    return sorted(path for path in _SOURCES.iterdir() if path.suffix in (".cpp", ".h"))


def _key(compiler: list[str], version: str) -> str:
    """Return a name that changes with anything that could change the library."""
    digest = hashlib.sha256()
    parts = [platform.machine(), *compiler, version, *_FLAGS, *_LINK_FLAGS, str(_ISA_FLAGS)]
    for part in [*parts, *(path.name + "\0" + path.read_text() for path in _sources())]:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:32]


def _cache_directories() -> Iterator[Path]:
    """Yield the directory for compiled libraries if it is, or can be made, private and writable."""
    given = os.environ.get("DRCONV_CACHE")
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = Path(given) if given else home / "drconv"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
    except (OSError, RuntimeError):
        return
    # What lies there will be run: nobody else may have put it there.
    others_may_write = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    if status.st_uid == os.geteuid() and not others_may_write:
        yield directory


def _compile(compiler: list[str], build: Path) -> None:
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
        command = [*compiler, *_LINK_FLAGS, *objects, "-o", str(build / _NAME)]
        linked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT)
        _check(compiler, linked.returncode, linked.stderr)
    except subprocess.TimeoutExpired as error:
        raise _NoKernelsError(f"{compiler[0]} took more than {_TIMEOUT} s to compile them") from error
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _check(compiler: list[str], code: int, said: str) -> None:
    if code != 0:
        lines = [line for line in said.splitlines() if "error" in line.lower()] or said.splitlines()
        raise _NoKernelsError(f"{compiler[0]} could not compile them: {lines[0].strip() if lines else f'exit {code}'}")
