from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Where the kernels run: on the GPU if there is one, else on the CPU in Triton's interpreter."""
    if torch.cuda.is_available():
        yield torch.device("cuda")
        return
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    yield torch.device("cpu")
