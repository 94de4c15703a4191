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

FREE = 2.0  # nats of a latent that cost nothing: enough to say which frame comes back; without any, none is used
CHANNELS = (64, 48, 24, 8)  # at 4, 8, 16 and 32 pixels; 8 from there on


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
        self.choice = nn.Linear(channels[0] * 16, frames)  # which frame comes back, the same at every pixel
        for layer in (self.paint, self.choice):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, state: Tensor, context: Tensor) -> Tensor:
        """Pixels (B, 3, S, S), not clamped. state: (B, width). context: (B, K, 3, S, S) pixels in 0..1."""
        return self._draw(self.seed(state), context)

    def learn(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the losses need: the ``picture``, to be compared with the target (B, 3, S, S)."""
        return {"picture": self(state, context)}

    def _draw(self, seed: Tensor, context: Tensor, favour: Tensor | float = 0.0) -> Tensor:
        """(B, 3, S, S) from (B, C * 16), the context's pictures and what speaks for each of them, (B, K)."""
        seed = F.gelu(seed)
        x = seed.view(len(seed), -1, 4, 4)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](torch.cat([x, F.adaptive_avg_pool2d(context.flatten(1, 2), x.shape[-1])], dim=1))
        painted = self.paint(x)  # (B, 12 + K, S / 2, S / 2)
        correction = F.pixel_shuffle(painted[:, self.frames :], 2)
        choice = favour + self.choice(seed) / math.sqrt(seed.shape[1])  # its many inputs must not decide in one step
        shares = (painted[:, : self.frames] + choice[:, :, None, None]).softmax(1)
        shares = F.interpolate(shares, scale_factor=2, mode="bilinear")
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
            nn.Linear(width + (3 * 8 * 8 + 1) * frames, width), nn.GELU(), nn.Linear(width, 2 * latent)
        )
        self.seed_of_latent = nn.Linear(latent, self.seed.out_features)
        self.favour = nn.Linear(latent, frames)

    def learn(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Also ``picture_divergence``: nats, beyond ``FREE``, by which latents read off the targets leave the prior."""
        if not self.training:
            return {"picture": self(state, context)}
        half = (len(state) + 1) // 2
        mean, log_deviation = self.read(state[:half], context[:half], target[:half]).chunk(2, -1)
        expected, log_spread = self.prior(state[:half]).chunk(2, -1)
        latent = mean + log_deviation.exp() * torch.randn_like(mean)
        away = ((mean - expected) / log_spread.exp()).square() + (2 * (log_deviation - log_spread)).exp()
        divergence = (log_spread - log_deviation + (away - 1) / 2).sum(-1).mean()
        seed = self.seed(state)
        seed = torch.cat([seed[:half] + self.seed_of_latent(latent), seed[half:]])
        favour = F.pad(self.favour(latent), (0, 0, 0, len(state) - half))
        return {"picture": self._draw(seed, context, favour), "picture_divergence": F.relu(divergence - FREE)}

    def read(self, state: Tensor, context: Tensor, target: Tensor) -> Tensor:
        """(B, 2 Z) mean and log deviation of the latent that tells the target from each frame of the context."""
        change = target[:, None] - context  # (B, K, 3, S, S)
        coarse = F.adaptive_avg_pool2d(change.flatten(1, 2), 8).flatten(1)
        return self.posterior(torch.cat([state, 4 * coarse, 10 * change.abs().mean((2, 3, 4))], dim=-1))

    @torch.no_grad()
    def sample(self, state: Tensor, context: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, k, 3, S, S) pixels of k pictures that may come next, not clamped."""
        expected, log_spread = (p[:, None] for p in self.prior(state).chunk(2, -1))
        noise = torch.randn(len(state), k, expected.shape[-1], generator=generator, dtype=state.dtype)
        latent = expected + log_spread.exp() * noise.to(state.device)
        seeds = self.seed(state)[:, None] + self.seed_of_latent(latent)
        favours = self.favour(latent)
        drawn = [self._draw(s, context, f) for s, f in zip(seeds.unbind(1), favours.unbind(1), strict=True)]
        return torch.stack(drawn, dim=1)


IMAGE_DECODERS = {"upsampling": ImageDecoder, "sampling": SamplingImageDecoder}
