"""Where tensors are computed, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from storylib.config import ConfigError


def pick_device(name: str = "auto") -> str:
    """The device to run on. Raises ConfigError if it was requested by name and is not available."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name, False):
        raise ConfigError(
            f"device={name!r} was requested, but this machine has none that torch {torch.__version__} can use. "
            "Use device='cpu' or 'auto', or install a torch build for your accelerator."
        )
    return name


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run with this many CPU threads: sums in another order give other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)
