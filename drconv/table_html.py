"""A `Table` as HTML for notebooks, built as a tree so that every text is escaped."""

from xml.etree.ElementTree import Element, SubElement, tostring

from drconv.report import Cell, Kind, Table

__all__ = ["table_element", "table_html"]


def table_html(table: Table) -> str:
    """Return a table with its title and notes as a fragment of HTML."""
    root = Element("div")
    root.append(table_element(table))
    for note in table.notes:
        SubElement(root, "p", {"style": "margin: 0"}).text = note
    return tostring(root, encoding="unicode", method="html")


def table_element(table: Table) -> Element:
    """Return a table with its title as an element."""
    root = Element("table")
    SubElement(root, "caption").text = table.title
    head = SubElement(SubElement(root, "thead"), "tr")
    for column in table.columns:
        SubElement(head, "th", {"scope": "col"}).text = column.name
    body = SubElement(root, "tbody")
    for cells in table.rows:
        row = SubElement(body, "tr")
        for column, cell in zip(table.columns, cells, strict=True):
            side = "left" if column.kind == "text" else "right"
            SubElement(row, "td", {"style": f"text-align: {side}"}).text = _text(cell, column.kind)
    return root


def _text(cell: Cell, kind: Kind) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if kind == "share":
        return f"{cell:z.1%}"
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:z.3g}"
