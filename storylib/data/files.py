"""Files as people have them: in natural order, and with names that do not say what they are."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

# What the first bytes of a file show, and the way out. Texts have no zero bytes; a web page may contain drawings.
KINDS = (
    (rb"^version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository"),
    (rb"(?i)^[^\0]*<(!doctype html|html)", "is a web page saved under this name: download the file itself"),
    (rb"(?i)^[^\0]*<svg", "is an SVG drawing: export it as PNG"),
    (rb"^(PK\x03\x04|\xd0\xcf\x11\xe0|\x1f\x8b)", "is a spreadsheet or an archive: export it as CSV, or unpack it"),
    (rb"^\W*\[\s*\{", "is a JSON list: write one object per line (in pandas, lines=True)"),
    (rb"(?s)^.{4}ftyp(hei|hev|mif1|msf1)", "is a HEIC picture: `pip install pillow-heif`, or save it as JPEG"),
)


def explain(path: Any, otherwise: str, error: Exception | None = None) -> str:
    """Why a file cannot be read and the way out, to follow its name: what it really is, or ``otherwise``."""
    if isinstance(error, PermissionError):
        return "may not be read: give yourself permission (chmod u+r)"
    if isinstance(error, FileNotFoundError):
        return "does not exist, or is a link to nothing: correct the name, capitals included, or add the file"
    beginning = b""
    with suppress(OSError, AttributeError), path.open("rb") as file:  # no file, or a picture in memory
        beginning = file.read(2048)
    return next((kind for pattern, kind in KINDS if re.search(pattern, beginning)), otherwise)


def natural_order(path: Path) -> list[Any]:
    """Sorting key: page 9 comes before page 10."""
    parts = re.split(r"(\d+)", path.as_posix().casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
