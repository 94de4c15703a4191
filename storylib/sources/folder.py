"""Your own pictures, in the imagefolder convention of Hugging Face: a folder with metadata.jsonl or metadata.csv.

    {"file_name": "a/1.jpg", "text": "A dog wakes up.", "story_id": "a", "position": 1}

Neighbours in a story have positions that differ by one; a gap is a missing page. Optional columns: title, licence
and credit. An example to start from, explained in its README.md: ``python -m storylib.sources.folder NEW_FOLDER``
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from storylib.sources import LONGEST, SourceError, leave_out, load_stories, one_line
from storylib.stories import Frame, Story

COLUMNS = ("file_name", "text", "story_id", "position")
OPTIONAL = ("title", "licence", "credit")
FOREIGN = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of bytes that are not UTF-8
NOT_UTF8 = " is not UTF-8 text: save the file as UTF-8 and load again."


def load(limit: int | None = None, root: str | os.PathLike | None = None, strict: bool = False) -> list[Story]:
    """Stories in the order in which they first appear. root: the folder; by default STORYLIB_FOLDER.

    strict: a row that cannot be used is an error; otherwise it is left out and named in the log.
    """
    place = root if root is not None else os.environ.get("STORYLIB_FOLDER")
    if not place:
        raise SourceError("Which folder? Say load_stories('folder:<path>'), or set STORYLIB_FOLDER to it.")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise SourceError(f"The folder {folder} does not exist.")
    files = [folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).is_file()]
    if not files:
        raise SourceError(
            f"{folder} needs a metadata.jsonl or metadata.csv with the columns {', '.join(COLUMNS)}. "
            "An example to start from: python -m storylib.sources.folder NEW_FOLDER"
        )
    pages: dict[str, dict[int, Frame]] = defaultdict(dict)
    about: dict[str, dict[str, str]] = {}
    for where, row in _rows(files[0]):
        problem = _problem(row, pages, folder)
        if problem:
            leave_out(f"{where}{problem}", strict)
            continue
        name, text, story = (one_line(str(row[column])) for column in COLUMNS[:3])
        position = int(str(row["position"]))
        pages[story][position] = Frame(folder / name, text, position)
        facts = {key: one_line(str(row[key])) for key in OPTIONAL if row.get(key)}
        about[story] = facts | about.get(story, {})
    stories = []
    for story, frames in pages.items():
        # A page without text stays out; what is left of the story keeps its positions, so no window crosses the gap.
        kept = tuple(frames[position] for position in sorted(frames) if frames[position].text)
        if kept:
            facts = {"title": story} | about[story]
            stories.append(Story(story, facts["title"], kept, facts.get("licence", ""), facts.get("credit", "")))
    if not stories:
        raise SourceError(f"{files[0]} describes no page with a text; with strict=True the first problem is an error.")
    return stories[:limit]


def _problem(row: Any, pages: dict[str, dict[int, Frame]], folder: Path) -> str | None:
    """Why a row cannot be used, in words that follow the place where it stands."""
    if isinstance(row, str):
        return row
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing:
        return f": the column {missing[0]!r} is missing. Wanted: {', '.join(COLUMNS)}."
    name, text, story = (one_line(str(row[column])) for column in COLUMNS[:3])
    if not name or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        return f": file_name {name!r} must be a path inside {folder}."
    if not story:
        return ": story_id is empty."
    if len(text) > LONGEST:
        return f": the text has {len(text):,} characters, more than {LONGEST:,}: shorten or divide it."
    try:
        position = int(str(row["position"]))
    except ValueError:
        return f": position must be a whole number, not {str(row['position'])[:40]!r}."
    if position in pages[story]:
        return f": story {story!r} already has a page at position {position}."
    return None


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with the place it stands at; a text instead of a row says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")  # a bad line is named, the others read
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): give yourself permission (chmod u+r).") from error
    if path.suffix == ".csv":
        csv.field_size_limit(2**31 - 1)  # else a long text stops the reader; it is named and left out by its row
        reader = csv.DictReader(text.splitlines(keepends=True))
        try:
            for row in reader:
                bad = any(FOREIGN.search(cell) for cell in row.values() if isinstance(cell, str))
                yield f"{path}, line {reader.line_num}", NOT_UTF8 if bad else row
        except csv.Error as error:
            raise SourceError(f"{path}, line {reader.line_num} is not CSV ({error}): mend the line.") from error
    else:
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield f"{path}, line {number}", NOT_UTF8 if FOREIGN.search(line) else _object(line)


def _object(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f" is not JSON ({error})."
    return row if isinstance(row, dict) else " is not a JSON object."


README = """# A folder of stories for storylib

Replace these stories by your own: pictures of any kind that Pillow reads (JPEG, PNG, WebP, GIF, TIFF ...), in folders
as you like, and one row for each page in `metadata.csv`, which any spreadsheet opens (save it as CSV, UTF-8).

| column | what to write |
|---|---|
| file_name | where the picture is, seen from this folder: `{example}` |
| text | what the page says |
| story_id | the same for all pages of one story, and for no other |
| position | 1, 2, 3, ... in the order of the story; a number that is left out is a missing page |
| title, licence, credit | may stay empty; the first row of a story is enough |

Instead of `metadata.csv` you may write `metadata.jsonl`, one JSON object a line, with the same names. If there are
both, `metadata.jsonl` is read.

To predict a page, the four before it are shown: a story needs five pages or more. At least three stories are needed for
training, validation and test to have one each; a few hundred for results that mean something.

    import storylib
    stories = storylib.load_stories("folder:path/to/this/folder", strict=True)

With `strict=True` whatever is wrong is an error that says where it stands and what to do; without it, such pages are
left out and named in the log.
"""


def write_template(folder: Path) -> Path:
    """A new folder with three Storyworld stories, their metadata.csv and a README.md that explains every column."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SourceError(f"{folder} is there already; name a new or empty folder, so that nothing is overwritten.")
    rows = []
    for number, story in enumerate(load_stories("storyworld", limit=3), 1):
        for frame in story.frames:
            name = f"story-{number}/{frame.page}.png"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(frame.image, folder / name)  # type: ignore[arg-type]  # Storyworld's pictures are files
            facts = (story.title, story.licence, story.credit) if frame.page == 1 else ("", "", "")
            rows.append([name, frame.text, f"story-{number}", frame.page, *facts])
    with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*COLUMNS, *OPTIONAL], *rows])
    (folder / "README.md").write_text(README.format(example=rows[0][0]), encoding="utf-8")
    return folder


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m storylib.sources.folder NEW_FOLDER\n\nWrites an example folder to start from.")
        return 0 if arguments in (["-h"], ["--help"]) else 2
    try:
        folder = write_template(Path(arguments[0]).expanduser())
    except (SourceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"Three example stories are in {folder}; its README.md says how to put yours there instead.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
