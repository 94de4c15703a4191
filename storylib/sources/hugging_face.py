"""Any Hugging Face data set with one story per row: a column of picture sequences and a column of text sequences.

load_stories("hugging_face:owner/name?images=pictures&texts=captions")    from the hub
load_stories("hugging_face:path/to/folder?texts=captions")                train-*.parquet, test-*.parquet on disk
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from storylib.data.types import Frame, Story
from storylib.sources._checks import SourceError, leave_out, one_line
from storylib.sources._dataset_rows import HELD_OUT, Row, rows


def load(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    images: str = "images",
    texts: str = "texts",
    id: str | None = None,
    title: str | None = None,
    licence: str = "",
    credit: str = "",
    revision: str | None = None,
    strict: bool = False,
) -> list[Story]:
    """One story per row, in the data set's order; its own test and validation splits are kept.

    root: a repository of the hub, or a folder of Parquet files. images, texts: columns of sequences; the n-th picture
    belongs to the n-th text. id, title: columns of text. licence, credit: as on the data set's card.
    limit, revision: see ``rows``. strict: raise an error for sequences of unequal length; otherwise the longer one is
    cut with a warning.
    """
    if root is None:
        raise SourceError("Which data set? Call load_stories('hugging_face:<owner/name or folder of Parquet files>').")
    columns = [column for column in (texts, id, title) if column]
    stories = []
    for row in rows(root, columns, images, limit, revision):
        name = str(row.values[id]) if id else f"{row.split}-{row.number:05d}"
        captions = row.values[texts]
        if not isinstance(captions, list):
            kind = type(captions).__name__
            raise SourceError(f"{root}: the column {texts!r} holds {kind}, not sequences of texts; name another one.")
        if len(captions) != len(row.pictures):
            counts = f"{len(row.pictures)} pictures but {len(captions)} texts"
            leave_out(f"{root}, {row.split} row {row.number}: the surplus of {counts}; correct the row.", strict)
        frames = frames_of(row, [one_line(str(caption or "")) for caption in captions], strict)
        if frames:
            heading = one_line(str(row.values[title])) if title else name
            stories.append(Story(name, heading, frames, licence, credit, split=HELD_OUT.get(row.split, "train")))
    return stories


def frames_of(
    row: Row, texts: Sequence[str], strict: bool, attributes: Sequence[dict[str, Any]] | None = None
) -> tuple[Frame, ...]:
    """Frames of a row. One that lacks its picture or text is left out, and no window spans the gap."""
    frames = []
    for number, (picture, text) in enumerate(zip(row.pictures, texts, strict=False), 1):
        if picture is None:
            leave_out(f"{row.split} row {row.number}, picture {number}: the data set does not hold its bytes.", strict)
        elif text:
            frames.append(Frame(picture, text, number, attributes[number - 1] if attributes else None))
    return tuple(frames)
