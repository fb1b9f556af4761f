"""Every Python example in docs/ runs, and prints what stands below it; links lead somewhere, and pages are found."""

import re
from pathlib import Path

import pytest

import drconv
from tests import zoo
from tests.fresh import Fresh

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
ZOO = re.compile(r"^import (timm|torchvision)$", flags=re.MULTILINE)
EXAMPLES = [
    pytest.param(
        source,
        printed,
        id=f"{page.relative_to(DOCS)}-{number}",
        marks=pytest.mark.slow if ZOO.search(source) else (),
    )
    for page in sorted(DOCS.rglob("*.md"))
    for number, (source, printed) in enumerate(BLOCK.findall(page.read_text()), 1)
]


@pytest.mark.parametrize(("source", "printed"), EXAMPLES)
def test_example(source: str, printed: str, fresh: Fresh) -> None:
    for package in ZOO.findall(source):
        zoo.need(package)
        # As `need` does: torchvision may have been built for another torch.
        source = f"from drconv.models.collection import COLLECTIONS\nCOLLECTIONS[{package!r}]._load()\n{source}"
    stdout = fresh.start(source, cwd=DOCS.parent).finish()
    shown = [comment.strip() for comment in re.findall(r"print\(.*\) +# (.*)", source)]
    shown += [line.removeprefix("# ") for line in re.findall(r"^# .*(?=\n|$)", source, flags=re.MULTILINE)]
    if printed:
        assert stdout == printed
    elif shown:
        assert sorted(stdout.splitlines()) == sorted(shown)


def without_code(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_links_lead_somewhere(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", without_code(page)):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_the_index_leads_to_every_page() -> None:
    listed = {
        DOCS / link for link in re.findall(r"^\| \[[^]]*\]\(([^)]*)\)", (DOCS / "index.md").read_text(), re.MULTILINE)
    }
    assert listed == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


def test_every_public_name_is_explained() -> None:
    table = (DOCS / "names.md").read_text().partition("## Errors")[0]
    firsts = re.findall(r"^\| (`[^|]*) \|", table, flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(firsts))) == sorted(drconv.__all__)
