import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.fresh import Fresh

# Figures and tables must not depend on who runs the tests.
os.environ.setdefault("COLUMNS", "200")


def _import_kernels_for_the_interpreter() -> None:
    """Without a GPU, Triton's interpreter runs its kernels, and must be asked for before Triton is first imported.

    Afterwards the environment is as it was: whoever does not ask for the interpreter sees a machine without a GPU.
    """
    if torch.cuda.is_available() or find_spec("triton") is None:
        return
    assert "triton" not in sys.modules, "something has imported Triton before its interpreter could be asked for"
    before = os.environ.get("TRITON_INTERPRET")
    os.environ["TRITON_INTERPRET"] = "1"
    import drconv.kernels.triton.convolution  # noqa: F401

    if before is None:
        del os.environ["TRITON_INTERPRET"]
    else:
        os.environ["TRITON_INTERPRET"] = before


_import_kernels_for_the_interpreter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def poisoned_empty() -> Iterator[None]:
    """Fill what `torch.empty` returns with NaN, so that an output that is not written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Run the command line in this process, as the console script does."""
    from drconv_cli.main import main

    def run(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["drconv", *map(str, args)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def fresh() -> Iterator[Fresh]:
    """What starts processes whose imports are done."""
    server = Fresh()
    yield server
    server.close()


@pytest.fixture(scope="session")
def photo() -> Path:
    """A real photo, 512 x 600."""
    import matplotlib.cbook

    return Path(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
