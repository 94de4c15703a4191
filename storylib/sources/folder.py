"""Your own pictures, in the imagefolder convention of Hugging Face: a folder with metadata.jsonl or metadata.csv. ::

    {"file_name": "a/1.jpg", "text": "A dog wakes up.", "story_id": "a", "position": 1}

Consecutive frames of a story have positions that differ by one; a gap is a missing frame. Optional columns: title,
licence and credit. ``storylib new-folder NEW_FOLDER`` writes an example, explained in its README.md.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from storylib.data.types import Frame, Story
from storylib.sources import load_stories
from storylib.sources._checks import LONGEST_TEXT, SourceError, leave_out, one_line, read_utf8

COLUMNS = ("file_name", "text", "story_id", "position")
OPTIONAL = ("title", "licence", "credit")
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" turns bytes into that are not UTF-8
README = Path(__file__).with_name("folder_readme.md")  # of a new folder


def load(limit: int | None = None, root: str | os.PathLike | None = None, strict: bool = False) -> list[Story]:
    """Stories in the order in which they first appear. root: the folder; by default STORYLIB_FOLDER.

    strict: raise an error for a row that cannot be used; otherwise it is left out with a warning.
    """
    location = root or os.environ.get("STORYLIB_FOLDER")
    if not location:
        raise SourceError("Which folder? Call load_stories('folder:<path>'), or set STORYLIB_FOLDER.")
    folder = Path(location).expanduser()
    if not folder.is_dir():
        raise SourceError(f"The folder {folder} does not exist.")
    files = [folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).is_file()]
    if not files:
        raise SourceError(
            f"{folder} needs a metadata.jsonl or metadata.csv with the columns {', '.join(COLUMNS)}. "
            "To get an example: storylib new-folder NEW_FOLDER"
        )
    frames: dict[str, dict[int, Frame]] = defaultdict(dict)  # by story and position
    facts: dict[str, dict[str, str]] = {}  # title, licence and credit by story
    for place, row in _rows(files[0]):
        try:
            story, frame, facts_of_row = _read_row(row, folder)
            if frame.number in frames[story]:
                raise ValueError(f": story {story!r} already has a frame at position {frame.number}.")
        except ValueError as problem:
            leave_out(f"{place}{problem}", strict)
            continue
        frames[story][frame.number] = frame
        facts[story] = facts_of_row | facts.get(story, {})
    stories = []
    for story, by_position in frames.items():
        # A frame without text is left out. The others keep their positions, so no window spans the gap.
        kept = tuple(by_position[position] for position in sorted(by_position) if by_position[position].text)
        if kept:
            title, licence, credit = (facts[story].get(key, "") for key in OPTIONAL)
            stories.append(Story(story, title or story, kept, licence, credit))
    if not stories:
        raise SourceError(f"{files[0]} describes no frame with a text; strict=True reports the first problem.")
    return stories[:limit]


def _read_row(row: Any, folder: Path) -> tuple[str, Frame, dict[str, str]]:
    """Story id, frame and optional columns of a row. Raises ValueError with the problem, to follow the row's place."""
    cells = row.values() if isinstance(row, dict) else [row]
    if any(NOT_UTF8.search(str(cell)) for cell in cells):
        raise ValueError(" is not UTF-8 text: save the file as UTF-8 and load again.")
    if isinstance(row, str):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise ValueError(f" is not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise ValueError(" is not a JSON object.")
    for column in COLUMNS:
        if row.get(column) is None:
            raise ValueError(f": the column {column!r} is missing. Expected: {', '.join(COLUMNS)}.")
    name, text, story, position = (one_line(str(row[column])) for column in COLUMNS)
    if not name or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise ValueError(f": file_name {name!r} must be a path inside {folder}.")
    if not story:
        raise ValueError(": story_id is empty.")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f": the text has {len(text):,} characters, more than {LONGEST_TEXT:,}: shorten or divide it.")
    if not re.fullmatch(r"[+-]?\d{1,18}", position):
        raise ValueError(f": position must be a whole number, not {position[:40]!r}.")
    facts = {key: one_line(str(row[key])) for key in OPTIONAL if row.get(key)}
    return story, Frame(folder / name, text, int(position)), facts


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Pairs of a place in the file and its row: a dictionary, or a line of JSON."""
    text = read_utf8(path, errors="surrogateescape")  # bytes that are not UTF-8 concern only their own line
    if path.suffix == ".csv":
        csv.field_size_limit(2**31 - 1)  # otherwise the reader stops at a long text, which is reported with its row
        reader = csv.DictReader(text.splitlines(keepends=True))
        try:
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num} is not CSV ({error}): correct the line.") from error
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{path}, line {number}", line


def write_template(folder: Path) -> Path:
    """A new folder with three Storyworld stories, their metadata.csv and a README.md that explains every column."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SourceError(f"{folder} already exists; name a new or empty folder, so that nothing is overwritten.")
    rows: list[list[Any]] = []
    for number, story in enumerate(load_stories("storyworld", limit=3), 1):
        for frame in story.frames:
            name = f"story-{number}/{frame.number}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(frame.image, folder / name)  # type: ignore[arg-type]  # Storyworld's pictures are files
            rows.append([name, frame.text, f"story-{number}", frame.number, story.title, story.licence, story.credit])
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*COLUMNS, *OPTIONAL], *rows])
    readme = README.read_text(encoding="utf-8").replace("EXAMPLE", rows[0][0])
    (folder / "README.md").write_text(readme, encoding="utf-8")
    return folder
