"""What the README shows is what happens."""

import re
from pathlib import Path

from tests.fresh import Fresh

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_prints_what_stands_below_it(fresh: Fresh) -> None:
    (source,) = blocks("python")
    assert fresh.start(source).finish() == blocks("text")[0]


def test_the_flops_table_is_the_commands_output(fresh: Fresh) -> None:
    table = fresh.module("drconv_cli", "flops").finish()
    lines = [line for line in table.splitlines() if re.search("^(layer|stage4.3.branch2.0|total)", line)]
    assert "\n".join(lines) + "\n" == blocks("text")[1]


def test_make_targets_and_files_that_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
    for link in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / link).is_file(), link


def test_ci_runs_the_same_commands() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make lint" in script
    assert "make test" in script
