"""StoryReasoning (Oliveira and Martins de Matos 2025): 4,178 stories about movie frames, CC-BY-ND 4.0.

Read from the Hugging Face hub, or from local Parquet files with the same columns: story_id, images and story, a text
that a language model wrote and whose form therefore cannot be relied on.

``story`` has one block per picture; tags mark entities, actions and places, and are removed::

    <gdi image1> <gdo char1>Sarah</gdo> <gda char1>held</gda> <gdo obj3>the book</gdo> near
    <gdl bg1>the shoreline</gdl>. </gdi> <gdi image2> ... </gdi>

``parse_story`` accepts any text, takes linear time, and reports what it repaired.
"""

from __future__ import annotations

import html
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from storylib.data.types import Story
from storylib.sources._checks import one_line
from storylib.sources._dataset_rows import HELD_OUT, rows
from storylib.sources.hugging_face import frames_of

REPOSITORY = "daniel3303/StoryReasoning"
LICENCE = "CC-BY-ND-4.0"
CREDIT = "Daniel A. P. Oliveira and David Martins de Matos: StoryReasoning"


def load(
    limit: int | None = None, root: str | os.PathLike | None = None, revision: str | None = None, strict: bool = False
) -> list[Story]:
    """One story per row, training split first; the data set's own test split is kept.

    root: a folder of Parquet files; by default STORYLIB_STORY_REASONING, else the hub's repository.
    limit: at most this many, 15 % of them from the data set's test split. revision: of the repository.
    strict: raise an error for a missing picture; markup is repaired in any case.

    Attributes of a frame: repairs, a list of sentences.
    """
    location = root if root is not None else os.environ.get("STORYLIB_STORY_REASONING", REPOSITORY)
    stories = []
    for row in rows(location, ["story_id", "story"], "images", limit, revision):
        texts = parse_story(str(row.values["story"] or ""), len(row.pictures))
        attributes = [{"repairs": text.repairs} for text in texts]
        frames = frames_of(row, [text.text for text in texts], strict, attributes)
        if frames:
            name = one_line(str(row.values["story_id"]))
            split = HELD_OUT.get(row.split, "train")
            stories.append(Story(name, f"Story {name}", frames, LICENCE, CREDIT, split=split))
    return stories


# Markup

# What follows a "<". A tag ends at the next ">"; without one, after ids only, so that it does not swallow the text.
IDS = r"((?:[\s,;:=\"']*(?:image|char|obj|bg|lm)[\s_-]*[0-9]+)*)"
TAG = re.compile(r"\s*(?:(/)\s*)?gd([ioal])(?:([^>.!?]{0,120})>|" + IDS + ")", re.I)
OTHER_TAG = re.compile(r"\s*(?:/\s*)?[a-z!?][^>]{0,200}>", re.I)
NUMBER = re.compile(r"\s*[0-9]")


class Token(NamedTuple):
    kind: str  # "text", "repair", or "open" or "close" of a block
    content: str  # the text, what was repaired, or the attributes of the block


class FrameText(NamedTuple):
    """The text of one picture, on one line without markup, and what had to be repaired."""

    text: str
    repairs: list[str]


def tokens(markup: str) -> Iterator[Token]:
    """Texts, blocks and repairs in their order.

    No text holds a "<" that could begin a tag, however texts are joined: removing one tag never creates another.
    """
    first, *pieces = _unescaped(markup).split("<")
    yield Token("text", first)
    for piece in pieces:
        end = 0
        if tag := TAG.match(piece):
            slash, letter, attributes, ids = tag.groups()
            if attributes is None:
                yield Token("repair", "a tag without its > was read")
            if letter.lower() == "i":
                yield Token("close" if slash else "open", attributes or ids or "")
            end = tag.end()
        elif other := OTHER_TAG.match(piece):
            yield Token("repair", "a tag of another kind was removed")
            end = other.end()
        elif NUMBER.match(piece):  # "<3" cannot begin a tag
            piece = "<" + piece
        else:
            yield Token("repair", "a stray < was removed")
        yield Token("text", piece[end:])


def _unescaped(text: str) -> str:
    """HTML entities decoded, including those that were escaped more than once."""
    text = re.sub(r"&(?:amp;|#0*38;|#[xX]0*26;)+", "&", text)
    text = re.sub(r"&#0+(?=[0-9])", "&#", text)
    # No character has so large a number, and html.unescape raises an error at thousands of digits.
    return html.unescape(re.sub(r"&#[0-9]{8,};?", "\ufffd", text))


def parse_story(markup: str, images: int) -> list[FrameText]:
    """One text for each of ``images`` pictures, whatever the markup; empty where the story has none.

    A repeated block continues the first. Text between blocks belongs to the block before it, text at the beginning to
    the first block. Without any block all texts are empty, since they cannot be told apart.
    """
    reader = _BlockReader()
    for kind, content in tokens(markup):
        if kind == "text":
            reader.add_text(content)
        elif kind == "repair":
            reader.repair(content)
        elif kind == "open":
            reader.open_block(content)
        else:
            reader.close_block()
    return reader.frames(images)


class _BlockReader:
    """Assigns the text of one story to its pictures by following the tags of blocks."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[list[str]]] = defaultdict(list)  # texts of every block with this number
        self.repairs: dict[int | None, list[str]] = defaultdict(list)  # by the number of the block
        self.early_texts: list[str] = []  # before the first block
        self.number: int | None = None  # of the latest block
        self.inside = False  # between <gdi> and </gdi>

    def repair(self, problem: str) -> None:
        self.repairs[self.number].append(problem)

    def add_text(self, text: str) -> None:
        if self.number is None:
            self.early_texts.append(text)
            return
        if not self.inside and text.strip():
            self.repair("text after the end of the block was added to it")
        self.blocks[self.number][-1].append(text)

    def open_block(self, attributes: str) -> None:
        if self.inside:
            self.repair("the block was not closed")
        match = re.search(r"[0-9]{1,6}", attributes)
        previous = self.number or 0
        is_first = self.number is None
        self.number = int(match[0]) if match else previous + 1
        self.inside = True
        if is_first:
            self.repairs[self.number] += self.repairs[None]
        if not match:
            self.repair("a block without a number was taken for the next one")
        if self.number < previous:
            self.repair("the block is out of order")
        if self.number in self.blocks:
            self.repair("a repeated block was joined to the first")
        self.blocks[self.number].append([])
        if is_first and "".join(self.early_texts).strip():
            self.repair("text before the first block was added to it")
            self.blocks[self.number][-1] += [*self.early_texts, " "]

    def close_block(self) -> None:
        if not self.inside:
            self.repair("an end without a block was ignored")
        self.inside = False

    def frames(self, images: int) -> list[FrameText]:
        """One per picture; repairs that concern the whole story are on the nearest frame."""
        if self.inside:
            self.repair("the block was not closed")
        result = []
        for number in range(1, images + 1):
            texts = [one_line("".join(pieces)) for pieces in self.blocks.pop(number, [])]
            text = " ".join(text for text in dict.fromkeys(texts) if text)  # a repeated text counts once
            frame = FrameText(text, self.repairs[number])
            if not text:
                frame.repairs.append("the story says nothing about this picture")
            result.append(frame)
        if result and self.number is None:
            result[0].repairs.extend([*self.repairs[None], "the story has no blocks"])
        if result and self.blocks:
            result[-1].repairs.append(f"{len(self.blocks)} blocks without a picture were left out")
        return result
