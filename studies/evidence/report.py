"""Print the tables of docs/evidence.md from the results, and draw its plots into docs/images/evidence/."""

from plots import draw
from results import lines
from tables import all_tables


def main() -> None:
    """Print all tables and draw all plots."""
    results = {line["key"]: line for line in lines()}
    print(f"{len(results)} runs, {sum(r['seconds'] for r in results.values()) / 3600:.1f} hours of one core")
    for title, rows in all_tables(results).items():
        print(f"\n## {title}\n")
        print("\n".join(rows))
    draw(results)


if __name__ == "__main__":
    main()
