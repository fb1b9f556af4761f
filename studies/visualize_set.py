"""Measure `drconv visualize` on a folder of 1,000 images: its memory from image to image, and its rate.

The images are crops of the sample photos of matplotlib and scikit-learn, 640x480 JPEGs. The rate is held against loops
that only load the same images in the same way and run the same model on them, batch 1: with fused calls, as the model
runs by itself, and stage by stage, as recorded layers must run. Every sample is a fresh process, the kinds take turns,
and the rate is that from the tenth to the last image.

Run from the repository root on a quiet machine: `python studies/visualize_set.py`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import matplotlib.cbook
import torch
from matplotlib.figure import Figure
from PIL import Image

from drconv import create_model, fused_inference
from drconv.analysis import environment
from drconv.models import calibrate_batch_norm
from drconv.viz import load_image

MODEL = "drconv_shufflenet_v2_x0_5"
KINDS = {
    "load": "loading alone",
    "fused": "loading and forward passes",
    "staged": "loading and forward passes stage by stage",
    "default": "`drconv visualize`",
    "full": "`drconv visualize --statistics full`",
}
SKIPPED = 10
RESULTS, FIGURE = Path("studies/results/visualize_set.json"), Path("docs/images/visualize-memory.png")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure, print the Markdown table, and write results and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2, help="of all kinds but full, which is measured once")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], Path(options.child[1]))), file=sys.__stdout__)
        return
    samples: dict[str, list[list[tuple[float, int]]]] = {kind: [] for kind in KINDS}
    with TemporaryDirectory() as folder:
        make_images(Path(folder), options.images)
        for turn in range(options.rounds):
            for kind in KINDS:
                if kind != "full" or turn == 0:
                    samples[kind].append(run(kind, folder))
    seconds = {kind: [each(sample) for sample in taken] for kind, taken in samples.items()}
    memory = [rss for _, rss in samples["default"][0]]
    found = {
        "images": options.images,
        "model": MODEL,
        "seconds_per_image": {kind: median(taken) for kind, taken in seconds.items()},
        "seconds_per_image_all": seconds,
        "ratio_to_fused": median(a / b for a, b in zip(seconds["default"], seconds["fused"], strict=True)),
        "ratio_to_staged": median(a / b for a, b in zip(seconds["default"], seconds["staged"], strict=True)),
        "rss_after_100": memory[len(memory) // 10],
        "rss_at_end": memory[-1],
        "rss_most": max(memory),
        "rss": memory[:: max(1, len(memory) // 100)],
        "environment": environment("cpu"),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw({kind: [rss for _, rss in samples[kind][0]] for kind in ("fused", "default", "full")})
    print("| | ms an image | images a second | to loading and forward passes |\n|---|---:|---:|---:|")
    for kind, words in KINDS.items():
        taken = median(seconds[kind])
        ratio = median(a / b for a, b in zip(seconds[kind], seconds["fused"], strict=False))
        print(f"| {words} | {1e3 * taken:.1f} | {1 / taken:.0f} | {ratio:.2f}x |")
    mib = 2**20
    print(f"\nResident memory after a tenth of the images {found['rss_after_100'] / mib:.0f} MiB, at the end "
          f"{found['rss_at_end'] / mib:.0f} MiB. {found['ratio_to_staged']:.2f} times stage by stage.")  # fmt: skip


def make_images(folder: Path, count: int) -> None:
    """Write crops of three photos, of seeded places, sizes, mirrorings and qualities."""
    # Not above, because the processes that are measured do not need it.
    from sklearn.datasets import load_sample_image

    draw_from = random.Random(0)
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        photos = [image.convert("RGB"), *(Image.fromarray(load_sample_image(f"{n}.jpg")) for n in ("china", "flower"))]
    for index in range(count):
        photo = draw_from.choice(photos)
        height = draw_from.uniform(0.4, 0.95) * min(photo.height, photo.width * 3 / 4)
        width = height * 4 / 3
        left, top = draw_from.uniform(0, photo.width - width), draw_from.uniform(0, photo.height - height)
        crop = photo.resize((640, 480), Image.Resampling.BICUBIC, (left, top, left + width, top + height))
        if draw_from.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.save(folder / f"{index:05}.jpg", quality=draw_from.randint(75, 95))


def run(kind: str, folder: str) -> list[tuple[float, int]]:
    """Measure in a fresh process; return after each image the time and the resident memory."""
    command = [sys.executable, __file__, "--child", kind, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{kind} failed: {done.stderr}")
    found: list[tuple[float, int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def each(sample: list[tuple[float, int]]) -> float:
    """Return the seconds that an image takes once all is warm."""
    skipped = min(SKIPPED, len(sample) - 2)
    return (sample[-1][0] - sample[skipped][0]) / (len(sample) - 1 - skipped)


def measure(kind: str, folder: Path) -> list[tuple[float, int]]:
    """Go through the images in this process, and return after each the time and the resident memory."""
    found: list[tuple[float, int]] = []

    def note() -> None:
        found.append((perf_counter(), int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE))

    if kind in ("default", "full"):
        visualize(folder, kind, note)
        return found
    torch.manual_seed(0)
    model = create_model(MODEL).eval()
    images = sorted(folder.iterdir())
    with torch.inference_mode(), fused_inference(kind == "fused"):
        calibrate_batch_norm(model, load_image(images[0], 224).tensor)
        for path in images:
            image = load_image(path, 224)
            if kind != "load":
                model(image.tensor)
            note()
    return found


def visualize(folder: Path, statistics: str, note: Any) -> None:
    """Run the command, with a note taken as each image is counted."""
    from drconv.analysis import RegionUsage
    from drconv_cli.main import main as drconv

    add = RegionUsage.add

    def noted(*arguments: Any) -> None:
        add(*arguments)
        note()

    RegionUsage.add = noted  # type: ignore[method-assign]
    with TemporaryDirectory() as output:
        sys.argv = ["drconv", "visualize", str(folder), "-m", MODEL, "-o", output, "--statistics", statistics]
        try:
            drconv()
        except SystemExit as stop:
            if stop.code:
                raise


def draw(memory: dict[str, list[int]]) -> None:
    """Draw resident memory over images."""
    figure = Figure(figsize=(6.4, 3.2), dpi=120, layout="constrained")
    ax = figure.add_subplot()
    for kind, taken in memory.items():
        ax.plot(range(1, len(taken) + 1), [rss / 2**20 for rss in taken], label=KINDS[kind].replace("`", ""))
    ax.set(xlabel="images", ylabel="resident memory, MiB", ylim=(0, None), xlim=(0, None))
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right")
    figure.savefig(FIGURE)


if __name__ == "__main__":
    main()
