"""Find the compiled kernels beside the package, or in the user's cache, compiled once; open them with ctypes.

Nothing happens at import. The outcome of the first look, good or bad, is kept for the life of the process.
"""

import ctypes
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch

from drconv.errors import BackendError
from drconv.kernels.cache import cache_directories
from drconv.kernels.native.build import ISAS, LIBRARY, NoKernelsError, compile_kernels, find_compiler, key

__all__ = ["ISAS", "Conv", "Layer", "Library", "Parameters", "forget", "is_open", "load", "why_not"]

_ABI = 6
_SOURCES = Path(__file__).parent


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
            "score_batch_stride", "score_region_stride", "score_position_stride",
            "threads", "bfloat16",
        )
    )  # fmt: skip


class Layer(ctypes.Structure):
    """`drconv_layer` of drconv_native.h."""

    _fields_ = (
        ("conv", Conv),
        ("guide", Conv),
        ("scores_given", ctypes.c_int64),
        ("output_channels_last", ctypes.c_int64),
        ("generator", ctypes.c_int64),
        ("mixed", ctypes.c_int64),
    )


class Parameters(ctypes.Structure):
    """`drconv_parameters` of drconv_native.h."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                "guide_weight", "guide_bias", "routing_weight", "routing_bias", "made_weight", "made_bias", "packed",
                "bias",
            )
        ),
        ("activation", ctypes.c_int64),
    )  # fmt: skip


_POINTER, _INT = ctypes.c_void_p, ctypes.c_int64
_SIGNATURES = {
    "argmax": (_INT, _POINTER, _INT, _INT, _INT, _INT, _INT, _INT, _INT, _POINTER),
    "forward": (_INT, *(_POINTER,) * 6, _INT, _POINTER, _POINTER, _INT),
    "input_gradient": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "filter_gradient": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "products": (_INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT),
    "forward_scratch": (_INT, _POINTER),
    "input_gradient_scratch": (_INT, _POINTER),
    "filter_gradient_scratch": (_INT, _POINTER),
    "products_scratch": (_INT, _POINTER),
    "infer": (_INT, *(_POINTER,) * 11, _INT, _POINTER, _POINTER, _INT),
    "infer_scratch": (_INT, _POINTER),
    "pack": (_INT, _POINTER, _POINTER, _POINTER),
    "packed_size": (_INT, _POINTER),
    "abi": (),
    "conv_size": (),
    "layer_size": (),
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


def is_open(native: Library) -> bool:
    """Return whether these are the kernels that `load` returns."""
    return _found.get(None) is native


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
        shipped = _SOURCES / LIBRARY
        library = _open(shipped) if shipped.is_file() else _compiled()
    except NoKernelsError as reason:
        return str(reason)
    return _prepare(library, wanted)


def _open(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NoKernelsError(f"the compiled library cannot be opened ({error})") from error
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, f"drconv_{name}", None)
        if function is None:
            raise NoKernelsError(f"{path} has no function drconv_{name}; reinstall drconv")
        function.argtypes, function.restype = arguments, _INT
    sizes = (library.drconv_conv_size(), library.drconv_layer_size())
    if library.drconv_abi() != _ABI or sizes != (ctypes.sizeof(Conv), ctypes.sizeof(Layer)):
        raise NoKernelsError(f"{path} belongs to another version of drconv; reinstall drconv")
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
    # Torch's own first: another package, such as scikit-learn, may have brought one more.
    home = str(Path(torch.__file__).parent)
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
        raise NoKernelsError(
            "this installation ships no compiled kernels, and they are compiled on Linux and macOS only"
        )
    compiler, version = find_compiler()
    name = key(compiler, version)
    errors = []
    for cache_directory in cache_directories():
        path = cache_directory / name / LIBRARY
        if path.is_file():
            return _open(path)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache_directory) as build:
                compile_kernels(compiler, Path(build))
                # Of two processes at once the last one wins, with the same library; neither sees half a file.
                (Path(build) / LIBRARY).replace(path)
        except OSError as error:
            errors.append(str(error))
            continue
        return _open(path)
    try:
        # An open library needs its file no longer.
        with tempfile.TemporaryDirectory(prefix="drconv-") as build:
            compile_kernels(compiler, Path(build))
            return _open(Path(build) / LIBRARY)
    except OSError as error:
        raise NoKernelsError(f"there is no place to compile them in ({'; '.join([*errors, str(error)])})") from error
