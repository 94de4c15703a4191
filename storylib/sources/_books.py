"""Rows of data put together to stories; picture books of public repositories: where they lie, why one is left out."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from storylib.config import environment_folder, project_root
from storylib.data.download import Archive, github_archive
from storylib.data.store import cache_entry
from storylib.data.types import Frame, Story
from storylib.sources._checks import SourceError, leave_out, log


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


def find_root(source: str, archives: Sequence[Archive], root: str | os.PathLike | None = None) -> Path:
    """``root``, else STORYLIB_<SOURCE>, else ../shared/data/<source> beside the project, else a download in the cache.

    The cache gets one folder for each archive, and only what it lacks is downloaded. Raises StoreError.
    """
    folder = Path(root).expanduser() if root is not None else environment_folder(_variable(source))
    beside = project_root().parent / "shared" / "data" / source
    if folder or beside.is_dir():
        return folder or beside
    key = [[archive.repository, archive.commit, archive.members] for archive in archives]
    cached = cache_entry(source, "unpacked", key, "data.download")
    offline = (
        f"Without network, copy {', '.join(archive.name for archive in archives)} into one folder "
        f"and set {_variable(source)} to it, or use the source 'storyworld', which needs no download."
    )
    for archive in archives:
        github_archive(archive, cached / archive.name, offline)
    return cached


def read_books(
    texts: Mapping[str, Path], read: Callable[[Path], Story | str], none: str, limit: int | None, strict: bool
) -> list[Story]:
    """At most ``limit`` books, without their pages that have no text.

    texts: the text file of each book, by its name in the log. read: the book with all its pages, or why it is dropped,
    whatever ``strict`` is. strict: raise SourceError for a page without a text, and for what ``read`` raises. none: the
    error if no book can be used.
    """
    dropped: list[str] = []

    def books() -> Iterator[tuple[str, Story]]:
        for name, path in texts.items():
            try:
                story = read(path)
            except SourceError as error:
                leave_out(str(error), strict)
                continue
            if isinstance(story, Story) and any(frame.text for frame in story.frames):
                yield str(path), story
            else:
                dropped.append(f"{name}: {'no page has a text' if isinstance(story, Story) else story}")
                log.info("dropped %s", dropped[-1])

    stories = build(islice(books(), limit), lambda story: story, strict, join=False)
    if dropped:
        log.warning("%d of %d stories were dropped; the reasons are logged at level INFO", len(dropped), len(texts))
    if not stories:
        raise SourceError(f"{none}{f' The first was dropped: {dropped[0]}.' if dropped else ''}")
    return stories


def wrong_layout(source: str, problem: str, expected: str) -> SourceError:
    """The error for a root without the layout of a source. problem, expected: "... does not exist", "a/NN.jpg"."""
    return SourceError(
        f"{problem}. Expected {expected}. Set {_variable(source)} to a folder with that, or unset it "
        "for the copy beside the project or a download."
    )


def _variable(source: str) -> str:
    return f"STORYLIB_{source.upper()}"
