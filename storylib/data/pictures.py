"""Pictures: opened safely, identified by content, and reduced to thumbnails."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps

from storylib.data.store import file_sha256

PictureLike: TypeAlias = "Path | Image.Image"

PIXELS = 89_478_485  # largest picture: a quarter of a gigabyte as RGB, where Pillow begins to warn


class PictureError(ValueError):
    """A picture that cannot be read; the message names the file and the remedy."""


def open_picture(image: PictureLike) -> Image.Image:
    """Upright 8-bit RGB: first image of an animation, transparency on white, 16 bits as 8. Raises PictureError."""
    try:
        if isinstance(image, Image.Image):
            return _rgb(image.copy())
        with Image.open(image) as picture:
            if picture.width * picture.height > PIXELS:
                raise Image.DecompressionBombError(f"{picture.width} x {picture.height} pixels")
            return _rgb(picture)
    except Image.DecompressionBombError as error:
        raise PictureError(f"{image} is too large ({error}): scale it to less than {PIXELS:,} pixels") from error
    except Exception as error:  # a damaged file can make a decoder raise almost anything
        raise _unreadable(image, error) from error


def _unreadable(image: PictureLike, error: Exception) -> PictureError:
    if isinstance(error, PermissionError):
        return PictureError(f"{image} may not be read: give yourself permission (chmod u+r)")
    return PictureError(f"{image} cannot be read as a picture ({error}): replace it by an intact copy")


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert to upright RGB. The picture itself may be changed: copies would take a sixth of the reading time."""
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):  # Pillow would clip these at 255, so 16-bit pictures would become white
        picture = Image.fromarray((np.asarray(picture) / 257).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:  # the hidden colours under transparent pixels are often black
        background = Image.new("RGBA", picture.size, "white")
        background.alpha_composite(picture.convert("RGBA"))
        picture = background
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def picture_digest(image: PictureLike) -> str:
    """SHA-256 of the file's bytes, or of the pixels if there is no file: 32 hexadecimal digits."""
    if isinstance(image, Image.Image):
        pixels = str(image.size).encode() + open_picture(image).tobytes()
        return hashlib.sha256(pixels).hexdigest()[:32]
    try:
        return file_sha256(image)[:32]
    except OSError as error:
        raise _unreadable(image, error) from error


def thumbnail(picture: Image.Image, size: int) -> np.ndarray:
    """(size, size, 3) uint8: the whole picture, resized to what the image decoder reads and draws."""
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
