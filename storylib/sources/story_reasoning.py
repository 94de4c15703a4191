"""StoryReasoning (Oliveira and Martins de Matos 2025): 4,178 stories told about movie frames, CC-BY-ND 4.0.

From the Hugging Face hub, or from local Parquet files in the same schema: story_id, images, frame_count, and two texts
that a language model wrote, so that anything can be wrong with their form.

``story`` is marked up, one block a picture; entities (characters, objects, backgrounds), actions and places carry ids:

    <gdi image1> <gdo char1>Sarah</gdo> <gda char1>held</gda> <gdo obj3>the book</gdo> near
    <gdl bg1>the shoreline</gdl>. </gdi> <gdi image2> ... </gdi>

``chain_of_thought`` has, for each picture, tables of characters, objects and the setting. ``parse_story`` and
``parse_analysis`` read any text whatever, in linear time; what they had to repair they say.
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from storylib.sources import one_line
from storylib.sources.hugging_face import OFFICIAL, frames_of, rows
from storylib.stories import Story

REPOSITORY = "daniel3303/StoryReasoning"
LICENCE = "CC-BY-ND-4.0"
CREDIT = "Daniel A. P. Oliveira and David Martins de Matos: StoryReasoning"


def load(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    revision: str | None = None,
    streaming: bool | str = True,
    strict: bool = False,
) -> list[Story]:
    """Stories with the official test part kept, see ``stream``."""
    return list(stream(limit, root, revision, streaming, strict))


def stream(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    revision: str | None = None,
    streaming: bool | str = True,
    strict: bool = False,
) -> Iterator[Story]:
    """One story after the other, training part first; memory does not grow with their number.

    root: a folder of Parquet files; by default STORYLIB_STORY_REASONING, else the hub's repository.
    limit: at most this many, 15 % of them from the official test part. revision, streaming: see ``hugging_face.rows``.
    strict: a missing picture is an error; markup is repaired in any case.

    A frame's attributes: entities, actions, places, each a list of {"ids", "text"}; characters, objects, setting, the
    rows of its tables; repairs, a list of sentences.
    """
    place = root if root is not None else os.environ.get("STORYLIB_STORY_REASONING", REPOSITORY)
    for row in rows(place, ["story_id", "chain_of_thought", "story"], "images", limit, revision, streaming):
        told = parse_story(str(row.values["story"] or ""), len(row.pictures))
        seen = parse_analysis(str(row.values["chain_of_thought"] or ""), len(row.pictures))
        attributes = [
            {"entities": t.entities, "actions": t.actions, "places": t.places, **s, "repairs": t.repairs + s["repairs"]}
            for t, s in zip(told, seen, strict=True)
        ]
        frames = frames_of(row, [t.text for t in told], strict, attributes)
        if frames:
            name = one_line(str(row.values["story_id"]))
            yield Story(name, f"Story {name}", frames, LICENCE, CREDIT, split=OFFICIAL.get(row.split, "train"))


@dataclass
class FrameText:
    """What a story says of one picture."""

    text: str = ""  # without any markup, one line
    entities: list[dict[str, Any]] = field(default_factory=list)  # {"ids": ["char1"], "text": "Sarah"}
    actions: list[dict[str, Any]] = field(default_factory=list)
    places: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)


KINDS = {"gdo": "entities", "gda": "actions", "gdl": "places"}
DEEPEST = 4  # tags of one kind inside each other; with more, a hostile text would take quadratic time

# What follows a "<". A tag ends at the next ">"; without one, after ids only, so that it does not swallow the text.
IDS = r"((?:[\s,;:=\"']*(?:image|char|obj|bg|lm)[\s_-]*[0-9]+)*)"
TAG = re.compile(r"\s*(?:(/)\s*)?gd([ioal])(?:([^>.!?]{0,120})>|" + IDS + ")", re.I)
OTHER_TAG = re.compile(r"\s*(?:/\s*)?[a-z!?][^>]{0,200}>", re.I)
NUMBER = re.compile(r"\s*[0-9]")


def tokens(markup: str) -> Iterator[tuple[str, str, str]]:
    """("text", "", text), ("open" or "close", letter of the gd tag, its attributes) and ("repair", "", what it was).

    Texts hold no "<" that a tag could begin with, however they are joined: removing one tag never makes another.
    """
    first, *pieces = _unescaped(markup).split("<")
    yield "text", "", first
    for piece in pieces:
        end = 0
        if tag := TAG.match(piece):
            slash, letter, attributes, ids = tag.groups()
            if attributes is None:
                yield "repair", "", "a tag without its > was read"
            yield "close" if slash else "open", letter.lower(), attributes or ids or ""
            end = tag.end()
        elif other := OTHER_TAG.match(piece):
            yield "repair", "", "a tag of another kind was removed"
            end = other.end()
        elif NUMBER.match(piece):  # "<3": a sign that no tag can begin with
            piece = "<" + piece
        else:
            yield "repair", "", "a stray < was removed"
        yield "text", "", piece[end:]


def parse_story(markup: str, images: int) -> list[FrameText]:
    """One text for each of ``images`` pictures, whatever the markup is like; empty where the story says nothing.

    A repeated block continues the first; text between blocks belongs to the block before, at the beginning to the first
    one. A story without any block cannot be told apart, and all texts are empty.
    """
    reader = _Reader(images)
    for what, letter, content in tokens(markup):
        if what == "text":
            reader.text(content)
        elif what == "repair":
            reader.repair(content)
        elif letter == "i":
            reader.open_block(content) if what == "open" else reader.close_block()
        else:
            reader.open_mention("gd" + letter, content) if what == "open" else reader.close_mention("gd" + letter)
    return reader.frames()


class _Reader:
    """Follows the tags of one story: which picture's block is open, and which mentions inside it."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.blocks: dict[int, FrameText] = {}
        self.pieces: dict[int, list[str]] = {}  # texts of each block in their order
        self.starts: dict[int, list[int]] = {}  # where in its pieces each block of a number begins
        self.before: list[str] = []  # text that stands before the first block
        self.early: list[str] = []  # repairs made there
        self.current: int | None = None  # the block that texts go to
        self.inside = False  # between <gdi> and </gdi>
        self.open: dict[str, list[tuple[list[str], int]]] = {kind: [] for kind in KINDS}  # ids, index of first piece

    def repair(self, what: str) -> None:
        (self.early if self.current is None else self.blocks[self.current].repairs).append(what)

    def text(self, text: str) -> None:
        if self.current is None:
            self.before.append(text)
            return
        if not self.inside and text.strip():
            self.repair("text after the end of the block was added to it")
        self.pieces[self.current].append(text)

    def open_block(self, attributes: str) -> None:
        notes = []
        if self.inside:
            self.repair("the block was not closed")
        self.close_mentions()
        found = re.search(r"[0-9]{1,6}", attributes)
        number = int(found[0]) if found else (self.current or 0) + 1
        if found is None:
            notes.append("a block without a number was taken for the next one")
        elif self.current is not None and number < self.current:
            notes.append("the block stands out of order")
        if number in self.blocks:
            notes.append("a repeated block was joined to the first")
        block = self.blocks.setdefault(number, FrameText())
        pieces = self.pieces.setdefault(number, [])
        self.starts.setdefault(number, []).append(len(pieces))
        if self.current is None:  # what came before the first block belongs to it
            if "".join(self.before).strip():
                notes.append("text before the first block was added to it")
            pieces += [*self.before, " "]
            block.repairs += self.early
        block.repairs += notes
        self.current, self.inside = number, True

    def close_block(self) -> None:
        if not self.inside:
            self.repair("an end without a block was ignored")
        self.close_mentions()
        self.inside = False

    def open_mention(self, kind: str, attributes: str) -> None:
        ids = [
            f"{name.lower()}{number}" for name, number in re.findall(r"([a-zA-Z]{1,20})[\s_-]*([0-9]{1,6})", attributes)
        ]
        if not ids:
            self.repair(f"a {kind} without an id")
        if self.current is None or len(self.open[kind]) >= DEEPEST:
            self.repair(f"a {kind} in an impossible place was ignored")
            return
        self.open[kind].append((ids, len(self.pieces[self.current])))

    def close_mention(self, kind: str) -> None:
        if self.current is None or not self.open[kind]:
            self.repair(f"an end of {kind} without its beginning was ignored")
            return
        ids, start = self.open[kind].pop()
        newest = max((begun for others in self.open.values() for _, begun in others), default=-1)
        if newest > start:
            self.repair(f"{kind} and another tag overlap")
        self.mention(kind, ids, self.pieces[self.current][start:])

    def close_mentions(self) -> None:
        """Mentions that were never closed reach to the next tag."""
        for kind, left in self.open.items():
            for ids, start in left:
                self.repair(f"a {kind} was not closed")
                assert self.current is not None
                self.mention(kind, ids, self.pieces[self.current][start : start + 1])
            left.clear()

    def mention(self, kind: str, ids: list[str], pieces: list[str]) -> None:
        assert self.current is not None
        text = one_line("".join(pieces))
        if text:
            getattr(self.blocks[self.current], KINDS[kind]).append({"ids": ids, "text": text})

    def frames(self) -> list[FrameText]:
        """One for each picture, with the repairs that concern the whole story on the nearest frame."""
        if self.inside:
            self.repair("the block was not closed")
        self.close_mentions()
        result = []
        for number in range(1, self.images + 1):
            frame = self.blocks.pop(number, FrameText())
            pieces, starts = self.pieces.get(number, []), self.starts.get(number, [])
            parts = [one_line("".join(pieces[a:b])) for a, b in pairwise([*starts, len(pieces)])]
            frame.text = " ".join(part for part in dict.fromkeys(parts) if part)  # said twice counts once
            if not frame.text:
                frame.repairs.append("the story says nothing of this picture")
            result.append(frame)
        if result and self.current is None:
            result[0].repairs += [*self.early, "the story has no blocks"]
        if result and self.blocks:
            result[-1].repairs.append(f"{len(self.blocks)} blocks without a picture were left out")
        return result


def _unescaped(text: str) -> str:
    """HTML entities as the signs they stand for, also those that were escaped more than once."""
    text = re.sub(r"&(?:amp;|#0*38;|#[xX]0*26;)+", "&", text)
    text = re.sub(r"&#0+(?=[0-9])", "&#", text)
    # No sign has so large a number, and html.unescape would raise at thousands of digits.
    return html.unescape(re.sub(r"&#[0-9]{8,};?", "\ufffd", text))


TABLES = {"characters": "characters", "objects": "objects", "setting": "setting", "settings": "setting"}
HEADING = re.compile(r"\s*#{1,6}[\s*]*([a-z]+)\s*([0-9]{0,6})", re.I)
COLUMN_NAMES = {"character_id": "id", "object_id": "id", "bounding_box": "box", "setting_element": "element"}


def parse_analysis(markdown: str, images: int) -> list[dict[str, Any]]:
    """For each of ``images`` pictures: its characters, objects and setting, lists of rows, and a list of repairs.

    A row maps column names in lower case to cells: id, name, description ...; "box" is [left, top, right, bottom] in
    pixels, or None.
    """
    result: list[dict[str, Any]] = [
        {"characters": [], "objects": [], "setting": [], "repairs": []} for _ in range(images)
    ]
    picture: dict[str, Any] | None = None
    table: str | None = None
    columns: list[str] = []
    for line in markdown.splitlines():
        heading = HEADING.match(line)
        if heading:
            word, number = heading[1].lower(), int(heading[2] or 0)
            if word in ("image", "frame"):
                picture = result[number - 1] if 1 <= number <= images else None
                table = None
            else:
                table = TABLES.get(word)
                picture = None if word == "narrative" else picture  # the table of the whole story comes last
            columns = []
        elif picture is not None and table is not None and "|" in line:
            cells = [_plain(cell) for cell in re.split(r"(?<!\\)\|", line.strip())]
            cells = cells[1:] if not cells[0] else cells
            cells = cells[:-1] if cells and not cells[-1] else cells
            if all(re.fullmatch(r":?-*:?", cell) for cell in cells):
                continue  # the line under the head
            if not columns:
                columns = [_column(cell) for cell in cells]
                continue
            if len(cells) != len(columns):
                picture["repairs"].append(f"a row of {table} has {len(cells)} cells instead of {len(columns)}")
                if len(cells) > len(columns) and columns[-1] == "box":  # a | inside a description: the box is last
                    cells = [*cells[: len(columns) - 1], cells[-1]]
            row: dict[str, Any] = dict(zip(columns, cells, strict=False))
            if "box" in row:
                row["box"] = _box(row["box"])
                if row["box"] is None:
                    picture["repairs"].append(f"a row of {table} has no bounding box")
            picture[table].append(row)
    return result


def _plain(cell: str) -> str:
    return one_line("".join(content for what, _, content in tokens(cell.replace("\\|", "|")) if what == "text"))


def _column(title: str) -> str:
    name = re.sub(r"\W+", "_", title.lower()).strip("_")
    return COLUMN_NAMES.get(name, name)


def _box(cell: str) -> list[int] | None:
    numbers = re.findall(r"[0-9]{1,6}", cell)
    return [int(n) for n in numbers] if len(numbers) == 4 else None
