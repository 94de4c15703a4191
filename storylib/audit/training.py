"""Training as both systems publish it: one model, batches of two windows, a constant learning rate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LEARNING_RATE, BATCH = 1e-4, 2


def train(
    loss_of: Callable[[Tensor], Tensor], optimiser: torch.optim.Optimizer, windows: Tensor, epochs: int, seed: int
) -> list[float]:
    """The mean loss of each epoch. loss_of: the loss of a batch of windows. windows: (W, K + 1) frames."""
    losses = []
    for epoch in range(epochs):
        batches = shuffled(windows, seed, epoch).split(BATCH)
        total = 0.0
        for batch in batches:
            loss = loss_of(batch)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item()
        losses.append(total / len(batches))
    return losses


def shuffled(windows: Tensor, seed: int, epoch: int = 0) -> Tensor:
    """The windows in the order of an epoch."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return windows[torch.randperm(len(windows), generator=generator)]
