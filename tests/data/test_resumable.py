"""A training of few parameters by hand: its rates, and a kill survived exactly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from storylib.data import resumable
from storylib.data.resumable import optimise


def test_the_rate_warms_up_then_falls_to_zero(tmp_path):
    """With a constant gradient, Adam moves by the rate: here of length 1, so that clipping changes nothing."""
    weight, places = nn.Parameter(torch.zeros(())), []

    def loss_of(step):
        places.append(-weight.item())
        return weight.clone()

    optimise([weight], loss_of, 10, 0.1, 4, tmp_path / "checkpoint", "a test")
    moves = [after - before for before, after in zip(places, [*places[1:], -weight.item()], strict=True)]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert moves == pytest.approx([min(1, (step + 1) / 4) * rate for step, rate in enumerate(cosine)], rel=1e-3)


def test_long_gradients_are_clipped_together():
    """Two weights with gradients 3 and 4 get 0.6 and 0.8, whatever the factor."""
    weights = [nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))]
    gradients = []
    for weight in weights:
        weight.register_post_accumulate_grad_hook(lambda weight: gradients.append(weight.grad))

    def loss_of(step):
        return 100 * (3 * weights[0] + 4 * weights[1])

    optimise(weights, loss_of, 1, 0.1, 1, Path("never written"), "a test")
    assert sorted(gradient.item() for gradient in gradients) == pytest.approx([0.6, 0.8], rel=1e-4)


def trained(checkpoint, steps=9, killed_at=None):
    """The weights after a training on random numbers, and the steps that were made."""
    torch.manual_seed(0)
    network, made = nn.Linear(4, 3), []

    def loss_of(step):
        if step == killed_at:
            raise KeyboardInterrupt
        made.append(step)
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (network(inputs) - inputs[:, :3]).square().mean()

    optimise(list(network.parameters()), loss_of, steps, 0.05, 3, checkpoint, "a test")
    return [parameter.detach() for parameter in network.parameters()], made


@pytest.mark.parametrize("killed_at", [1, 4, 8])
def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(tmp_path, monkeypatch, killed_at):
    whole, made = trained(tmp_path / "whole")
    assert made == list(range(9))
    monkeypatch.setattr(resumable, "EVERY", 2)
    checkpoint = tmp_path / "new folder" / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        trained(checkpoint, killed_at=killed_at)
    assert checkpoint.exists() == (killed_at > 1)
    resumed, made = trained(checkpoint)
    assert made == list(range(killed_at // 2 * 2, 9))
    assert all(torch.equal(one, two) for one, two in zip(whole, resumed, strict=True))
    assert not checkpoint.exists()
