"""Features of frames: each unique picture and text is encoded once, kept on disk and memory-mapped.

Nothing here loads torch or a network before it is needed, so that stored features are found and identified quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storylib.config import digest
from storylib.data.arrays import Arrays, Compute, load_or_compute
from storylib.data.encoders import encoder_fingerprint, load_image_encoder, load_text_encoder, load_text_tokenizer
from storylib.data.pictures import PictureLike, open_picture, picture_digest, thumbnail
from storylib.data.store import cache_entry
from storylib.data.types import Story, windows
from storylib.data.unknown import MULTILINGUAL, report_unknown

if TYPE_CHECKING:
    from torch import Tensor

    from storylib.data.language_model import Reading


class Rows:
    """Some rows of an array on disk, read on demand: ``rows[index]`` for any index of a tensor.

    The file is mapped again for every few rows: what a mapping has touched counts as memory until it is closed.
    """

    CHUNK = 512

    def __init__(self, stored: np.ndarray, rows: np.ndarray) -> None:
        import torch

        self.stored, self.rows = stored, torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        import torch

        rows = self.rows[index]
        values = np.empty((rows.numel(), *self.stored.shape[1:]), self.stored.dtype)
        for start in range(0, len(values), self.CHUNK):
            chunk = slice(start, start + self.CHUNK)
            stored = self.stored
            if isinstance(stored, np.memmap):
                stored = np.memmap(str(stored.filename), stored.dtype, "r", stored.offset, stored.shape)
            values[chunk] = stored[rows.flatten()[chunk].numpy()]
        return torch.from_numpy(values.reshape(*rows.shape, *values.shape[1:]))


@dataclass(frozen=True)
class Features:
    """One row per frame of the stories, in their order; rows of equal pictures or texts point to the same vector."""

    image_vectors: np.ndarray  # (unique pictures, Di) float32, memory-mapped
    text_vectors: np.ndarray  # (unique texts and descriptions, Dt) float32, memory-mapped
    thumbnails: np.ndarray  # (unique pictures, S, S, 3) uint8, memory-mapped: the target of the image decoder
    image_of: np.ndarray  # (frames,) index of each frame's picture
    text_of: np.ndarray  # (frames,) index of each frame's text
    description_of: np.ndarray  # (frames,) index of what its picture shows; of its text where the source does not say
    texts: list[str]  # (frames,)
    keys: list[tuple[str, int]]  # (frames,) story id and frame number
    fingerprint: str  # of the data, both encoders and the code that encodes
    reading: Reading | None = None  # of a pretrained language model that writes

    def rows(self, stories: Sequence[Story]) -> np.ndarray:
        """Rows of all frames of some stories, (frames,)."""
        row = {key: i for i, key in enumerate(self.keys)}
        return np.array([row[s.id, f.number] for s in stories for f in s.frames], dtype=np.int64)


class _Inputs:
    """What is encoded for some stories: their unique pictures and texts, and where the results are kept."""

    def __init__(self, stories: Sequence[Story], image: str, text: str, image_size: int) -> None:
        frames = [f for s in stories for f in s.frames]
        digests = [picture_digest(f.image) for f in frames]
        unique, first, self.image_of = np.unique(digests, return_index=True, return_inverse=True)
        self.images = [frames[i].image for i in first]
        self.texts = [f.text for f in frames]
        self.keys = [(s.id, f.number) for s in stories for f in s.frames]
        descriptions = [f.description or f.text for f in frames]
        self.unique_texts = _unique([*self.texts, *descriptions])
        row = {text: i for i, text in enumerate(self.unique_texts)}
        self.text_of, self.description_of = (np.array([row[t] for t in part]) for part in (self.texts, descriptions))
        key = [encoder_fingerprint(image), image_size, list(unique)]
        self.entry = cache_entry("features", "image", key, "data.encoders")
        of = [part.tolist() for part in (self.image_of, self.text_of, self.description_of)]
        self.fingerprint = digest([self.entry.name, _text_entry(self.unique_texts, text).name, self.keys, of])


def features_fingerprint(stories: Sequence[Story], image: str, text: str, image_size: int) -> str:
    """The fingerprint of the features that ``encode`` gives for the same arguments. Nothing is encoded or loaded."""
    return _Inputs(stories, image, text, image_size).fingerprint


def encode(
    stories: Sequence[Story],
    image: str = "efficientnet_lite0",
    text: str = "minilm",
    image_size: int = 64,
    device: str = "cpu",
    source: str = "these stories",
    strict: bool = False,
) -> Features:
    """Features of all frames: loaded if they are stored, otherwise computed; an interrupted pass is resumed.

    image, text: names of frozen encoders (see storylib.data.encoders). image_size: side of the thumbnails in pixels.
    source: what a message calls the stories. strict: raise EncoderError for texts that the text encoder cannot read.
    """
    inputs = _Inputs(stories, image, text, image_size)
    text_vectors, _ = encode_texts(inputs.unique_texts, text, device, source, strict)
    load = partial(_picture_encoding, image, image_size, device)
    images = load_or_compute(inputs.entry, inputs.images, load, f"encode pictures, {image}")
    return Features(
        image_vectors=images["vectors"],
        text_vectors=text_vectors,
        thumbnails=images["thumbnails"],
        image_of=inputs.image_of,
        text_of=inputs.text_of,
        description_of=inputs.description_of,
        texts=inputs.texts,
        keys=inputs.keys,
        fingerprint=inputs.fingerprint,
    )


def _picture_encoding(name: str, size: int, device: str) -> Compute:
    """The function that encodes pictures and makes thumbnails of them."""
    encoder = load_image_encoder(name, device)

    def prepare(image: PictureLike) -> tuple[Any, np.ndarray]:
        picture = open_picture(image)
        return encoder.prepare(picture), thumbnail(picture, size)

    def compute(images: Sequence[PictureLike]) -> Arrays:
        prepared, thumbnails = zip(*map(prepare, images), strict=True)
        return {"vectors": encoder.embed(prepared).numpy(), "thumbnails": np.stack(thumbnails)}

    return compute


def encode_texts(
    texts: Sequence[str], name: str = "minilm", device: str = "cpu", source: str = "these texts", strict: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of unique texts (N, D), and the index of each text's vector (texts,); stored as by ``encode``."""

    unique = _unique(texts)
    reader = f"{source}: the text encoder {name!r}"

    def load() -> Compute:
        encoder = load_text_encoder(name, device)
        report_unknown(encoder.tokenizer, unique, reader, MULTILINGUAL, strict)
        return lambda batch: {"vectors": encoder.embed(batch).numpy()}

    if strict:  # what is stored may be of texts that cannot be read
        report_unknown(load_text_tokenizer(name), unique, reader, MULTILINGUAL, strict)
    row = {text: i for i, text in enumerate(unique)}
    stored = load_or_compute(_text_entry(unique, name), unique, load, f"encode texts, {name}")
    return stored["vectors"], np.array([row[text] for text in texts])


def _unique(texts: Sequence[str]) -> list[str]:
    """Each text once, sorted by length, since a batch of similar lengths needs little padding."""
    return sorted(set(texts), key=lambda text: (len(text), text))


def _text_entry(unique: list[str], name: str) -> Path:
    return cache_entry("features", "text", [encoder_fingerprint(name), unique], "data.encoders")


def read_windows(
    stories: Sequence[Story],
    training: Sequence[Story],
    name: str,
    text_length: int,
    epochs: int,
    context: int,
    device: str = "cpu",
) -> Reading:
    """The states of a language model for all windows of some stories, after its adaptation to the training stories.

    epochs: of the adaptation; with 0 the model reads as it is.
    """
    from storylib.data.adaptation import adapt
    from storylib.data.language_model import Reading, window_states

    texts = [[frame.text for frame in story.frames] for story in training]
    adaptation = adapt(name, texts, epochs, text_length, device) if epochs else None
    every = list(windows(stories, context))
    read = [(tuple(frame.text for frame in window.context), window.target.text) for window in every]
    states = window_states(read, name, text_length, device, adaptation)
    window_of = {(window.story.id, window.target.number): i for i, window in enumerate(every)}
    return Reading(name, text_length, device, adaptation, states, window_of)
