"""The table of docs/models.md is what the models count, and what was published."""

import re
from pathlib import Path

import pytest
import torch

from drconv import count_flops, create_model, list_models
from drconv.analysis import count_released
from drconv.models import default_input_size

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
TABLES = PAGE.partition("<!-- table: studies/model_table.py -->")[2].partition("<!-- end of table -->")[0]
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in TABLES.splitlines()
    if (cells := [cell.strip() for cell in line.strip("|").split("|")])[0].startswith("`")
}
GENERATORS = ("pooled", "basis", "learned")


def counted(name: str, **keywords: str) -> str:
    # Without weights, by the counter that the test of the three counts holds against fvcore.
    with torch.device("meta"):
        report = count_flops(create_model(name, **keywords), default_input_size(name), engine="dispatch")
    return f"{report.madds / 1e6:,.2f} / {report.params / 1e6:.2f}"


def cell(text: str) -> str:
    return re.sub(r" \(.*?\)", "", text)


def test_every_model_is_in_the_table() -> None:
    rows = set(ROWS)
    assert rows == {name for name in list_models() if not name.startswith(("drconv_", "dyconv_"))} | {
        name for name in list_models() if name.endswith("_released")
    }


@pytest.mark.parametrize("name", [name for name, cells in ROWS.items() if len(cells) == 6])
def test_row(name: str) -> None:
    _, plain, *drconv, dyconv = ROWS[name]
    assert plain == counted(name)
    assert [cell(x) for x in drconv] == [counted(f"drconv_{name}", filter_generator=g) for g in GENERATORS]
    assert cell(dyconv) == counted(f"dyconv_{name}")


@pytest.mark.parametrize("name", [name for name, cells in ROWS.items() if len(cells) == 6 and cells[0]])
def test_published(name: str) -> None:
    """Within one unit of the last digit: some figures are rounded to the nearest, some up, some down."""
    published, plain, *_ = ROWS[name]
    for wanted, found in zip(published.split(" / "), plain.split(" / "), strict=True):
        low, high = (wanted.replace(",", "").split("-") * 2)[:2]
        unit = 10.0 ** -len(low.partition(".")[2])
        assert float(low) - unit <= float(found.replace(",", "")) <= float(high) + unit + 1e-9


@pytest.mark.parametrize("name", [name for name, cells in ROWS.items() if len(cells) == 2])
def test_released(name: str) -> None:
    plain, released = ROWS[name]
    assert plain == counted(name)
    if "x0_5" in name:
        assert released == f"{count_released(create_model(name)).madds / 1e6:,.2f}"
