"""Checks that sources share, without anything that reads a story, so that caches may depend on this code alone."""

from __future__ import annotations

import logging
import re

log = logging.getLogger("storylib.sources")

LONGEST_TEXT = 50_000  # characters of one frame's text; the longest whole story of StoryReasoning has half as many


class SourceError(ValueError):
    """A source that is unknown, empty, missing or malformed; the message says what to do."""


def leave_out(problem: str, strict: bool) -> None:
    """Report something that a source cannot use: raise SourceError if ``strict``, otherwise log a warning."""
    if strict:
        raise SourceError(f"{problem} (With strict=False it would be left out.)")
    log.warning("left out: %s", problem)


def one_line(text: str) -> str:
    """A text without line breaks, control characters and lone surrogates, which tokenizers reject."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())
