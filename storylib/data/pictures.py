"""Pictures: found in a folder, opened safely, identified by content, and reduced to thumbnails."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from storylib.data.files import explain, natural_order
from storylib.data.store import file_sha256

with suppress(ImportError):  # optional: HEIC, the format of telephones
    from pillow_heif import register_heif_opener

    register_heif_opener()

PictureLike: TypeAlias = "Path | Image.Image"

PIXELS = 89_478_485  # largest picture: a quarter of a gigabyte as RGB, where Pillow begins to warn
FOREIGN = {".heic", ".heif", ".svg"}  # pictures that Pillow does not open, so that a message can say so
# Image generators write their whole input into a PNG file, and scanners large colour profiles; Pillow allows 1 MB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 3 * PIXELS


class PictureError(ValueError):
    """A picture that cannot be read; the message names the file and the remedy."""


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order, without hidden files but with files that cannot be opened here."""
    suffixes = FOREIGN | {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))  # a Mac writes ._1.png beside 1.png
    return sorted((path for path in visible if path.suffix.lower() in suffixes), key=natural_order)


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
    otherwise = f"cannot be read as a picture ({error}): replace it by an intact copy, or save it as PNG"
    return PictureError(f"{image} {explain(image, otherwise, error)}")


def _rgb(picture: Image.Image) -> Image.Image:
    """Convert to upright RGB. The picture itself may be changed: copies would take a sixth of the reading time."""
    picture.load()
    with suppress(Exception):  # the picture is turned first; then Pillow writes new EXIF, which may be impossible
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode[0] in "IF":  # Pillow would clip 16-bit pictures to white, and real numbers from 0 to 1 to black
        values = np.asarray(picture)
        scale = 1 / 257 if picture.mode != "F" else 255 if values.max() <= 1 else 1
        picture = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:  # the hidden colours under transparent pixels are often black
        background = Image.new("RGBA", picture.size, "white")
        background.alpha_composite(picture.convert("RGBA"))
        picture = background
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    picture.info = {}  # with any orientation that is left: a picture that is opened again must not be turned again
    return picture


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
