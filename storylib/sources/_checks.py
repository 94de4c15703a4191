"""Checks that sources share, without anything that reads a story, so that caches may depend on this code alone."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storylib.config import unknown

log = logging.getLogger("storylib.sources")

LONGEST_TEXT = 50_000  # characters of one frame's text; the longest whole story of StoryReasoning has half as many


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


def read_utf8(path: Path, errors: str = "strict") -> str:
    """A text file of the user, with or without a byte order mark. errors: for bytes that are not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig", errors=errors)
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text: save it as UTF-8, or replace it by an intact copy.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give yourself permission (chmod u+r).") from error


def one_line(text: str) -> str:
    """A text without line breaks, control characters and lone surrogates, which tokenizers reject."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())
