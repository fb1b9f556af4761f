"""Tables of names."""

import pytest

from drconv.errors import ArgumentError, UnknownNameError
from drconv.registry import Registry
from drconv.report import Column, Table


def test_duplicates_are_errors() -> None:
    table: Registry[int] = Registry("number")
    assert table.add("one", 1) == 1
    with pytest.raises(ArgumentError, match="number 'one' is registered twice"):
        table.add("one", 2)
    assert dict(table) == {"one": 1}


def test_unknown_names_offer_near_ones_or_all() -> None:
    table: Registry[int] = Registry("number")
    for i, name in enumerate(("three", "seven")):
        table.add(name, i)
    with pytest.raises(UnknownNameError, match=r"unknown number 'thre'; did you mean three\?"):
        table["thre"]
    with pytest.raises(UnknownNameError, match="unknown number 'x'; known: three, seven"):
        table["x"]
    for i in range(20):
        table.add(f"n{i:02}", i)
    with pytest.raises(UnknownNameError, match=r"\.\.\. \(22 in all\)"):
        table["x"]


def test_a_table_checks_the_length_of_its_rows() -> None:
    with pytest.raises(ArgumentError, match="a row of 'T' has 1 cells for 2 columns"):
        Table("T", (Column("a"), Column("b")), (("x",),))
