"""Any Hugging Face data set of stories: a column of picture sequences and one of text sequences, one story per row.

load_stories("hugging_face:owner/name?images=pictures&texts=captions")    from the hub
load_stories("hugging_face:path/to/folder?texts=captions")                train-*.parquet, test-*.parquet on disk
load_stories("hugging_face:owner/name?story=book&position=page")          one picture and one text per row
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from storylib.data.types import Frame, Story
from storylib.sources._books import build
from storylib.sources._checks import SourceError, leave_out, one_line, whole_number
from storylib.sources._dataset_rows import HELD_OUT, Row, rows
from storylib.sources._dataset_rows import parquet_paths as files  # noqa: F401  # for the fingerprint of the source


def load(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    images: str = "images",
    texts: str = "texts",
    id: str | None = None,
    title: str | None = None,
    story: str | None = None,
    position: str | None = None,
    licence: str = "",
    credit: str = "",
    revision: str | None = None,
    config: str | None = None,
    strict: bool = False,
) -> list[Story]:
    """One story per row, in the data set's order; its own test and validation splits are kept.

    root: a repository of the hub, a folder of Parquet files, or one file. images, texts: columns of sequences; the n-th
    picture belongs to the n-th text. id, title: columns of text. licence, credit: as on the data set's card.
    story: for a data set with one picture per row, the column that names its story; position: the column of its number
    there, otherwise their order counts. limit, revision, config: see ``rows``; with ``story``, all rows are read.
    strict: raise an error for sequences of unequal length and for nulls; otherwise the surplus and nulls are left out.
    """
    if root is None:
        raise SourceError("Which data set? Call load_stories('hugging_face:<owner/name or folder of Parquet files>').")
    counts: Counter[str] = Counter()  # rows of each story

    def read(row: Row) -> Story:
        captions, name, number = row.values[texts], _name(row, story or id), 1
        values = captions if isinstance(captions, list) and not story else [captions]
        frame_texts = [_text(row, texts, value) for value in values]
        counts[name] += 1
        for column, null in ((texts, captions is None), (story, not name)):
            if column and null:
                raise ValueError(f": {column!r} is null; fill it, or remove the row.")
        if story:
            number = whole_number(_name(row, position)) if position else counts[name]
        elif isinstance(captions, str):
            problem = f"{row.place}: this data set has one picture or text per row, not one story"
            raise SourceError(f"{problem}; name the column of the story by story=COLUMN.")
        if len(frame_texts) != len(row.pictures):
            counted = f"{len(row.pictures)} pictures but {len(frame_texts)} texts"
            leave_out(f"{row.place}: the surplus of {counted}; correct the row.", strict)
        pages = enumerate(zip(row.pictures, frame_texts, strict=False), number)
        frames = tuple(Frame(picture, text, place) for place, (picture, text) in pages)
        name = name or f"{row.split}-{row.number:05d}"
        return Story(name, _name(row, title), frames, licence, credit, split=HELD_OUT.get(row.split, "train"))

    columns = [column for column in (texts, id, title, story, position) if column]
    if images in columns:
        raise SourceError(f"{root}: the column {images!r} holds the pictures; name others for texts and stories.")
    table = rows(root, columns, images, None if story else limit, revision, config)
    return build(((row.place, row) for row in table), read, strict, join=bool(story))[:limit]


def _text(row: Row, column: str, value: Any) -> str:
    """A text on one line, empty for null. Raises SourceError for a column of anything else."""
    if value is None or isinstance(value, str):
        return one_line(value or "")
    kind = f"the fields {', '.join(value)}" if isinstance(value, dict) else type(value).__name__
    raise SourceError(f"{row.place}: {column!r} holds {kind}, not texts; name a column of plain texts.")


def _name(row: Row, column: str | None) -> str:
    """An id, a title or a position on one line; empty for null and for NaN, which pandas writes in its place."""
    value = row.values[column] if column else None
    return "" if value is None or value != value else one_line(str(value))
