"""Time `drconv visualize` on a photo of 12 megapixels against `import torch` and one forward pass, and its memory.

The photo is matplotlib's grace_hopper.jpg, enlarged. Each sample is a fresh process, and the two kinds take turns; the
first of each is thrown away (it fills the disk cache and compiles bytecode). The yardstick is given in two ways: the
seconds that `import torch` and the model's first forward pass take inside their process, and that whole process from
its start to its end, which also builds the model. Where Triton is installed, PyTorch's counter of operations imports
it, which takes a third of a second; the results say whether it was.

Run from the repository root on a quiet machine: `python studies/visualize_photo.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import matplotlib.cbook
from PIL import Image

from drconv.analysis import environment

MODEL = "drconv_shufflenet_v2_x0_5"
SIZE = (3000, 4000)
RESULTS = Path("studies/results/visualize_photo.json")
YARDSTICK = f"""
import sys
from time import perf_counter
start = perf_counter()
import torch
imported = perf_counter()
from drconv import create_model
model = create_model({MODEL!r}).eval()
image = torch.randn(1, 3, 299, 224)
ready = perf_counter()
with torch.inference_mode():
    model(image)
print(imported - start, perf_counter() - ready, int('triton' in sys.modules))
"""


def main() -> None:
    """Measure, print the Markdown table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
            image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(photo, quality=90)
        drawing = ["-m", "drconv_cli", "visualize", str(photo), "-m", MODEL, "-o", f"{folder}/out", "--force"]
        runs = [(run(["-c", YARDSTICK]), run(drawing)) for _ in range(options.samples + 1)][1:]
    yardsticks, drawings = zip(*runs, strict=True)
    inside = [[float(number) for number in text.split()] for _, _, text in yardsticks]
    found = {
        "photo": f"{SIZE[0]}x{SIZE[1]} JPEG",
        "model": MODEL,
        "samples": options.samples,
        "import_torch": median(each[0] for each in inside),
        "forward": median(each[1] for each in inside),
        "yardstick": median(sum(each[:2]) for each in inside),
        "yardstick_process": median(seconds for seconds, _, _ in yardsticks),
        "yardstick_peak": int(median(peak for _, peak, _ in yardsticks)),
        "visualize_process": median(seconds for seconds, _, _ in drawings),
        "visualize_all": sorted(seconds for seconds, _, _ in drawings),
        "visualize_peak": int(median(peak for _, peak, _ in drawings)),
        "triton": bool(inside[0][2]),
        "environment": environment("cpu"),
    }
    found["ratio"] = found["visualize_process"] / found["yardstick"]
    found["ratio_to_process"] = found["visualize_process"] / found["yardstick_process"]
    options.output.write_text(json.dumps(found, indent=1) + "\n")
    mib = 2**20
    print("| | median | peak memory |\n|---|---:|---:|")
    print(f"| `import torch` and one forward pass, inside the process | {found['yardstick']:.2f} s | |")
    print(
        f"| that process, start to end | {found['yardstick_process']:.2f} s | {found['yardstick_peak'] / mib:.0f} MiB |"
    )
    print(
        f"| `drconv visualize photo.jpg`, start to end | {found['visualize_process']:.2f} s | "
        f"{found['visualize_peak'] / mib:.0f} MiB |"
    )
    print(f"\n{found['ratio']:.2f} times the first row, {found['ratio_to_process']:.2f} times the second.")


def run(arguments: list[str]) -> tuple[float, int, str]:
    """Run Python in a fresh process; return seconds from start to end, peak memory in bytes, and its output."""
    # As installed: bytecode is kept from one run to the next.
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with TemporaryDirectory() as folder:
        printed = Path(folder) / "stdout"
        with printed.open("w") as file:
            start = perf_counter()
            process = subprocess.Popen([sys.executable, *arguments], stdout=file, stderr=subprocess.DEVNULL,
                                       env=variables)  # fmt: skip
            _, status, used = os.wait4(process.pid, 0)
            seconds = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{arguments} failed with {process.returncode}")
        return seconds, used.ru_maxrss * 1024, printed.read_text()


if __name__ == "__main__":
    main()
