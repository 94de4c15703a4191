"""The frozen encoders that score what a model writes and draws; each different text or picture is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from storylib.config import Config
from storylib.data.arrays import BATCH
from storylib.data.encoders import ImageEncoder, TextEncoder, load_image_encoder, load_text_encoder


class ScoringEncoders:
    """The run's own text encoder, and one image encoder for all runs; it sees pictures at their drawn size."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._features: dict[str | bytes, Tensor] = {}

    @cached_property
    def text_encoder(self) -> TextEncoder:
        return load_text_encoder(self.config.data.text_encoder)

    @cached_property
    def image_encoder(self) -> ImageEncoder:
        encoder = load_image_encoder("efficientnet_lite0")
        encoder.size = self.config.model.image_size
        return encoder

    def remember(self, texts: Sequence[str], features: Tensor) -> None:
        """Texts whose features (N, D) are known already."""
        self._features.update(zip(texts, features, strict=True))

    def texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) features."""
        new = [text for text in dict.fromkeys(texts) if text not in self._features]
        new.sort(key=len)  # batches of similar length need little padding
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            self.remember(batch, self.text_encoder.embed(batch))
        return torch.stack([self._features[text] for text in texts])

    def pictures(self, pictures: Tensor) -> np.ndarray:
        """(N, D) features of pictures (N, 3, S, S) in 0..1."""
        pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
        by_bytes = {picture.tobytes(): picture for picture in pixels}
        new = [key for key in by_bytes if key not in self._features]
        for start in range(0, len(new), BATCH):
            batch = new[start : start + BATCH]
            prepared = [self.image_encoder.prepare(Image.fromarray(by_bytes[key])) for key in batch]
            self._features.update(zip(batch, self.image_encoder.embed(prepared), strict=True))
        return torch.stack([self._features[picture.tobytes()] for picture in pixels]).numpy()
