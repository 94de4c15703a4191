"""Frozen networks that judge what was made: the meaning of a text, the features of a picture.

The judge of pictures is the same whatever encoder a run was trained with, and sees them at the size they are drawn in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from storylib.config import Config
from storylib.encoders import Encoder, load_image_encoder, load_text_encoder
from storylib.pictures import PictureLike

BATCH = 64


class Judges:
    """Texts and pictures to frozen features, each different one looked at once."""

    def __init__(self, config: Config, device: str = "cpu") -> None:
        self.config, self.device = config, device
        self._known: dict[str | bytes, Tensor] = {}

    @cached_property
    def text_encoder(self) -> Encoder:
        return load_text_encoder(self.config.data.text_encoder, self.device)

    @cached_property
    def image_encoder(self) -> Encoder:
        encoder = load_image_encoder("efficientnet_lite0", self.device)
        encoder.size = self.config.model.image_size  # as drawn: nothing is gained by blowing it up
        return encoder

    def learn(self, texts: Sequence[str], vectors: Tensor) -> None:
        """Texts whose features (N, D) are known already."""
        self._known.update(zip(texts, vectors, strict=True))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) features of the run's own text encoder."""
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        new.sort(key=len)  # little padding
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self.learn(batch, self.text_encoder.embed([self.text_encoder.prepare(t) for t in batch]))
        return torch.stack([self._known[t] for t in texts])

    def pictures(self, pictures: Tensor) -> np.ndarray:
        """(N, D) features of pictures (N, 3, S, S) in 0..1."""
        drawn = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
        keys = [array.tobytes() for array in drawn]
        new = {key: array for key, array in zip(keys, drawn, strict=True) if key not in self._known}
        waiting = list(new.items())
        for start in range(0, len(waiting), BATCH):
            batch = waiting[start : start + BATCH]
            seen = self.image_encoder.embed([self.image_encoder.prepare(_picture(array)) for _, array in batch])
            self._known.update(zip((key for key, _ in batch), seen, strict=True))
        return torch.stack([self._known[key] for key in keys]).numpy()


def _picture(array: np.ndarray) -> PictureLike:
    from PIL import Image

    return Image.fromarray(array)
