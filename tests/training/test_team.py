"""Several processes learn what one learns from the same batches."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_two_processes_match_one(tmp_path: Path) -> None:
    """To 1e-5 relative over the first 10 steps, in float64: gradients, weights, and the counts of validation."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    found = []
    for name, launcher in (("one", []), ("two", launch)):
        command = [sys.executable, "-m", *launcher, "tests.training.ddp_steps", str(tmp_path / name)]
        subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        found.append(torch.load(tmp_path / name))
    one, two = found
    assert (one["count"], two["count"]) == (1, 2)
    assert len(one["gradients"]) == len(two["gradients"]) == 10
    pairs = [*zip(one["gradients"], two["gradients"], strict=True), (one["weights"], two["weights"])]
    for step, (ours, theirs) in enumerate(pairs):
        for name, tensor in ours.items():
            if tensor.is_floating_point():
                assert tensor.dtype == torch.float64
                assert (tensor - theirs[name]).norm() <= 1e-5 * tensor.norm(), (step, name)
    # It must have learned something: that everything stood still would pass, too.
    assert (one["gradients"][0]["0.weight"] - one["gradients"][9]["0.weight"]).norm() > 0
    for part in ("train", "validation"):
        counts = [{k: v for k, v in r["record"][part].items() if k != "loss"} for r in found]
        assert counts[0] == counts[1]
        assert one["record"][part]["loss"] == pytest.approx(two["record"][part]["loss"], rel=1e-9)
    assert one["record"]["regions"] == two["record"]["regions"]
