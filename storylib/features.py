"""Encode every unique picture and text once, and keep the vectors on disk, memory-mapped and found by fingerprint."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from storylib.boundary import LowerLayers
from storylib.cache import damage, discard_damaged, seal, write_atomically
from storylib.config import cache_dir, digest
from storylib.download import being_made, disk_error, reserve
from storylib.encoders import encoder_fingerprint, load_image_encoder, load_text_encoder
from storylib.pictures import open_picture, picture_digest
from storylib.stories import Frame, Story, Window

log = logging.getLogger(__name__)

BATCH = 64


class Rows:
    """Some rows of an array on the disk, read when they are asked for: ``rows[index]`` for any index of a tensor.

    The file is mapped anew for every few of them, because what a mapping has touched, and what the system mapped around
    it, is the process's memory until it is closed.
    """

    AT_ONCE = 512

    def __init__(self, stored: np.ndarray, rows: np.ndarray) -> None:
        self.stored, self.rows = stored, torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Tensor:
        rows = self.rows[index]
        found = np.empty((rows.numel(), *self.stored.shape[1:]), self.stored.dtype)
        for start in range(0, len(found), self.AT_ONCE):
            some = slice(start, start + self.AT_ONCE)
            found[some] = self._mapped()[rows.flatten()[some].numpy()]
        return torch.from_numpy(found.reshape(*rows.shape, *found.shape[1:]))

    def _mapped(self) -> np.ndarray:
        stored = self.stored
        if isinstance(stored, np.memmap):
            return np.memmap(str(stored.filename), stored.dtype, "r", stored.offset, stored.shape)
        return stored


@dataclass(frozen=True)
class Features:
    """One row per frame of the stories, in their order; rows of equal pictures or texts point to the same vector."""

    image_vectors: np.ndarray  # (unique pictures, Di) float32, memory-mapped
    text_vectors: np.ndarray  # (unique texts, Dt) float32, memory-mapped
    thumbnails: np.ndarray  # (unique pictures, S, S, 3) uint8, memory-mapped: what the image decoder learns to draw
    image_of: np.ndarray  # (frames,) row of each frame's picture
    text_of: np.ndarray  # (frames,)
    texts: list[str]  # (frames,)
    keys: list[tuple[str, int]]  # (frames,) story id and page
    fingerprint: str  # of the data and both encoders
    text_states: np.ndarray | None = None  # (word pieces of all unique texts, D) at the freeze boundary, memory-mapped
    text_starts: np.ndarray | None = None  # (unique texts + 1,) where the states of each begin and the last end

    @cached_property
    def row(self) -> dict[tuple[str, int], int]:
        return {key: i for i, key in enumerate(self.keys)}

    def rows(self, stories: Sequence[Story]) -> np.ndarray:
        """Rows of all frames of some stories."""
        return np.array([self.row[s.id, f.page] for s in stories for f in s.frames], dtype=np.int64)

    def window_rows(self, windows: Sequence[Window]) -> np.ndarray:
        """(windows, K + 1) rows: the context's frames, then the target's."""
        frames: list[list[Frame]] = [[*w.context, w.target] for w in windows]
        return np.array([[self.row[w.story.id, f.page] for f in fs] for w, fs in zip(windows, frames, strict=True)])


def encode(
    stories: Sequence[Story],
    image: str = "efficientnet_lite0",
    text: str = "minilm",
    image_size: int = 64,
    device: str = "cpu",
    trainable_text_layers: int = 0,
) -> Features:
    """Features of all frames: loaded if these stories were encoded before, resumed if that was cut off.

    image, text: names of frozen encoders (see storylib.encoders). image_size: pixels a side of the thumbnails.
    trainable_text_layers: if the upper layers of the text encoder are to be trained, the states below them are kept.
    """
    frames = [f for s in stories for f in s.frames]
    digests = [picture_digest(f.image) for f in frames]
    pictures, image_of = np.unique(digests, return_inverse=True)
    example = dict(zip(digests, frames, strict=True))

    def image_batches(done: int) -> Iterator[dict[str, np.ndarray]]:
        encoder = load_image_encoder(image, device)

        def prepare(key: str) -> tuple[Any, np.ndarray]:
            picture = open_picture(example[key].image)
            return encoder.prepare(picture), thumbnail(picture, image_size)

        with ThreadPoolExecutor() as pool:
            for start in range(done, len(pictures), BATCH):
                prepared, thumbnails = zip(*pool.map(prepare, pictures[start : start + BATCH]), strict=True)
                yield {"vectors": encoder.embed(prepared).numpy(), "thumbnails": np.stack(thumbnails)}

    image_key = digest(["image", encoder_fingerprint(image), image_size, list(pictures)])
    images = _stored(
        cache_dir("features", f"image-{image_key}"), len(pictures), image_batches, f"encode pictures, {image}"
    )
    words = encode_texts([f.text for f in frames], text, device)
    states = _text_states(words.unique, text, trainable_text_layers, device) if trainable_text_layers else {}
    return Features(
        image_vectors=images["vectors"],
        text_vectors=words.vectors,
        thumbnails=images["thumbnails"],
        image_of=image_of,
        text_of=words.row_of,
        texts=[f.text for f in frames],
        keys=[(s.id, f.page) for s in stories for f in s.frames],
        fingerprint=digest([image_key, words.key, [[s.id, f.page] for s in stories for f in s.frames]]),
        **states,
    )


@dataclass(frozen=True)
class Encoded:
    """Some texts, each encoded once."""

    unique: list[str]
    vectors: np.ndarray  # (unique texts, Dt) float32, memory-mapped
    row_of: np.ndarray  # (texts,) row of each text's vector
    key: str  # of the texts and the encoder


def encode_texts(texts: Sequence[str], name: str = "minilm", device: str = "cpu") -> Encoded:
    """Vectors of texts by a frozen encoder: loaded, resumed or computed, as those of ``encode``."""
    unique = sorted(set(texts), key=lambda text: (len(text), text))  # batches of like length pad little
    row = {text: i for i, text in enumerate(unique)}
    key = digest(["text", encoder_fingerprint(name), unique])

    def batches(done: int) -> Iterator[dict[str, np.ndarray]]:
        encoder = load_text_encoder(name, device)
        for start in range(done, len(unique), BATCH):
            yield {"vectors": encoder.embed(unique[start : start + BATCH]).numpy()}

    stored = _stored(cache_dir("features", f"text-{key}"), len(unique), batches, f"encode texts, {name}")
    return Encoded(unique, stored["vectors"], np.array([row[text] for text in texts]), key)


def _text_states(texts: list[str], name: str, above: int, device: str) -> dict[str, np.ndarray]:
    """Hidden states below the upper layers of a text encoder, one row a word piece: padding would treble them."""
    folder = cache_dir("features", f"states-{digest([encoder_fingerprint(name), above, texts])}")
    ends = np.zeros(0, np.int64)
    if damage(folder):
        encoder = load_text_encoder(name, device)
        ends = np.cumsum(
            [len(ids) for ids in encoder.tokenizer(texts, truncation=True, max_length=encoder.length)["input_ids"]]
        )

    def batches(done: int) -> Iterator[dict[str, np.ndarray]]:
        lower = LowerLayers(encoder, above)
        for start in range(int(np.searchsorted(ends, done, side="right")), len(texts), BATCH):
            hidden, mask = lower.states(texts[start : start + BATCH])
            owner = np.repeat(np.arange(start, start + len(mask)), mask.sum(1))
            yield {"states": hidden[mask].numpy(), "text": owner.astype(np.int32)}

    stored = _stored(folder, int(ends[-1]) if len(ends) else 0, batches, f"encode texts below {above} layers, {name}")
    lengths = np.bincount(stored["text"], minlength=len(texts))
    return {"text_states": stored["states"], "text_starts": np.concatenate([[0], np.cumsum(lengths)])}


def thumbnail(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the whole picture, as the image decoder sees and draws it."""
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def _stored(
    folder: Path, count: int, batches: Callable[[int], Iterator[dict[str, np.ndarray]]], title: str
) -> dict[str, np.ndarray]:
    """Arrays of ``count`` rows, memory-mapped; computed first, by one process at a time, if not whole on disk."""
    if damage(folder):
        with being_made(folder):
            if damage(folder):
                discard_damaged(folder)
                try:
                    _compute(folder, count, batches, title)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    raise disk_error(error, folder) from error
    return {p.stem: np.load(p, mmap_mode="r") for p in folder.glob("*.npy")}


def _compute(folder: Path, count: int, batches: Callable[[int], Iterator[dict[str, np.ndarray]]], title: str) -> None:
    """Write arrays batch by batch, then publish the folder in one step.

    A batch is written and flushed before it is counted, so a killed pass goes on from the last whole batch.
    """
    partial = folder.with_suffix(".partial")
    partial.mkdir(exist_ok=True)
    counter = partial / "done.json"
    done = _begun(partial, counter, count)
    with tqdm(total=count, initial=done, desc=title, unit="row") as bar:
        for batch in batches(done) if done < count else ():
            size = len(next(iter(batch.values())))
            for name, rows in batch.items():
                path, shape = partial / f"{name}.npy", (count, *rows.shape[1:])
                if not done:
                    np.lib.format.open_memmap(path, mode="w+", dtype=rows.dtype, shape=shape)
                    reserve(path)  # a full disk is an error now, not a killed process later
                array = np.load(path, mmap_mode="r+")  # anew: the rows before would stay in memory
                array[done : done + size] = rows
                array.flush()
            done += size
            write_atomically(counter, json.dumps({"rows": done, "arrays": sorted(batch)}))
            bar.update(size)
    counter.unlink()
    seal(partial)
    partial.rename(folder)


def _begun(partial: Path, counter: Path, count: int) -> int:
    """How many rows a killed pass has left; none if their arrays cannot be read."""
    try:
        said: dict[str, Any] = json.loads(counter.read_text()) if counter.exists() else {"rows": 0, "arrays": []}
        done = int(said["rows"])
        lengths = {len(np.load(partial / f"{name}.npy", mmap_mode="r+")) for name in said["arrays"]} or {count}
        if not 0 <= done <= count or lengths != {count}:
            raise ValueError(f"{done} of {count} rows")
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s); the pass begins anew", partial, error)
        shutil.rmtree(partial)
        partial.mkdir()
        return 0
    return done
