"""Where stories come from. Every public module of this package is a source: its function ``load`` returns stories."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any
from urllib.parse import parse_qsl

from storylib.data.inspection import inspect as inspect_pictures
from storylib.data.types import Story
from storylib.sources._checks import LONGEST_TEXT, SourceError, check_known, leave_out
from storylib.sources._checks import one_line as one_line


def source_names() -> list[str]:
    """The names of all sources. None of them is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load_stories(
    source: str = "storyworld", limit: int | None = None, strict: bool = False, **options: Any
) -> list[Story]:
    """Stories of a source. Their pictures can be read, their texts are not too long, and no two share an id.

    source: one of ``source_names``. "folder:<path>" and "african_storybook:<path>" say where the stories are, and
    options may follow, as in "hugging_face:<path or repository>?images=pictures&texts=captions".
    limit: at most this many stories. strict: raise SourceError for anything that cannot be used; otherwise it is left
    out with a warning. options: those of the source, see ``load`` in its module.
    """
    name, options_in_name = name_and_options(source)
    options = options_in_name | options
    load = importlib.import_module(f"{__name__}.{name}").load
    parameters = inspect.signature(load).parameters
    if "strict" in parameters:
        options["strict"] = strict
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_known("option", options, parameters, f"The source {name!r}: ")
    stories = _usable(load(limit=limit, **options), strict)
    if not stories:
        raise SourceError(f"The source {source!r} has no frame with a readable picture; see the warnings in the log.")
    return stories


def name_and_options(source: str) -> tuple[str, dict[str, str]]:
    """The parts of "name:root?option=value"."""
    name, _, location = source.partition(":")
    check_known("source", [name], source_names())
    root, _, query = location.partition("?")
    options = dict(parse_qsl(query))
    if root:
        options["root"] = root
    return name, options


def _usable(stories: list[Story], strict: bool) -> list[Story]:
    """Without repeated story ids and frames that cannot be used; no window spans the gap of a missing frame."""
    pictures = iter(inspect_pictures([frame.image for story in stories for frame in story.frames]))
    ids: set[str] = set()
    kept = []
    for story in stories:
        errors = [next(pictures).error for _ in story.frames]
        if story.id in ids:
            leave_out(f"a second story with the id {story.id!r}, {story.title!r}: give each story its own id.", strict)
            continue
        ids.add(story.id)
        frames = []
        for frame, error in zip(story.frames, errors, strict=True):
            if len(frame.text) > LONGEST_TEXT:
                length = f"{len(frame.text):,} characters, more than {LONGEST_TEXT:,}"
                error = f"the text of {frame.image} has {length}: shorten or divide it"
            if error:
                leave_out(f"frame {frame.number} of story {story.id!r}: {error}.", strict)
            else:
                frames.append(frame)
        if frames:
            kept.append(dataclasses.replace(story, frames=tuple(frames)))
    return kept
