"""One look at each picture: whether it can be read, and a perceptual hash that near-duplicates share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from storylib.data.arrays import Arrays, load_or_compute
from storylib.data.pictures import PictureError, PictureLike, open_picture, picture_digest
from storylib.data.store import cache_entry


@dataclass(frozen=True)
class Picture:
    """What one look at a picture has shown."""

    perceptual: int | None  # 64-bit perceptual hash; None for a picture that cannot be read or is nearly uniform
    error: str | None = None


_known: dict[str, Picture] = {}  # readable pictures that this process has looked at, by digest


def inspect(images: Sequence[PictureLike]) -> list[Picture]:
    """Look at each picture once, on all cores. What was seen is kept on disk for the next process."""
    digests = [_digest(image) for image in images]
    by_digest = dict(zip(digests, images, strict=True))
    new = sorted(by_digest.keys() - _known.keys() - {""})
    if new:
        entry = cache_entry("picture-hashes", "hashes", new, "data.inspection")

        def hashes(digests: Sequence[str]) -> Arrays:
            """Hashes of pictures, 0 for a nearly uniform one, and whether each can be read."""
            seen = [_look(by_digest[digest]) for digest in digests]
            values = np.array([picture.perceptual or 0 for picture in seen], dtype=np.uint64)
            return {"hash": values, "readable": np.array([picture.error is None for picture in seen])}

        stored = load_or_compute(entry, new, lambda: hashes, "look at pictures")
        for digest, value, readable in zip(new, stored["hash"].tolist(), stored["readable"], strict=True):
            if readable:
                _known[digest] = Picture(value or None)
    # Pictures that cannot be read are looked at again: a repaired file is seen at once.
    return [_known.get(digest) or _look(image) for digest, image in zip(digests, images, strict=True)]


def _digest(image: PictureLike) -> str:
    """The digest of a picture's content; empty for a file that cannot be read."""
    try:
        return picture_digest(image)
    except PictureError:
        return ""


def _look(image: PictureLike) -> Picture:
    try:
        return Picture(_perceptual_hash(open_picture(image)))
    except PictureError as error:
        return Picture(None, str(error))


def _perceptual_hash(picture: Image.Image) -> int | None:
    """DCT hash (Zauner 2010, by the imagehash package); None for a nearly uniform picture, which would match many."""
    import imagehash

    small = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    if np.asarray(small).std() < 4:  # grey levels; the faintest real drawing of African Storybook has 5.2
        return None
    return int(str(imagehash.phash(small)), 16)
