"""Every Python example in docs/ runs, and prints what stands below it."""

import re
from pathlib import Path

import pytest

from tests.fresh import Fresh

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", flags=re.DOTALL)
EXAMPLES = [
    pytest.param(source, printed, id=f"{page.relative_to(DOCS)}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, (source, printed) in enumerate(BLOCK.findall(page.read_text()), 1)
]


@pytest.mark.parametrize(("source", "printed"), EXAMPLES)
def test_example(source: str, printed: str, fresh: Fresh) -> None:
    stdout = fresh.start(source, cwd=DOCS.parent).finish()
    shown = [comment.strip() for comment in re.findall(r"print\(.*\) +# (.*)", source)]
    shown += [line.removeprefix("# ") for line in re.findall(r"^# .*(?=\n|$)", source, flags=re.MULTILINE)]
    if printed:
        assert stdout == printed
    elif shown:
        assert sorted(stdout.splitlines()) == sorted(shown)


def test_links_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"
