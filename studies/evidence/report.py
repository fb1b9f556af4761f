"""Put the tables of the results into docs/evidence.md, where a comment names each, and draw its plots beside it.

A table that the page does not name is printed.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from plots import draw
from results import lines
from tables import all_tables

PAGE = Path(__file__).parent.parent.parent / "docs" / "evidence.md"


def with_tables(page: str, tables: Mapping[str, Sequence[str]]) -> str:
    """Return the page with every table between the comment that names it and the end of it."""

    def table(found: re.Match[str]) -> str:
        return "\n".join((found[1], "", *tables[found[2]], "", found[3]))

    return re.sub(r"(<!-- table: (.+?) -->)\n.*?(<!-- end of table -->)", table, page, flags=re.DOTALL)


def main() -> None:
    """Write the page's tables and plots."""
    results = {line["key"]: line for line in lines()}
    tables = all_tables(results)
    page = PAGE.read_text()
    PAGE.write_text(with_tables(page, tables))
    draw(results)
    print(f"{len(results)} runs, {sum(r['seconds'] for r in results.values()) / 3600:.1f} hours of one core")
    for title, rows in tables.items():
        if f"<!-- table: {title} -->" not in page:
            print(f"\n## {title}\n")
            print("\n".join(rows))


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
