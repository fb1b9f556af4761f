"""Run the compiled kernels as on another processor."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drconv.errors import BackendError
from drconv.kernels.native import library


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Make the kernels of an instruction set the ones that are called; skip the test if this CPU has not got it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRCONV_NATIVE_ISA", name)
        library.forget()
        try:
            library.load()
        except BackendError as error:
            library.forget()
            if "cannot run here" not in str(error):
                raise
            pytest.skip(str(error))
        yield
    library.forget()
