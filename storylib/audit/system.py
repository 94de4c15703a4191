"""What both published systems share: one model trained in batches of two windows at a constant learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from storylib.audit.data import AuditData
from storylib.data.types import Window

LEARNING_RATE, BATCH = 1e-4, 2


class System(ABC):
    """A published system under one protocol: trained, then scored. Windows are (B, K + 1) frames, the target last.

    As a function of windows of ``data.stories`` it is a predictor for ``storylib.audit.checks.check``.
    """

    optimiser: torch.optim.Optimizer
    train_windows: Tensor
    epochs: int
    scored_batches: int  # of training windows, under the published protocol

    def __init__(self, data: AuditData, protocol: Any, seed: int, text_form: str) -> None:
        self.data, self.protocol, self.seed = data, protocol, seed
        self.texts, self.text_vectors = data.texts(text_form)  # (F,), (F, Dt)

    @abstractmethod
    def loss(self, windows: Tensor) -> Tensor: ...

    @abstractmethod
    def write(self, windows: Tensor) -> list[str]: ...

    @abstractmethod
    def target_texts(self, windows: Tensor) -> list[str]: ...

    def text_frames(self, windows: Tensor) -> Tensor:
        """(B, keys) frames whose texts it reads."""
        return windows[:, :-1]

    def fit(self) -> None:
        """Train as published."""
        self.losses: list[float] = []  # the mean of each epoch
        for epoch in range(self.epochs):
            batches = self.shuffled(self.train_windows, epoch).split(BATCH)
            total = 0.0
            for batch in batches:
                loss = self.loss(batch)
                self.optimiser.zero_grad()
                loss.backward()
                self.optimiser.step()
                total += loss.item()
            self.losses.append(total / len(batches))

    def scored_windows(self) -> Tensor:
        if self.protocol.scored_on.startswith("held-out"):
            return self.data.held_windows
        return self.shuffled(self.train_windows)[: self.scored_batches * BATCH]

    def shuffled(self, windows: Tensor, epoch: int = 0) -> Tensor:
        """The windows in the order of an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + epoch)
        return windows[torch.randperm(len(windows), generator=generator)]

    def __call__(self, windows: Sequence[Window]) -> list[str]:
        return self.write(self.data.frames_of(windows))

    def targets(self, windows: Sequence[Window]) -> list[str]:
        return self.target_texts(self.data.frames_of(windows))

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        """The texts that it reads."""
        frames = self.text_frames(self.data.frames_of(windows))
        return [[self.texts[frame] for frame in row] for row in frames.tolist()]
