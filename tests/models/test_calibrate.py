"""Batch-normalisation statistics for untrained networks."""

import pytest
import torch
from torch import nn

from drconv.models import calibrate_batch_norm, create_model, has_fresh_batch_norm


def test_running_statistics_become_those_of_the_input_and_its_mirror_image() -> None:
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(1, 3, 6, 5) * 4 + 2
    assert calibrate_batch_norm(nn.Sequential(norm), x) == 1
    torch.testing.assert_close(norm.running_mean, x.mean((0, 2, 3)))
    both = torch.cat((x, x.flip(-1)))
    torch.testing.assert_close(norm.running_var, both.var((0, 2, 3)))


def test_modes_momenta_and_weights_are_kept() -> None:
    model = create_model("drconv_shufflenet_v2_x0_5").eval()
    model.stage2.train()
    weights = [p.clone() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    count = calibrate_batch_norm(model, torch.randn(1, 3, 32, 32))  # the last maps are 1x1
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert count == len(norms)
    assert all(norm.momentum == 0.1 and norm.running_var.isfinite().all() for norm in norms)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_a_model_without_batch_norm_is_not_run() -> None:
    assert calibrate_batch_norm(nn.Conv2d(3, 4, 1), torch.randn(1, 99, 2, 2)) == 0


def test_statistics_survive_a_failure() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(9, 9, 1))
    model[0].running_mean.fill_(5)
    with pytest.raises(RuntimeError):
        calibrate_batch_norm(model, torch.randn(1, 3, 4, 4))
    assert (model[0].running_mean == 5).all()
    assert model.training


def test_fresh_means_that_no_statistics_were_ever_taken() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    assert has_fresh_batch_norm(model)
    model[0](torch.randn(2, 3, 4, 4))
    assert not has_fresh_batch_norm(model)
    assert not has_fresh_batch_norm(nn.Conv2d(3, 3, 1))
