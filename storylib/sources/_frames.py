"""Rows of data put together to stories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from storylib.data.types import Frame, Story
from storylib.sources._checks import SourceError, leave_out


def build(
    rows: Iterable[tuple[str, Any]], read: Callable[[Any], Story], strict: bool, join: bool = True
) -> list[Story]:
    """Stories in the order in which they first appear, without the frames that lack a text or a picture.

    rows: each with its place in the data. read: the part of a story that a row holds; it may raise ValueError with a
    problem that follows the place. join: parts with the same id are one story, which takes its title, licence and
    credit from the first part that has one; otherwise each row is a story.
    """
    frames: dict[Any, dict[int, Frame]] = defaultdict(dict)  # by story, then by position
    facts: dict[Any, dict[str, Any]] = defaultdict(dict)
    empty = []
    for place, row in rows:
        try:
            part = read(row)
        except SourceError:
            raise
        except ValueError as problem:
            leave_out(f"{place}{problem}", strict)
            continue
        story = (part.split, part.id) if join else place
        facts[story] = {name: value for name, value in vars(part).items() if value} | facts[story]
        for frame in part.frames:
            if frame.image is None:
                leave_out(f"{place}, frame {frame.number}: the data set does not hold its picture; embed it.", strict)
            elif frame.number in frames[story]:
                leave_out(f"{place}: story {part.id!r} already has a frame at position {frame.number}.", strict)
            else:
                frames[story][frame.number] = frame
                empty += [] if frame.text else [f"{place}, frame {frame.number}"]
    if empty:
        leave_out(f"frames without a text: {len(empty):,}, the first is {empty[0]}: write one, or remove it.", strict)
    stories = []
    for story, numbered in frames.items():
        kept = tuple(numbered[number] for number in sorted(numbered) if numbered[number].text)
        if kept:
            stories.append(Story(**{"title": facts[story]["id"]} | facts[story] | {"frames": kept}))
    return stories
