"""Pictures, opened safely and looked at once: a content digest, a perceptual hash, and whether they can be read."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TypeAlias

import imagehash
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from storylib.cache import content_digest, read_checked, write_checked
from storylib.cache import write_atomically as write_atomically  # others take it from here
from storylib.config import cache_dir

log = logging.getLogger(__name__)

PictureLike: TypeAlias = "Path | Image.Image"

PIXELS = 89_478_485  # a quarter of a gigabyte as RGB, where Pillow begins to warn; a small file can hold far more
HASHES = "picture-hashes-2.json"  # the number changes with ``_perceptual_hash``, so that no older cache is believed


class PictureError(ValueError):
    """A picture that cannot be read; the message names the file."""


@dataclass(frozen=True)
class Picture:
    """What is known of a picture after one look at it."""

    digest: str  # SHA-256 of the file's bytes (or of the pixels, if there is no file), 32 hexadecimal digits
    perceptual: int | None  # 64-bit perceptual hash; None for a picture that cannot be read or shows nothing
    error: str | None = None


def open_picture(image: PictureLike) -> Image.Image:
    """An upright 8-bit RGB picture: the first image of an animation, transparency laid on white, 16 bits scaled to 8.

    Raises PictureError, naming the file and the remedy, for anything that is not a readable picture.
    """
    try:
        if isinstance(image, Image.Image):
            return _rgb(image.copy())
        with Image.open(image) as picture:
            if picture.width * picture.height > PIXELS:
                raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
            return _rgb(picture)
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"{image} is too large ({error}): scale it to less than {PIXELS:,} pixels") from error
    except PermissionError as error:
        raise PictureError(f"{image} may not be read: give yourself permission (chmod u+r)") from error
    except Exception as error:  # a damaged file can make a decoder raise almost anything
        cause = "the file is empty" if _is_empty(image) else error
        raise PictureError(f"{image} cannot be read as a picture ({cause}): replace it by a whole copy") from error


def _is_empty(image: PictureLike) -> bool:
    return not isinstance(image, Image.Image) and os.path.isfile(image) and os.path.getsize(image) == 0


def _rgb(picture: Image.Image) -> Image.Image:
    """The picture itself may be changed: copies would cost a sixth of the reading."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith(("I", "F")):  # Pillow would cut these at 255: 16-bit pictures would come out white
        values = np.asarray(picture, dtype=np.float64)
        if picture.mode != "F":
            values = values / 257 if picture.mode != "I" or values.max() > 255 else values
        elif values.max() <= 1:
            values = values * 255
        picture = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:  # the hidden colours under transparent pixels are often black
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture.convert("RGBA"))
        picture = page
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def picture_digest(image: PictureLike) -> str:
    """Content digest; two files with the same bytes share it."""
    if isinstance(image, Image.Image):
        return _digest(str(image.size).encode() + open_picture(image).tobytes())
    try:
        return content_digest(image)[:32]
    except OSError as error:
        raise PictureError(f"{image} cannot be read ({error.strerror})") from error


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def inspect(images: Sequence[PictureLike], progress: bool = True) -> list[Picture]:
    """One look at each picture. What was seen is kept by content, so that the next call only reads bytes.

    The first look runs on all cores and is saved every 1,000 pictures, so a killed one goes on where it stopped.
    Pictures that cannot be read are not kept: a mended file is seen at once.
    """
    store = cache_dir(HASHES)
    seen, errors = dict(read_checked(store) or {}), {}
    digests = []
    for image in images:
        try:
            digests.append(picture_digest(image))
        except PictureError as error:  # a missing file has no content; its message names it
            digests.append(_digest(str(image).encode()))
            errors[digests[-1]] = _reason(error, image)
    new = {d: image for d, image in zip(digests, images, strict=True) if d not in seen and d not in errors}
    if new:
        found: dict[str, int | None] = {}
        work, bar = (
            iter(new.items()),
            tqdm(total=len(new), desc="look at pictures", unit="picture", disable=not progress),
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool, bar:  # threads do: Pillow decodes without holding the lock
            while batch := list(islice(work, 1000)):
                for digest, (value, problem) in zip(dict(batch), pool.map(_look, dict(batch).values()), strict=True):
                    if problem is None:
                        found[digest] = value
                    else:
                        errors[digest] = problem
                    bar.update()
                try:  # another process may have saved meanwhile
                    write_checked(store, (read_checked(store) or {}) | found)
                except OSError as error:
                    log.warning("%s cannot be written (%s): the pictures are looked at again next time", store, error)
        seen |= found
    return [
        Picture(digest, seen.get(digest), f"{image} {errors[digest]}" if digest in errors else None)
        for digest, image in zip(digests, images, strict=True)
    ]


def _look(image: PictureLike) -> tuple[int | None, str | None]:
    try:
        return _perceptual_hash(open_picture(image)), None
    except PictureError as error:
        return None, _reason(error, image)


def _reason(error: PictureError, image: PictureLike) -> str:
    """Without the file's name, since several empty files share one digest."""
    return str(error).removeprefix(f"{image} ")


def _perceptual_hash(picture: Image.Image) -> int | None:
    """DCT hash (Zauner 2010, as in the imagehash package); a nearly uniform picture has none, since it matches all."""
    small = picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    if np.asarray(small).std() < 4:  # grey levels; the faintest real drawing of African Storybook has 5.2
        return None
    return int(str(imagehash.phash(small)), 16)


_BITS = np.array([i.bit_count() for i in range(1 << 16)], dtype=np.uint8)


def hash_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of differing bits of two arrays of 64-bit hashes, (N,) uint64 each."""
    return _BITS[np.ascontiguousarray(a ^ b).view(np.uint16).reshape(-1, 4)].sum(axis=1)


def near_hashes(hashes: Iterable[int], distance: int) -> list[tuple[int, int]]:
    """All index pairs i < j of 64-bit hashes that differ in at most ``distance`` bits.

    Multi-index hashing (Norouzi et al. 2012). Of distance // 2 + 1 bands of bits, at least one differs in no more than
    one bit, else the sum would be too large; so only hashes that agree in a band up to one bit are compared.
    """
    values = np.fromiter(hashes, dtype=np.uint64)
    rows = np.arange(len(values))
    pairs: set[tuple[int, int]] = set()
    edges = np.linspace(0, 64, distance // 2 + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        band = (values >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)  # (N,)
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        for flip in [0, *(1 << bit for bit in range(high - low if distance else 0))]:
            wanted = band ^ np.uint64(flip)
            first = np.searchsorted(ordered, wanted, "left")
            count = np.searchsorted(ordered, wanted, "right") - first
            for part in np.array_split(rows, 1 + int(count.sum()) // 4_000_000):  # bounds the memory
                left = np.repeat(part, count[part])
                step = np.arange(len(left)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
                right = order[np.repeat(first[part], count[part]) + step]
                once = left < right
                left, right = left[once], right[once]
                near = hash_distance(values[left], values[right]) <= distance
                pairs.update(zip(left[near].tolist(), right[near].tolist(), strict=True))
    return sorted(pairs)
