"""Your own pictures, in the imagefolder convention of Hugging Face: a folder with metadata.jsonl or metadata.csv. ::

    {"file_name": "a/1.jpg", "text": "A dog wakes up.", "story_id": "a", "position": 1}

Consecutive frames of a story have positions that differ by one; a gap is a missing frame. Optional columns: title,
licence and credit. A table may come from any spreadsheet: commas, semicolons or tabs, UTF-8 or UTF-16, capitals and
spaces in the head, 1.0 for 1.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any
from unicodedata import normalize
from urllib.parse import unquote

from storylib.data.files import explain
from storylib.data.types import Frame, Story
from storylib.sources._books import build
from storylib.sources._checks import SourceError, local_path, one_line, read_utf8, whole_number

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.txt")  # the first that exists is read
COLUMNS = ("file_name", "text", "story_id", "position")
OPTIONAL = ("title", "licence", "credit")
SEPARATORS = ",;\t|"
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what "surrogateescape" turns bytes into that are not UTF-8


def load(limit: int | None = None, root: str | os.PathLike | None = None, strict: bool = False) -> list[Story]:
    """Stories in the order in which they first appear. root: the folder, or the table in it.

    strict: raise an error for a row that cannot be used; otherwise it is left out with a warning.
    """
    if not root:
        raise SourceError("Which folder? Call load_stories('folder:<path>'), or set STORYLIB_FOLDER.")
    table = _table(local_path(root))
    return build(_rows(table), partial(_read, table.parent), strict)[:limit]


def files(root: Path) -> list[Path]:
    """The table and every picture that it names, if there is such a file."""
    table = _table(root)
    paths = [table]
    for _, row in _rows(table):
        with suppress(ValueError):
            paths.append(_picture(table.parent, _cell(row, "file_name")))
    return [path for path in paths if os.path.exists(path)]


def _table(root: Path) -> Path:
    """The table of a folder, or the table itself."""
    if os.path.isfile(root):
        return root
    if not os.path.isdir(root):
        raise SourceError(f"The folder {root} does not exist, or you may not open it.")
    tables = [path for path in root.glob("*") if path.name.lower() in TABLES]
    if not tables:
        raise SourceError(
            f"{root} needs a metadata.jsonl or metadata.csv with the columns {', '.join(COLUMNS)}, "
            'such as {"file_name": "a/1.jpg", "text": "A dog wakes up.", "story_id": "a", "position": 1}'
        )
    return min(tables, key=lambda path: TABLES.index(path.name.lower()))


def _rows(table: Path) -> Iterator[tuple[str, Any]]:
    """The place and the content of each row: cells by column, or the problem as a ValueError."""
    # Bytes that are not UTF-8 concern only their own line. Without translation, a cell keeps all that it contains.
    lines = list(io.StringIO(read_utf8(table, errors="surrogateescape", newline=""), newline=""))
    listed = "".join(lines[:1]).strip()[:2] in ("[", "[{")
    rows = _json_rows(lines) if table.suffix.lower() == ".jsonl" and not listed else _csv_rows(lines, table)
    for number, row in rows:
        yield f"{table}, line {number}", row


def _json_rows(lines: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """The number and the content of each line that is not empty."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                row = json.loads(line, parse_constant=lambda name: None)  # NaN and Infinity, as pandas writes them
            except (ValueError, RecursionError) as error:
                row = ValueError(f" is not JSON ({error}).")
            yield number, {_column(key): value for key, value in row.items()} if isinstance(row, dict) else row


def _csv_rows(lines: Sequence[str], table: Path) -> Iterator[tuple[int, dict[str, str] | ValueError]]:
    """The number of the line in which a row begins, and its cells by column or the problem."""
    csv.field_size_limit(2**31 - 1)  # otherwise the reader stops at a long text, which is reported with its frame
    start, head, separator = _head(lines, table)
    columns = [_column(name) for name in head]
    wrong = [column for column in COLUMNS if columns.count(column) != 1]
    if wrong:
        problem = f"{'repeats' if wrong[0] in columns else 'lacks'} the column {wrong[0]!r}. Expected: "
        problem += f"{', '.join(COLUMNS)}; its head was read as {str(head)[:300]}"
        raise SourceError(f"{table} {explain(table, problem)}.")
    spaced = any(name.startswith(" ") for name in head)  # "a, b": the space is no part of a cell
    start += 1
    while start < len(lines):
        rows = csv.reader(lines[start:], delimiter=separator, skipinitialspace=spaced, strict=True)
        begin = start
        try:
            for cells in rows:
                if any(cell.strip() for cell in cells[len(columns) :]):
                    problem = f" has {len(cells)} cells, more than the {len(columns)} of the head"
                    yield begin + 1, ValueError(f"{problem}: put a text with separators into quotation marks.")
                elif any(cell.strip() for cell in cells):
                    yield begin + 1, dict(zip(columns, cells, strict=False))
                begin = start + rows.line_num
            return
        except csv.Error as error:  # most often a quotation mark that nothing closes: go on with the next line
            remedy = "close the quotation mark that opens in this line, and double each one inside a text"
            yield begin + 1, ValueError(f" is not CSV ({error}): {remedy}.")
            start = begin + 1


def _head(lines: Sequence[str], table: Path) -> tuple[int, list[str], str]:
    """Index and cells of the first line that is not empty, and the separator."""
    declared = re.fullmatch(r'"?sep=([^\w"\r\n])"?\s*', lines[0], re.I) if lines else None  # as Excel writes it
    for index in range(1 if declared else 0, len(lines)):
        if lines[index].strip(f"{SEPARATORS}\r\n "):
            separator = declared[1] if declared else max(SEPARATORS, key=lines[index].count)
            return index, next(csv.reader([lines[index]], delimiter=separator)), separator
    raise SourceError(f"{table} is empty: write the columns {', '.join(COLUMNS)} into its first line.")


def _column(name: str) -> str:
    """The name of a column in small letters, with underscores for spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip()).lower()


def _read(folder: Path, row: Any) -> Story:
    """A story of one frame. Raises ValueError with the problem, to follow the row's place."""
    name, *cells = (_cell(row, column) for column in (*COLUMNS, *OPTIONAL))
    text, story, position, title, licence, credit = map(one_line, cells)
    if not story:
        raise ValueError(": story_id is empty.")
    frame = Frame(_picture(folder, name), text, whole_number(position))
    return Story(story, title, (frame,), licence, credit)


def _cell(row: Any, column: str) -> str:
    """The text of a cell, empty for null. Only ids and positions may be numbers. Raises ValueError for the rest."""
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(" is not a JSON object.")
    if column in COLUMNS and column not in row:
        raise ValueError(f": the column {column!r} is missing. Expected: {', '.join(COLUMNS)}.")
    value = row.get(column)
    value = "" if value is None else value
    if not isinstance(value, str if column in ("file_name", "text") else (str, int, float)):
        raise ValueError(f": the column {column!r} must hold text, not {str(value)[:60]}.")
    if NOT_UTF8.search(str(value)):
        raise ValueError(" is not UTF-8 text: save the file as UTF-8 and load again.")
    return str(value)


def _picture(folder: Path, name: str) -> Path:
    """The path of a picture. Raises ValueError if it is outside of the folder."""
    plain = one_line(name.replace("\\", "/"))
    names = name, plain, normalize("NFC", plain), normalize("NFD", plain), unquote(plain)  # as other systems write it
    name = next((name for name in names if os.path.exists(folder / name)), plain)
    if not name or name.startswith("/") or ".." in PurePath(name).parts:
        raise ValueError(f": file_name {name!r} must be a path inside {folder}.")
    return folder / name
