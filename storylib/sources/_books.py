"""Picture books of public repositories, one text file each: where they lie, and why one of them is left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from storylib.config import environment_folder, project_root
from storylib.data.download import Archive, github_archive
from storylib.data.store import cache_entry
from storylib.data.types import Story
from storylib.sources._checks import SourceError, leave_out, log
from storylib.sources._frames import build


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
