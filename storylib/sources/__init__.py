"""Where stories come from. A source is a function that returns stories; they all return the same thing."""

from __future__ import annotations

import dataclasses
import importlib
import inspect as signatures
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

import pandas as pd

from storylib.config import unknown
from storylib.pictures import PictureError, inspect
from storylib.stories import Story

log = logging.getLogger(__name__)

# name -> module with a function load(limit, **options) -> list[Story]; imported only when asked for
SOURCES: dict[str, str] = {
    "storyworld": "storylib.sources.storyworld",
    "african_storybook": "storylib.sources.african_storybook",
    "story_reasoning": "storylib.sources.story_reasoning",
    "hugging_face": "storylib.sources.hugging_face",
    "folder": "storylib.sources.folder",
}
LONGEST = 50_000  # characters of a page's text; the longest whole story of StoryReasoning has half of it


class SourceError(ValueError):
    """A source that is unknown, empty, missing or not what it should be; the message says what to do."""


def load_stories(
    source: str = "storyworld", limit: int | None = None, strict: bool = False, **options: Any
) -> list[Story]:
    """Stories of a source, with every picture known to be readable, every text usable and every id its own.

    source: a name of SOURCES; "folder:<path>" and "african_storybook:<path>" say where it is, and options may follow:
    "hugging_face:<path or repository>?images=pictures&texts=captions".
    limit: at most this many stories. strict: whatever cannot be used is an error; otherwise it is left out, named in
    the log and counted. options: the source's own (see its module).
    """
    name, named = name_and_options(source)
    options = named | options
    load: Callable[..., list[Story]] = importlib.import_module(SOURCES[name]).load
    known = signatures.signature(load).parameters
    if "strict" in known:  # the made-up worlds have nothing that could be wrong
        options["strict"] = strict
    if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        for option in options:
            if option not in known:
                raise SourceError(f"{unknown('option', option, known)} (source {name!r})")
    stories = without_broken_pictures(_sound(load(limit=limit, **options), strict), strict)
    if not stories:
        raise SourceError(
            f"The source {source!r} has no page with a readable picture; the log names what was left out."
        )
    return stories


def name_and_options(source: str) -> tuple[str, dict[str, str]]:
    """What "name:root?option=value" stands for."""
    name, _, rest = source.partition(":")
    if name not in SOURCES:
        raise SourceError(unknown("source", name, SOURCES))
    root, _, query = rest.partition("?")
    return name, dict(parse_qsl(query)) | ({"root": root} if root else {})


def credits(stories: Sequence[Story]) -> pd.DataFrame:
    """Whom the stories are owed to: one row for each licence and credit, with the titles that have them."""
    owed: dict[tuple[str, str], list[str]] = {}
    for story in stories:
        owed.setdefault((story.licence, story.credit), []).append(story.title)
    rows = [
        {
            "licence": licence,
            "credit": credit,
            "stories": len(titles),
            "titles": "; ".join(titles[:5]) + "; …" * (len(titles) > 5),
        }
        for (licence, credit), titles in owed.items()
    ]
    return pd.DataFrame(rows)


def leave_out(problem: str, strict: bool) -> None:
    """Something that a source cannot use: an error if ``strict``, otherwise a line in the log."""
    if strict:
        raise SourceError(f"{problem} (With strict=False it would be left out.)")
    log.warning("left out: %s", problem)


def one_line(text: str) -> str:
    """A text without line breaks, control characters and halves of surrogate pairs, which tokenizers cannot take."""
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+", " ", text).split())


def _sound(stories: Sequence[Story], strict: bool) -> list[Story]:
    """Without stories whose id is taken and pages whose text is no page's."""
    seen: set[str] = set()
    kept = []
    for story in stories:
        if story.id in seen:
            leave_out(f"a second story with the id {story.id!r}, {story.title!r}: give each story its own id.", strict)
            continue
        seen.add(story.id)
        for frame in story.frames:
            if len(frame.text) > LONGEST:
                size = f"its text has {len(frame.text):,} characters, more than {LONGEST:,}"
                leave_out(f"{story.id}, page {frame.page} ({frame.image}): {size}: shorten or divide it.", strict)
        frames = tuple(f for f in story.frames if len(f.text) <= LONGEST)
        if frames:
            kept.append(story if len(frames) == len(story.frames) else dataclasses.replace(story, frames=frames))
    return kept


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
