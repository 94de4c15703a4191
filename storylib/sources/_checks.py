"""Checks that sources share, without anything that reads a story, so that caches may depend on this code alone."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storylib.config import unknown
from storylib.data.files import explain

log = logging.getLogger("storylib.sources")


class SourceError(ValueError):
    """A source that is unknown, empty, missing or malformed; the message says what to do."""


def leave_out(problem: str, strict: bool) -> None:
    """Report something that a source cannot use: raise SourceError if ``strict``, otherwise log a warning."""
    if strict:
        raise SourceError(f"{problem} (With strict=False it would be left out.)")
    log.warning("left out: %s", problem)


def check_known(kind: str, names: Iterable[str], known: Any, place: str = "") -> None:
    """Raise SourceError for the first name that is not among the known ones. place: start of the message."""
    for name in names:
        if name not in known:
            raise SourceError(f"{place}{unknown(kind, name, known)}")


def local_path(place: str | os.PathLike) -> Path:
    """The absolute path of a place on this machine; "~" is the user's folder, unless a file is so named."""
    path = place if os.path.lexists(place) else os.path.expanduser(place)
    folder, name = os.path.split(path)
    return Path(os.path.realpath(folder), name)  # the pictures of a table lie beside a link to it


def is_repository(place: str | os.PathLike) -> bool:
    """Whether a place is the name of a repository of the hub, owner/name, and no local path."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(place))) and not os.path.exists(local_path(place))


def is_url(place: str | os.PathLike) -> bool:
    """Whether a place is the address of a page of the web."""
    return bool(re.match("https?://", str(place)))


def file_state(path: Path) -> list[Any]:
    """Size and modification time of a file."""
    return [path.stat().st_size, path.stat().st_mtime_ns]


def whole_number(text: str) -> int:
    """A position, also as spreadsheets write it: 1.0. Raises ValueError with the problem, to follow the row's place."""
    match = re.fullmatch(r"([+-]?\d{1,18})([.,]0{1,2})?", text.strip())
    if not match:
        raise ValueError(f": position must be a whole number, not {text[:40]!r}.")
    return int(match[1])


def read_utf8(path: Path, errors: str = "strict", newline: str | None = None) -> str:
    """A text file of the user: UTF-8, or UTF-16 if its first bytes say so. errors, newline: as for ``open``."""
    try:
        encoding = json.detect_encoding(path.read_bytes())
        with path.open(encoding=encoding, errors=errors, newline=newline) as text:
            return text.read()
    except (UnicodeDecodeError, OSError) as error:
        otherwise = "is not UTF-8 text: save it as UTF-8, or replace it by an intact copy"
        raise SourceError(f"{path} {explain(path, otherwise, error)}.") from error


def one_line(text: str) -> str:
    """A text without line breaks, control characters and lone surrogates, which tokenizers reject."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())
