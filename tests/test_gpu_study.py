"""The GPU study, rehearsed in Triton's interpreter: every check passes, every bar is measured by some part."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "studies" / "gpu"


def study(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(STUDY), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT.parent, timeout=280)


def test_the_table_of_the_docs_is_that_of_the_results() -> None:
    done = study("--show")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    page = (ROOT / "docs" / "gpu.md").read_text()
    shown = [line for line in page[page.index(table[0]) :].splitlines() if line.startswith("|")]
    assert shown == table


def of_study(code: str) -> str:
    """Return what a piece of code writes that sees the study's own modules."""
    paths = f"import sys\nsys.path[:0] = [{str(STUDY)!r}, {str(ROOT)!r}]\n"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    for name in ("CUDA_HOME", "CUDA_PATH"):
        environment.pop(name, None)
    command = [sys.executable, "-c", paths + code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_networks_are_measured_with_whole_layers_in_one_call() -> None:
    told = of_study(
        "import torch, networks\n"
        "from findings import Findings\n"
        "from place import Place\n"
        "from drconv.kernels.triton import launch\n"
        "launched, start = set(), launch.start\n"
        "launch.start = lambda kernel, *rest: (launched.add(kernel.__name__), start(kernel, *rest))\n"
        "networks.eager_networks(Place(torch.device('cpu'), True, 1), Findings({}, True))\n"
        "print(*sorted(launched))\n"
    )
    assert told.splitlines()[-1].split() == ["_guide_kernel", "_mixed_kernel", "_place_kernel", "_pool_kernel"]


def test_no_toolkit_is_needed_to_compile_what_the_released_code_does() -> None:
    # What PyTorch asks for when it compiles a kernel.
    of_study(
        "import released\n"
        "from torch.utils import cpp_extension\n"
        "cpp_extension.CUDA_HOME = None\n"
        "with released.headers_not_needed():\n"
        "    assert cpp_extension.include_paths('cuda')\n"
        "assert cpp_extension.CUDA_HOME is None\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_rehearsal(tmp_path: Path) -> None:
    output = tmp_path / "gpu.json"
    done = study("--interpret", "--output", output)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    parts: dict[str, Any] = json.loads(output.read_text())
    measured = {bar for part in parts.values() for bar in part["rows"]}
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(lines) == len(measured), "every bar has a part that measures it"
    assert all("| not yet measured | |" in line for line in lines), "nothing from the interpreter is shown as a number"
    assert all(value == 0 for part in parts.values() for row in part["rows"].values() for value in row.values())
    assert sum(len(part["checks"]) for part in parts.values()) > 120
    skipped = [entry["what"] for part in parts.values() for entry in part["skipped"]]
    assert skipped == ["the second device", "compute-sanitizer"]
    refused = study("--only", "peaks", "--output", output)
    assert refused.returncode != 0
    assert "other kind" in refused.stderr or "no CUDA device" in refused.stderr


def test_a_failure_is_told_and_kept(tmp_path: Path) -> None:
    done = study("--interpret", "--only", "nothing", "--output", tmp_path / "gpu.json")
    assert done.returncode != 0
    assert "no such part: nothing; there are: checks, settings" in done.stderr


def test_the_table_holds_numbers_against_bars_and_prefers_tuned_ones(tmp_path: Path) -> None:
    where = {"device_name": "Some GPU", "driver": "1", "torch": "2", "triton": "3", "date": "today"}
    part: dict[str, Any] = {"environment": where, "seconds": 4.0, "failure": None, "rehearsal": False, "details": {}}
    part |= {"checks": [], "skipped": [], "rows": {}}
    found = {
        "forward, tuned": part | {"rows": {"forward bfloat16": {"a": 1.1, "b": 1.29}}},
        "forward": part | {"rows": {"forward bfloat16": {"a": 1.5, "b": 1.2}, "forward tf32": {"a": 1.2, "b": 1.31}}},
        "naive": part | {"rows": {"naive": {"a": 4.9, "b": 9}}, "failure": "RuntimeError: no more memory"},
        "checks": part | {"checks": [{"name": "one", "passed": True}, {"name": "two", "passed": False}]},
        "maps": part | {"rows": {"maps": {"a": 0.0}}, "rehearsal": True},
    }
    output = tmp_path / "gpu.json"
    output.write_text(json.dumps(found))
    told = study("--show", "--output", output).stdout
    assert "bfloat16 | <= 1.3 | <= 1.1 | 1.10-1.29 | met |" in told
    assert "float32, tf32 | <= 1.3 | <= 1.1 | 1.20-1.31 | **missed** |" in told
    assert "| naive over ours, forward, bfloat16 | >= 5 | >= 8 | 4.90-9.00 | **missed** |" in told
    assert (
        "| random over smooth regions, forward, channels_last, bfloat16 | <= 1.15 | <= 1.05 | not yet measured | |"
        in told
    )
    assert "1 of 2 checks passed; failed: two." in told
    assert "naive: Some GPU, driver 1, torch 2, triton 3, today, failed: RuntimeError: no more memory." in told
