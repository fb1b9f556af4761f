"""Which backend runs, and what a refusal says."""

from dataclasses import replace

import pytest
import torch

from drconv.errors import ArgumentError, BackendError, UnknownNameError
from drconv.kernels import BACKENDS, Backend, RegionConvProblem, choose_backend, why_not
from drconv.registry import Registry

PROBLEM = RegionConvProblem.of(
    torch.zeros(1, 4, 8, 8), torch.zeros(1, 2, 4, 4, 1, 1), (8, 8), (1, 1), (0, 0), (1, 1), 1
)


def test_automatic_choice_takes_the_first_able_automatic_one() -> None:
    assert choose_backend(PROBLEM).name == next(name for name, b in BACKENDS.items() if b.automatic)


def test_named_backend_is_taken_even_if_never_automatic() -> None:
    assert choose_backend(PROBLEM, "naive").name == "naive"


def test_unknown_name_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown backend 'eagre'; did you mean eager"):
        choose_backend(PROBLEM, "eagre")


def test_named_backend_that_objects_raises_with_its_reason() -> None:
    with pytest.raises(BackendError, match=r"'naive' cannot run this call: it takes float32.*not torch\.int32"):
        choose_backend(replace(PROBLEM, dtype=torch.int32), "naive")


def test_no_able_backend_gives_every_reason() -> None:
    with pytest.raises(BackendError, match=r"no backend can run this call: native: it takes.*; eager: it takes"):
        choose_backend(replace(PROBLEM, dtype=torch.int32))


def test_why_not_covers_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    table: Registry[Backend] = Registry("backend")
    table.add("gpu", Backend("gpu", "nowhere", ("cuda",), (torch.float32,), automatic=True))
    table.add("picky", Backend("picky", "nowhere", None, (torch.float32,), True, lambda p: f"{p.groups=}"))
    monkeypatch.setattr("drconv.kernels.BACKENDS", table)
    assert why_not(PROBLEM) == {"gpu": "it runs on cuda, not on cpu", "picky": "p.groups=1"}


def test_a_row_checks_itself() -> None:
    with pytest.raises(ArgumentError, match="identifier"):
        Backend("not a name", "nowhere", None, (torch.float32,), automatic=True)


def test_a_backend_is_loaded_on_first_use_only() -> None:
    row = Backend("lazy", "drconv.kernels.no_such_module", None, (torch.float32,), automatic=False)
    assert row.why_not(PROBLEM) is None
    with pytest.raises(ModuleNotFoundError):
        row.forward()
