"""The checks under compute-sanitizer, which sees reads and writes beyond memory, and races."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from findings import Findings
from place import Place

__all__ = ["sanitize"]

_SECONDS = 250
_FOUND = 77


def sanitize(place: Place, found: Findings) -> None:
    """Run the small checks under memcheck and racecheck, each in a process of its own."""
    if place.is_rehearsal:
        found.skip("compute-sanitizer", "it watches a GPU, and a rehearsal has none")
        return
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if tool is None:
        found.skip("compute-sanitizer", "it is not installed")
        return
    # Without the cache every tensor has memory of its own, so that what is beyond one is nobody's.
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for kind in ("memcheck", "racecheck"):
        command = [
            tool, "--tool", kind, "--error-exitcode", str(_FOUND),
            sys.executable, str(Path(__file__).parent), "--only", "small checks",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            found.skip(f"compute-sanitizer {kind}", f"it was not done after {_SECONDS} s")
            continue
        told = (done.stdout + done.stderr).strip().splitlines()
        if done.returncode not in (0, _FOUND):
            found.skip(f"compute-sanitizer {kind}", f"it ended with {done.returncode}: {' / '.join(told[-3:])}")
            continue
        found.details[kind] = [line for line in told if line.startswith("=========")][-20:]
        found.check(f"compute-sanitizer {kind}", float(done.returncode), 0)
