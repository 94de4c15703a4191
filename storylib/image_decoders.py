"""From the story's state to a picture: what is most likely, or several samples of what may come.

Both decoders copy before they paint: at every pixel a mixture of the context's pictures, plus a correction that starts
at zero. A backdrop that stays is copied sharp; only what is new has to be drawn.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (96, 64, 32, 16)  # at 4, 8, 16 and 32 pixels; 16 from there on


class ImageDecoder(nn.Module):
    """Upsamples the story state; the last doubling is a shuffle of channels, so no layer runs at full size."""

    def __init__(self, width: int, frames: int, size: int = 64) -> None:
        super().__init__()
        steps = int(math.log2(max(size, 4) / 4))
        if size < 16 or size != 4 * 2**steps:
            raise ValueError(f"image_size must be 16, 32, 64, 128 and so on, not {size}")
        self.frames = frames
        channels = [CHANNELS[min(i, len(CHANNELS) - 1)] for i in range(steps)]
        self.seed = nn.Linear(width, channels[0] * 16)
        inputs = [*channels[:-2], channels[-2] + 3 * frames]  # the last block also sees the context, reduced
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(a, b, 3, padding=1),
                nn.GroupNorm(8, b),
                nn.GELU(),
            )
            for a, (_, b) in zip(inputs, pairwise(channels), strict=True)
        )
        self.paint = nn.Conv2d(channels[-1], 4 * 3 + frames, 3, padding=1)
        nn.init.zeros_(self.paint.weight)
        nn.init.zeros_(self.paint.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, context: Tensor) -> Tensor:
        """Pixels (B, 3, S, S), not clamped. state: (B, width). context: (B, K, 3, S, S) pixels in 0..1."""
        return self._draw(self.seed(state), context)

    def learn(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the losses need: the ``picture``, to be compared with the target (B, 3, S, S)."""
        return {"picture": self(state, context)}

    def _draw(self, seed: Tensor, context: Tensor) -> Tensor:
        """(B, 3, S, S) from (B, C * 16) and the context's pictures."""
        x = F.gelu(seed).view(len(seed), -1, 4, 4)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](torch.cat([x, F.adaptive_avg_pool2d(context.flatten(1, 2), x.shape[-1])], dim=1))
        painted = self.paint(x)  # (B, 12 + K, S / 2, S / 2)
        correction = F.pixel_shuffle(painted[:, self.frames :], 2)
        shares = F.interpolate(painted[:, : self.frames].softmax(1), scale_factor=2, mode="bilinear")
        return (shares[:, :, None] * context).sum(1) + correction


class SamplingImageDecoder(ImageDecoder):
    """A conditional variational decoder (Sohn et al. 2015): also draws what may come, each sample another way.

    A latent says how the next picture differs from what could be expected: which frame comes back, where something
    new stands. It is read off the target in training and drawn from a learned prior afterwards. In training half of a
    batch learns without a latent, so that the same weights also give the one picture to expect.
    """

    def __init__(self, width: int, frames: int, size: int = 64, latent: int = 32) -> None:
        super().__init__(width, frames, size)
        self.prior = nn.Linear(width, 2 * latent)
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.prior.bias)
        self.posterior = nn.Sequential(
            nn.Linear(width + 3 * 8 * 8 * (frames + 1), width), nn.GELU(), nn.Linear(width, 2 * latent)
        )
        self.seed_of_latent = nn.Linear(latent, self.seed.out_features)

    def learn(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Also ``picture_divergence``, in nats: of the latents read off the targets from what the prior expects."""
        if not self.training:
            return {"picture": self(state, context)}
        half = (len(state) + 1) // 2
        seen = torch.cat([context[:half], target[:half, None]], dim=1)  # (B / 2, K + 1, 3, S, S)
        small = F.adaptive_avg_pool2d(seen.flatten(1, 2), 8).flatten(1)
        mean, log_deviation = self.posterior(torch.cat([state[:half], small], dim=-1)).chunk(2, -1)
        expected, log_spread = self.prior(state[:half]).chunk(2, -1)
        latent = mean + log_deviation.exp() * torch.randn_like(mean)
        away = ((mean - expected) / log_spread.exp()).square() + (2 * (log_deviation - log_spread)).exp()
        divergence = (log_spread - log_deviation + (away - 1) / 2).sum(-1).mean()
        seed = self.seed(state)
        seed = torch.cat([seed[:half] + self.seed_of_latent(latent), seed[half:]])
        return {"picture": self._draw(seed, context), "picture_divergence": divergence}

    @torch.no_grad()
    def sample(self, state: Tensor, context: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, k, 3, S, S) pixels of k pictures that may come next, not clamped."""
        expected, log_spread = (p[:, None] for p in self.prior(state).chunk(2, -1))
        noise = torch.randn(len(state), k, expected.shape[-1], generator=generator, dtype=state.dtype)
        latent = expected + log_spread.exp() * noise.to(state.device)
        seeds = self.seed(state)[:, None] + self.seed_of_latent(latent)
        return torch.stack([self._draw(seed, context) for seed in seeds.unbind(1)], dim=1)


IMAGE_DECODERS = {"upsampling": ImageDecoder, "sampling": SamplingImageDecoder}
