"""The gallery of the docs: its page is what its list says, its commands exist, its pictures are small."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image
from typer.main import get_command

from drconv_cli.main import app

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "images" / "gallery"


def test_the_page_is_what_its_list_of_entries_makes() -> None:
    done = subprocess.run([sys.executable, ROOT / "studies" / "gallery", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_have_options_that_exist() -> None:
    commands = re.findall(r"^\$ drconv (.*)", PAGE.read_text(), flags=re.MULTILINE)
    assert {shlex.split(line)[0] for line in commands} == {"visualize", "compare", "profile", "flops"}
    for line in commands:
        name, *arguments = shlex.split(line)
        parsed = get_command(app).commands[name].make_context(name, list(arguments), resilient_parsing=True)
        assert not parsed.args, f"{line}: {parsed.args} is left over"


def test_every_picture_is_shown_and_small() -> None:
    shown = set(re.findall(r"\]\(images/gallery/([^)]+)\)", PAGE.read_text()))
    files = {path.name: path for path in PICTURES.iterdir()}
    assert shown == {name for name in files if not name.endswith(".txt")}
    assert sum(path.stat().st_size for path in files.values()) < 3_000_000
    for name in shown:
        with Image.open(files[name]) as image:
            assert min(image.size) > 300, name


def test_every_picture_says_what_it_shows() -> None:
    assert all(len(alt) > 10 for alt in re.findall(r"!\[(.*)\]\(", PAGE.read_text()))
    assert "not semantic segments" in PAGE.read_text()
