"""Pictures as tokens: a small autoencoder whose bottleneck is rounded, so that each square of 4 x 4 pixels is one code.

Rounding each of a few numbers to a few levels (finite scalar quantisation, Mentzer et al. 2023) needs no codebook that
could die. The autoencoder is trained once on the training pictures and then frozen, like any encoder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from storylib.data.arrays import Arrays, load_or_compute
from storylib.data.perceptual import perceptual_distance
from storylib.data.pictures import as_pixels
from storylib.data.resumable import optimise
from storylib.data.store import cache_entry, file_sha256, make_sealed

CELL = 4  # pixels of a code's side
LEVELS = (5, 5, 5, 5)  # of the numbers that make a code; odd, so that zero is a level
CODES = math.prod(LEVELS)
WIDTH, BLOCKS = 64, 3  # channels of the autoencoder, and residual blocks of each half
BATCH, CROP = 64, 32  # pictures of a training step, and pixels of the square that is cut out of each
RATE, WARMUP = 3e-3, 100
PERCEPTUAL_WEIGHT = 2.0  # of the perceptual distance beside the error of the pixels


class Residual(nn.Module):
    """Two convolutions around a skip; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(F.gelu(x))))


class PictureTokenizer(nn.Module):
    """Pictures (N, 3, S, S) in 0..1 to codes (N, S / 4, S / 4) and back."""

    reach: Tensor  # (1, numbers, 1, 1) the largest level of each number of a code
    place: Tensor  # (1, numbers, 1, 1) what one level of it counts in the code

    def __init__(self) -> None:
        super().__init__()
        pixels = 3 * CELL**2
        blocks = [[Residual(WIDTH) for _ in range(BLOCKS)] for _ in range(2)]
        first = nn.Conv2d(pixels, WIDTH, 3, padding=1)
        self.encoder = nn.Sequential(nn.PixelUnshuffle(CELL), first, *blocks[0], nn.Conv2d(WIDTH, len(LEVELS), 1))
        last = nn.Conv2d(WIDTH, pixels, 3, padding=1)
        first = nn.Conv2d(len(LEVELS), WIDTH, 3, padding=1)
        self.decoder = nn.Sequential(first, *blocks[1], nn.GELU(), last, nn.PixelShuffle(CELL))
        places = np.cumprod((1, *LEVELS[:-1]))
        self.register_buffer("reach", torch.tensor(LEVELS).view(1, -1, 1, 1) // 2, persistent=False)
        self.register_buffer("place", torch.from_numpy(places).view(1, -1, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """The pictures reconstructed; gradients pass the rounding unchanged."""
        levels = self._levels(pictures)
        return self._draw(levels + (levels.round() - levels).detach())

    def encode(self, pictures: Tensor) -> Tensor:
        """(N, S / 4, S / 4) codes, each below ``CODES``."""
        return ((self._levels(pictures).round().long() + self.reach) * self.place).sum(1)

    def decode(self, codes: Tensor) -> Tensor:
        """(N, 3, S, S) pixels in 0..1 of codes (N, S / 4, S / 4)."""
        levels = codes[:, None] // self.place % (2 * self.reach + 1) - self.reach
        return self._draw(levels.float()).clamp(0, 1)

    def _levels(self, pictures: Tensor) -> Tensor:
        return self.encoder(2 * pictures - 1).tanh() * self.reach

    def _draw(self, levels: Tensor) -> Tensor:
        return self.decoder(levels / self.reach) / 2 + 0.5


@dataclass(frozen=True)
class PictureTokens:
    """A trained tokenizer, and what it makes of the pictures of some stories."""

    tokenizer: PictureTokenizer
    codes: np.ndarray  # (unique pictures, S / 4, S / 4) int16, memory-mapped


def tokenize(
    thumbnails: np.ndarray, training: np.ndarray, steps: int, trained: Path | None = None, device: str = "cpu"
) -> PictureTokens:
    """Train a tokenizer on some of the pictures, unless it is stored or ``trained``, and encode all of them.

    thumbnails: (N, S, S, 3) bytes. training: rows of the training pictures. trained: the weights of a tokenizer that
    was trained on other pictures of the same kind.
    """
    pictures = hashlib.sha256(thumbnails.tobytes()).hexdigest()
    weights = trained
    if weights is None:
        folder = cache_entry(
            "picture-tokens", "tokenizer", [pictures, [int(row) for row in training], steps], "data.picture_tokens"
        )
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")

        def make(target: Path) -> None:
            tokenizer = train_tokenizer(thumbnails[np.asarray(training)], steps, checkpoint, device)
            save_file(tokenizer.state_dict(), target / "tokenizer.safetensors")

        make_sealed(folder, make)
        weights = folder / "tokenizer.safetensors"
    tokenizer = load_tokenizer(weights)
    entry = cache_entry("picture-tokens", "codes", [pictures, file_sha256(weights)], "data.picture_tokens")

    def load() -> Any:
        network = tokenizer.to(device)

        @torch.inference_mode()
        def compute(batch: Sequence[np.ndarray]) -> Arrays:
            pictures = as_pixels(torch.from_numpy(np.stack(batch))).to(device)
            return {"codes": network.encode(pictures).short().cpu().numpy()}

        return compute

    codes = load_or_compute(entry, list(thumbnails), load, "pictures to tokens")["codes"]
    return PictureTokens(tokenizer.cpu(), codes)


def load_tokenizer(weights: Path) -> PictureTokenizer:
    """The frozen tokenizer of a safetensors file; it may be kept in half precision."""
    tokenizer = PictureTokenizer().requires_grad_(False).eval()
    tokenizer.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return tokenizer


def train_tokenizer(thumbnails: np.ndarray, steps: int, checkpoint: Path, device: str = "cpu") -> PictureTokenizer:
    """Train on random squares of pictures (N, S, S, 3): the networks see only neighbours, so a square is enough."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = PictureTokenizer().to(device)
    size = min(CROP, thumbnails.shape[1])
    offsets = (thumbnails.shape[1] - size) // CELL + 1

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng(step)
        rows = rng.integers(len(thumbnails), size=BATCH)
        top, left = CELL * rng.integers(offsets, size=2)
        square = thumbnails[rows, top : top + size, left : left + size]
        pictures = as_pixels(torch.from_numpy(np.ascontiguousarray(square))).to(device)
        drawn = tokenizer(pictures)
        return F.l1_loss(drawn, pictures) + PERCEPTUAL_WEIGHT * perceptual_distance(drawn, pictures).mean()

    optimise(list(tokenizer.parameters()), loss_of, steps, RATE, WARMUP, checkpoint, "train the picture tokenizer")
    return tokenizer.cpu()
