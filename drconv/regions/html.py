"""What a notebook shows of an image's regions: the picture, the table, one sentence per layer."""

from base64 import b64encode
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from drconv.analysis import RegionStatistics
from drconv.table_html import table_element

__all__ = ["regions_html"]

_CAVEAT = "Regions are routing, not semantic segments. Their numbers and colours are arbitrary."


def regions_html(png: bytes, title: str, statistics: RegionStatistics, notes: Sequence[str]) -> str:
    """Return a fragment of HTML that needs nothing from outside; texts are escaped by the tree that holds them.

    Args:
        png: the picture.
        title: of the picture; its alternative text begins with it.
        statistics: rows of the table.
        notes: lines below it.
    """
    root = Element("div")
    verdicts = [layer.verdict for layer in statistics.layers]
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    SubElement(root, "img", {"src": source, "alt": " ".join([title, *verdicts]), "style": "max-width: 100%"})
    root.append(table_element(statistics.to_table()))
    for line in [*verdicts, *notes, _CAVEAT]:
        SubElement(root, "p", {"style": "margin: 0"}).text = line
    return tostring(root, encoding="unicode", method="html")
