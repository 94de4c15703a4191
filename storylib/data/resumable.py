"""Training of a network that is then frozen, step by step: resumed where it was killed, with the same result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from storylib.data.store import replace_atomically

EVERY = 50  # steps between two checkpoints


def optimise(
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[int], Tensor],
    steps: int,
    rate: float,
    warmup: int,
    checkpoint: Path,
    title: str,
) -> None:
    """AdamW with a linear warm-up and a cosine to zero, gradients clipped at length 1.

    loss_of: the loss of a step, whose random draws depend on its number alone. checkpoint: a file that is there only
    while the training is unfinished.
    """
    optimizer = torch.optim.AdamW(parameters, rate, weight_decay=0.0)
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=parameters[0].device, weights_only=True)
        done = saved["step"]
        optimizer.load_state_dict(saved["optimizer"])
        with torch.no_grad():
            for parameter, value in zip(parameters, saved["parameters"], strict=True):
                parameter.copy_(value)
    with tqdm(total=steps, initial=done, desc=title, unit="step", mininterval=2) as bar:
        for step in range(done, steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = loss_of(step)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            bar.update()
            bar.set_postfix_str(f"loss {loss.item():.3f}")
            if (step + 1) % EVERY == 0 and step + 1 < steps:
                state = {"step": step + 1, "optimizer": optimizer.state_dict(), "parameters": list(parameters)}
                replace_atomically(checkpoint, partial(torch.save, state))
    checkpoint.unlink(missing_ok=True)
