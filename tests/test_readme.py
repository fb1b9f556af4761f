"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_prints_what_stands_below_it() -> None:
    (source,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == blocks("text")[0]


def test_the_flops_table_is_the_commands_output() -> None:
    done = subprocess.run([sys.executable, "-m", "drconv_cli", "flops"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if re.search("^(layer|stage4.3.branch2.0|total)", line)]
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
