"""Several processes learn what one learns from the same batches."""

from pathlib import Path

import pytest
import torch

from tests.fresh import Fresh


def test_two_processes_match_one(tmp_path: Path, fresh: Fresh) -> None:
    """To 1e-5 relative over the first 10 steps, in float64: gradients, weights, and the counts of validation."""
    found = []
    for count, name in ((1, "one"), (2, "two")):
        fresh.team(count, "tests.training.ddp_steps", tmp_path / name)
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
