"""`drconv --help` and what it must not import."""

import json
import os
import subprocess
import sys
from time import perf_counter

import pytest

COMMANDS = [
    ["--help"],
    ["--version"],
    ["flops", "--help"],
    ["profile", "--help"],
    ["visualize", "--help"],
    ["train", "--help"],
    ["evaluate", "--help"],
    ["env", "-h"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_help_imports_no_torch_numpy_or_matplotlib(arguments: list[str]) -> None:
    code = (
        "import sys, json\n"
        "sys.argv = ['drconv', *json.loads(sys.argv[1])]\n"
        "from drconv_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'fvcore', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, json.dumps(arguments)], check=True, capture_output=True)


def test_usage_errors_import_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['drconv', 'flops', '--size', '0']\n"
        "from drconv_cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_help_takes_less_than_a_quarter_of_importing_torch() -> None:
    """The whole process against the whole process, interleaved, so that a busy machine hits both."""
    commands = {"help": ["-m", "drconv_cli", "--help"], "torch": ["-c", "import torch"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(2):
        for name, arguments in commands.items():
            start = perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times[name].append(perf_counter() - start)
    assert min(times["help"]) < min(times["torch"]) / 4


def test_the_module_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "drconv_cli", "flops", "nothing"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("drconv: error: unknown model 'nothing'")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m drconv_cli models | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_an_encoding_that_lacks_the_rules_of_tables() -> None:
    environment = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "drconv_cli", "models"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "-----" in done.stdout


@pytest.mark.parametrize(("redirect", "word"), [(">&-", "closed"), (">/dev/full", "No space left")])
def test_stdout_that_takes_nothing(redirect: str, word: str) -> None:
    command = f"{sys.executable} -m drconv_cli models {redirect}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert word in done.stderr
