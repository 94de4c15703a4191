"""Where stories come from. A source is a function that returns stories; they all return the same thing."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from storylib.config import unknown
from storylib.pictures import PictureError, inspect
from storylib.stories import Story

log = logging.getLogger(__name__)

# name -> module with a function load(limit, **options) -> list[Story]; imported only when asked for
SOURCES: dict[str, str] = {
    "storyworld": "storylib.sources.storyworld",
    "african_storybook": "storylib.sources.african_storybook",
    "folder": "storylib.sources.folder",
}


class SourceError(ValueError):
    """A source that is unknown, empty, missing or not what it should be; the message says what to do."""


def load_stories(
    source: str = "storyworld", limit: int | None = None, strict: bool = False, **options: Any
) -> list[Story]:
    """Stories of a source, with every picture known to be readable.

    source: a name of SOURCES; "folder:<path>" and "african_storybook:<path>" say where it is.
    limit: at most this many stories. strict: a picture that cannot be read is an error; otherwise its page is left
    out, named in the log and counted. options: the source's own (see its module).
    """
    name, _, root = source.partition(":")
    if name not in SOURCES:
        raise SourceError(unknown("source", name, SOURCES))
    if root:
        options["root"] = root
    load: Callable[..., list[Story]] = importlib.import_module(SOURCES[name]).load
    stories = without_broken_pictures(load(limit=limit, **options), strict)
    if not stories:
        raise SourceError(
            f"The source {source!r} has no page with a readable picture; the log names what was left out."
        )
    return stories


def without_broken_pictures(stories: Sequence[Story], strict: bool = False) -> list[Story]:
    """Drop the pages whose pictures cannot be read; windows never reach across such a gap."""
    looked = iter(inspect([f.image for s in stories for f in s.frames]))
    kept, broken = [], []
    for story in stories:
        good = []
        for frame in story.frames:
            error = next(looked).error
            if error is None:
                good.append(frame)
            else:
                broken.append(f"{story.id}, page {frame.page}: {error}")
        if good:
            kept.append(dataclasses.replace(story, frames=tuple(good)) if len(good) < len(story.frames) else story)
    if broken and strict:
        way_out = "Mend or delete the file, or load with strict=False."
        raise PictureError(f"{broken[0]}\n{len(broken)} broken in all. {way_out}")
    for line in broken:
        log.warning("left out: %s", line)
    if broken:
        log.warning("%d pages were left out because their pictures cannot be read", len(broken))
    return kept
