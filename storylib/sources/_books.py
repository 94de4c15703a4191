"""Picture books that have one text file each: read one after the other, with a reason for each that stays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from storylib.data.types import Story
from storylib.sources._checks import SourceError, leave_out, log, report_empty


def read_books(
    texts: Mapping[str, Path], read: Callable[[Path], Story | str], none: str, limit: int | None, strict: bool
) -> list[Story]:
    """Books without their pages that have no text, at most ``limit``.

    texts: the text file of each book, by its name in the log. read: the book with all its pages, or why it cannot be
    used; it is dropped then, whatever ``strict`` is. strict: raise SourceError for a page without a text, and for what
    ``read`` raises. none: the error if no book can be used.
    """
    stories: list[Story] = []
    dropped: list[str] = []
    empty: list[str] = []
    for name, path in texts.items():
        if len(stories) == limit:
            break
        try:
            story = read(path)
        except SourceError as error:
            leave_out(str(error), strict)
            continue
        if isinstance(story, Story) and not any(frame.text for frame in story.frames):
            story = "no page has a text"
        if isinstance(story, Story):
            empty += [f"{path}, page {frame.number}" for frame in story.frames if not frame.text]
            stories.append(replace(story, frames=tuple(frame for frame in story.frames if frame.text)))
        else:
            dropped.append(f"{name}: {story}")
            log.info("dropped %s", dropped[-1])
    report_empty(empty, strict)
    if dropped:
        log.warning("%d of %d stories were dropped; the reasons are logged at level INFO", len(dropped), len(texts))
    if not stories:
        raise SourceError(f"{none}{f' The first was dropped: {dropped[0]}.' if dropped else ''}")
    return stories
