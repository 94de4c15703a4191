"""Your own pictures, in the imagefolder convention of Hugging Face: a folder with metadata.jsonl or metadata.csv.

    {"file_name": "a/1.jpg", "text": "A dog wakes up.", "story_id": "a", "position": 1}

Neighbours in a story have positions that differ by one; a gap is a missing page. Optional columns: title, licence
and credit.
"""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from storylib.sources import SourceError
from storylib.stories import Frame, Story

COLUMNS = ("file_name", "text", "story_id", "position")


def load(limit: int | None = None, root: str | os.PathLike | None = None) -> list[Story]:
    """Stories in the order in which they first appear. root: the folder; by default STORYLIB_FOLDER."""
    place = root if root is not None else os.environ.get("STORYLIB_FOLDER")
    if not place:
        raise SourceError("Which folder? Say load_stories('folder:<path>'), or set STORYLIB_FOLDER to it.")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise SourceError(f"The folder {folder} does not exist.")
    files = [folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).is_file()]
    if not files:
        raise SourceError(f"{folder} needs a metadata.jsonl or metadata.csv with the columns {', '.join(COLUMNS)}.")
    pages: dict[str, dict[int, Frame]] = defaultdict(dict)
    about: dict[str, dict[str, str]] = {}
    for where, row in _rows(files[0]):
        name, text, story = (" ".join(str(row[column]).split()) for column in COLUMNS[:3])
        if not name or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
            raise SourceError(f"{where}: file_name {name!r} must be a path inside {folder}.")
        if not story:
            raise SourceError(f"{where}: story_id is empty.")
        try:
            position = int(str(row["position"]))
        except ValueError:
            raise SourceError(f"{where}: position must be a whole number, not {row['position']!r}.") from None
        if position in pages[story]:
            raise SourceError(f"{where}: story {story!r} already has a page at position {position}.")
        pages[story][position] = Frame(folder / name, text, position)
        facts = {key: str(row[key]).strip() for key in ("title", "licence", "credit") if row.get(key)}
        about[story] = facts | about.get(story, {})
    stories = []
    for story, frames in pages.items():
        # A page without text stays out; what is left of the story keeps its positions, so no window crosses the gap.
        kept = tuple(frames[position] for position in sorted(frames) if frames[position].text)
        if kept:
            facts = {"title": story} | about[story]
            stories.append(Story(story, facts["title"], kept, facts.get("licence", ""), facts.get("credit", "")))
    if not stories:
        raise SourceError(f"{files[0]} describes no page with a text.")
    return stories[:limit]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row with the place it stands at, and all wanted columns present."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text ({error}).") from error
    if path.suffix == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        rows = ((reader.line_num, row) for row in reader)
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        rows = ((number, _object(path, number, line)) for number, line in lines)
    for number, row in rows:
        missing = [column for column in COLUMNS if row.get(column) is None]
        if missing:
            wanted = f"Wanted: {', '.join(COLUMNS)}."
            raise SourceError(f"{path}, line {number}: the column {missing[0]!r} is missing. {wanted}")
        yield f"{path}, line {number}", row


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise SourceError(f"{path}, line {number} is not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise SourceError(f"{path}, line {number} is not a JSON object.")
    return row
