"""Where stories come from. Every public module of this package is a source: its function ``load`` returns stories."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from storylib.config import digest
from storylib.data.inspection import inspect as inspect_pictures
from storylib.data.types import Story
from storylib.sources._checks import SourceError, check_known, file_state, is_repository, is_url, leave_out, local_path
from storylib.sources._checks import one_line as one_line

LONGEST_TEXT = 50_000  # characters of one frame's text; the longest whole story of StoryReasoning has half as many


def source_names() -> list[str]:
    """The names of all sources. None of them is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load_stories(
    source: str = "storyworld", limit: int | None = None, strict: bool = False, **options: Any
) -> list[Story]:
    """Stories of a source. Their pictures can be read, their texts are not too long, and no two share an id.

    source: one of ``source_names``. "folder:<path>" and "african_storybook:<path>" say where the stories are; without
    a path, STORYLIB_FOLDER and STORYLIB_AFRICAN_STORYBOOK do. Options may follow, as in
    "hugging_face:<path or repository>?images=pictures&texts=captions"; a path that exists is never cut at its "?".
    limit: at most this many stories. strict: raise SourceError for anything that cannot be used; otherwise it is left
    out with a warning. options: of the source, see ``load`` in its module; every source has ``licences``, as in
    "picture_books:?licences=CC-BY,CC-BY 4.0", and then only stories under one of them.
    """
    name, options_in_name = name_and_options(source)
    options = options_in_name | options
    licences = [licence.strip() for licence in options.pop("licences", "").split(",") if licence.strip()]
    load = importlib.import_module(f"{__name__}.{name}").load
    parameters = inspect.signature(load).parameters
    if "strict" in parameters:
        options["strict"] = strict
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        check_known("option", options, parameters.keys() - {"limit"}, f"The source {name!r}: ")
    stories = load(limit=None if licences else limit, **options)
    if licences:
        check_known("licence", licences, {story.licence for story in stories}, f"The source {name!r}: ")
        stories = [story for story in stories if story.licence in licences][:limit]
    stories = _usable(stories, strict)
    if not stories:
        raise SourceError(f"The source {source!r} has no frame with a text and a picture; the log says why.")
    return stories


def name_and_options(source: str) -> tuple[str, dict[str, str]]:
    """The name of a source and its options; among them root, its place, which the environment may name instead."""
    name, place, query = _parts(source)
    place = place or _absolute(os.environ.get(f"STORYLIB_{name.upper()}", ""))
    options = dict(parse_qsl(query.replace("+", "%2B")))  # a plus is no space
    return name, options | ({"root": place} if place else {})


def absolute_source(source: str) -> str:
    """The same source for whatever folder one is in: a local place as an absolute path, a hub name as it is."""
    name, place, query = _parts(source)
    return name + (f":{place}" if place or query else "") + (f"?{query}" if query else "")


def source_fingerprint(source: str) -> str:
    """Changes when a file of a local source is replaced, added or removed; empty for what is drawn or downloaded."""
    name, options = name_and_options(source)
    module, root = importlib.import_module(f"{__name__}.{name}"), options.get("root", "")
    if not hasattr(module, "files") or not root or is_url(root) or is_repository(root):
        return ""
    return digest([[str(path), *file_state(path)] for path in module.files(Path(root))])


def _parts(source: str) -> tuple[str, str, str]:
    """Name, absolute place and options of "name:place?option=value". A place that exists is not cut at its "?"."""
    if not isinstance(source, str):
        raise SourceError(f"A source is a text, such as 'folder:<path>', not {source!r}.")
    name, _, place = source.partition(":")
    check_known("source", [name], source_names())
    head, mark, query = place.rpartition("?")
    if is_url(place):
        return name, place, ""
    if mark and not os.path.exists(local_path(place)) and re.fullmatch(r"(\w+=[^&]*(&|$))*", query):
        return name, _absolute(head), query
    return name, _absolute(place), ""


def _absolute(place: str) -> str:
    return place if not place or is_url(place) or is_repository(place) else str(local_path(place))


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
                error = f"its text has {len(frame.text):,} characters, more than {LONGEST_TEXT:,}: shorten or divide it"
            if error:
                leave_out(f"frame {frame.number} of story {story.id!r}: {error}.", strict)
            else:
                frames.append(frame)
        if frames:
            kept.append(dataclasses.replace(story, frames=tuple(frames)))
    return kept
