"""C++ compilers that take less time than the real one, for tests of what is done around them."""

import shlex
from pathlib import Path

from drconv.kernels.native import library
from drconv.kernels.native.build import find_compiler

__all__ = ["quick_compiler", "ready_compiler", "times_linked"]


def quick_compiler(path: Path) -> Path:
    """Write a program that compiles without optimising: of several `-O` the last one counts."""
    command, _ = find_compiler()
    return _program(path, f'exec {shlex.join(command)} "$@" -O0')


def ready_compiler(path: Path, together: int = 1) -> Path:
    """Write a program that says that it compiles, and whose library is the one that this process has open.

    Args:
        path: where; files beside it count how often it linked.
        together: how many must link before any of them gets the library, so that they do so at once.
    """
    ready = library._compiled()._name
    return _program(
        path,
        '[ "$1" = --version ] && echo ready && exit',
        "for output; do :; done",  # the last argument
        'case "$output" in *.so) ;; *) echo > "$output"; exit;; esac',
        f'echo > "{path}.linked.$$"',
        f'until [ "$(ls "{path.parent}" | grep -c "{path.name}.linked")" -ge {together} ]; do sleep 0.05; done',
        f'cp "{ready}" "$output"',
    )


def times_linked(compiler: Path) -> int:
    """Return how often a `ready_compiler` has linked."""
    return len(list(compiler.parent.glob(f"{compiler.name}.linked.*")))


def _program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path
