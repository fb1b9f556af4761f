"""Draw every picture of docs/gallery.md and write the page: `python studies/gallery`, from the repository root.

Needs the extra `dev` and, for pictures of the interactive page, a Chromium that is installed. `--only WORD...` draws
the sections whose titles have one of the words: times, which are best taken alone on a machine at rest, with
`--only Times`. `--page` only writes the page again; `--check` says whether it is as this would write it.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import fill

from entries import CAVEAT, ENTRIES, WEIGHTS, Entry, Shot

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "gallery.md"
PICTURES = ROOT / "docs" / "images" / "gallery"

COLUMNS, WIDTH = 110, 120
MOST_BYTES = 3_000_000


def main() -> None:
    """Draw, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", nargs="+")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    if asked.check:
        sys.exit(None if PAGE.read_text() == page() else f"{PAGE} is not as its list of entries: run {sys.argv[0]}")
    if not asked.page:
        draw([entry for entry in ENTRIES if asked.only is None or has_word(entry.title, asked.only)])
    PAGE.write_text(page())


def has_word(title: str, words: list[str]) -> bool:
    """Tell whether a title has one of the words, whole, in any case."""
    return not {word.lower() for word in words}.isdisjoint(re.findall(r"\w+", title.lower()))


def draw(entries: list[Entry]) -> None:
    """Run the commands in a folder of their own, and make small pictures of what they write."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        missing = []
        done: dict[str, str] = {}
        for entry in entries:
            for command in entry.commands:
                if command not in done:
                    print(f"$ {command}", flush=True)
                    done[command] = run(command, folder)
            if entry.output:
                (PICTURES / entry.output).write_text(done[entry.commands[-1]])
            pages = [shot for shot in entry.shots if shot.source.endswith(".html")]
            for shot in entry.shots:
                if shot not in pages:
                    keep(shot, folder, done[entry.commands[-1]])
            missing += shoot_pages(pages, folder)
    if missing:
        print(f"not drawn, and left as they were: {', '.join(missing)}")
    total = sum(path.stat().st_size for path in PICTURES.iterdir())
    print(f"{total / 1e6:.2f} MB in {PICTURES.relative_to(ROOT)}")
    if total > MOST_BYTES:
        sys.exit(f"that is more than {MOST_BYTES / 1e6:.0f} MB")


def prepare(folder: Path) -> None:
    """Write the photos, the clip, the labels and the checkpoints that the commands name."""
    from photos import make_checkpoints, make_inputs

    make_inputs(folder)
    make_checkpoints(folder)


def run(command: str, folder: Path) -> str:
    """Run one command as in a terminal of many colours; return what it printed, previews included."""
    program, *arguments = shlex.split(command)
    if program == "drconv":
        arguments = ["-m", "drconv_cli", *arguments]
    terminal = {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS),
                "LINES": "40"} if "--preview" in arguments else {}  # fmt: skip
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, check=False,
                          env={**os.environ, "PYTHONPATH": path, **terminal})  # fmt: skip
    if done.returncode:
        sys.exit(f"{command}\nended with {done.returncode}:\n{done.stderr.decode()}")
    # The preview goes to stderr, because stdout carries data.
    return (done.stderr if terminal else done.stdout).decode()


def keep(shot: Shot, folder: Path, output: str) -> None:
    """Write a picture that a command drew or printed, made small."""
    from PIL import Image
    from terminal import draw_terminal, printed

    if shot.source == "terminal":
        write(draw_terminal(printed(output), COLUMNS, shot.view), shot)
    elif shot.name.endswith(".gif"):
        shutil.copy(folder / shot.source, PICTURES / shot.name)
    else:
        with Image.open(folder / shot.source) as image:
            write(image.convert("RGB"), shot)


def shoot_pages(shots: list[Shot], folder: Path) -> list[str]:
    """Write pictures of pages; return the names of those for which there is no browser."""
    from browser import NoBrowserError, open_browser, shoot

    if not shots:
        return []
    try:
        with open_browser() as browser:
            for shot in shots:
                write(shoot(browser, folder / shot.source, shot.view), shot)
    except NoBrowserError as error:
        print(error)
        return [shot.name for shot in shots]
    return []


def write(image: "Image.Image", shot: Shot) -> None:  # noqa: F821 - Pillow is loaded only where pictures are made
    """Write a picture no wider than it should be."""
    from PIL import Image

    if image.width > shot.width:
        size = (shot.width, round(image.height * shot.width / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.save(PICTURES / shot.name, quality=82, method=6)


def page() -> str:
    """Return docs/gallery.md."""
    parts = [
        "# Gallery",
        fill(
            "Every kind of picture that the commands draw, each with the command that made it. They use "
            "[photos in the public domain](#the-photos); `python studies/gallery` in a clone draws all of them again "
            "and writes this page. A command that stands in two sections need run only once.",
            WIDTH,
        ),
        fill(f"{CAVEAT} {WEIGHTS}", WIDTH),
    ]
    for entry in ENTRIES:
        parts += [f"## {entry.title}", "```console\n" + "\n".join(f"$ {line}" for line in entry.commands) + "\n```"]
        if entry.output:
            parts[-1] = parts[-1].removesuffix("```") + (PICTURES / entry.output).read_text() + "```"
        parts += [f"![{shot.alt}](images/gallery/{shot.name})" for shot in entry.shots]
        parts.append(fill(entry.text, WIDTH))
    parts += [
        "## The photos",
        fill(
            "The cat, the astronaut, the cup and the rocket come with scikit-image (`skimage.data`), Grace Hopper with "
            "matplotlib; all are in the public domain or CC0. `python studies/gallery/photos.py FOLDER` writes them, "
            "the clip, the labels and the two checkpoints into a folder in which the commands run.",
            WIDTH,
        ),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
