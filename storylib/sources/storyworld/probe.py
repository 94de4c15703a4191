"""Reads off a picture what it shows: who is where, in which weather and colours.

A small network, trained on drawings of a world that no source returns (benchmarks/bundle.py), judges drawn pictures.
Its accuracy on true drawings that it has not seen says how far to trust it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from storylib.data.resumable import optimise
from storylib.data.windows import as_pixels
from storylib.sources.storyworld import world

WEIGHTS = Path(__file__).with_name("picture_probe.safetensors")
VALUES: dict[str, tuple[Any, ...]] = {
    "who": tuple(world.SPECIES),
    "with": (None, *world.SPECIES),
    "where": tuple(world.PLACES),
    "weather": (*world.FAIR, *world.FOUL),
    "time": tuple(world.TIMES),
    "garment": tuple(world.COLOURS),
}
CHANNELS = (24, 48, 128)
BATCH, SHIFT, RATE, WARMUP = 64, 3, 2e-3, 100


class PictureProbe(nn.Module):
    """(N, 3, 64, 64) pictures in 0..1 to the scores of the values of each attribute, by name."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        before = 12
        for i, width in enumerate(CHANNELS):
            layers += [
                nn.Conv2d(before, width, 3, stride=1 if i == 0 else 2, padding=1),
                nn.GroupNorm(8, width),
                nn.GELU(),
            ]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()]
            before = width
        self.network = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.heads = nn.ModuleDict({f"{name}_": nn.Linear(2 * before, len(v)) for name, v in VALUES.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        maps = self.network(2 * pictures - 1)
        pooled = self.dropout(torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], dim=1))
        return {name: self.heads[f"{name}_"](pooled) for name in VALUES}


def train_probe(
    thumbnails: np.ndarray, attributes: Sequence[Mapping[str, Any]], steps: int, checkpoint: Path
) -> PictureProbe:
    """Train on pictures (N, 64, 64, 3), each moved by a few pixels, and what is true of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        probe = PictureProbe().train()
    labels = {name: torch.tensor([v.index(scene[name]) for scene in attributes]) for name, v in VALUES.items()}

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng(step)
        torch.manual_seed(step)  # for dropout
        rows = rng.integers(len(thumbnails), size=BATCH)
        pictures = F.pad(as_pixels(torch.from_numpy(thumbnails[rows])), (SHIFT,) * 4, mode="replicate")
        top, left = rng.integers(2 * SHIFT + 1, size=2)
        size = thumbnails.shape[1]
        scores = probe(pictures[:, :, top : top + size, left : left + size])
        return torch.stack([F.cross_entropy(scores[name], labels[name][rows]) for name in VALUES]).sum()

    optimise(list(probe.parameters()), loss_of, steps, RATE, WARMUP, checkpoint, "train the picture probe")
    return probe.eval()


@cache
def load_probe() -> PictureProbe:
    """The probe that comes with storylib."""
    probe = PictureProbe().eval()
    probe.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return probe


@torch.inference_mode()
def read_pictures(thumbnails: np.ndarray) -> list[dict[str, Any]]:
    """What each of the pictures (N, 64, 64, 3) shows, as the likeliest value of each attribute."""
    rows: list[dict[str, Any]] = []
    for part in torch.from_numpy(thumbnails).split(256):
        scores = load_probe()(as_pixels(part))
        best = {name: scores[name].argmax(1).tolist() for name in VALUES}
        rows += [{name: v[best[name][i]] for name, v in VALUES.items()} for i in range(len(part))]
    return rows
