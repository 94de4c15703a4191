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
    limit, revision: see ``rows``. strict: raise an error for a missing picture; markup is repaired in any case.
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


# What follows a "<". A tag ends at the next ">"; without one, after ids only, so that it does not swallow the text.
IDS = r"((?:[\s,;:=\"']*(?:image|char|obj|bg|lm)[\s_-]*[0-9]+)*)"
TAG = re.compile(r"\s*(?:(/)\s*)?gd([ioal])(?:([^>.!?]{0,120})>|" + IDS + ")", re.I)
OTHER_TAG = re.compile(r"\s*(?:/\s*)?[a-z!?][^>]{0,200}>", re.I)
NUMBER = re.compile(r"\s*[0-9]")


class FrameText(NamedTuple):
    text: str  # of one picture, on one line without markup
    repairs: list[str]  # sentences


def tokens(markup: str) -> Iterator[tuple[str, str]]:
    """Pairs of "text" and a text, "repair" and a sentence, and "open" or "close" and the attributes of a block.

    No text holds a "<" that could begin a tag, however texts are joined: removing one tag never creates another.
    """
    # HTML entities are decoded, including those that were escaped more than once.
    markup = re.sub(r"&(?:amp;|#0*38;|#[xX]0*26;)+", "&", markup)
    markup = re.sub(r"&#0+(?=[0-9])", "&#", markup)
    # No character has so large a number, and html.unescape raises an error at thousands of digits.
    markup = html.unescape(re.sub(r"&#[0-9]{8,};?", "\ufffd", markup))
    first, *pieces = markup.split("<")
    yield "text", first
    for piece in pieces:
        end = 0
        if tag := TAG.match(piece):
            slash, letter, attributes, ids = tag.groups()
            if attributes is None:
                yield "repair", "a tag without its > was read"
            if letter.lower() == "i":
                yield "close" if slash else "open", attributes or ids or ""
            end = tag.end()
        elif other := OTHER_TAG.match(piece):
            yield "repair", "a tag of another kind was removed"
            end = other.end()
        elif NUMBER.match(piece):  # "<3" cannot begin a tag
            piece = "<" + piece
        else:
            yield "repair", "a stray < was removed"
        yield "text", piece[end:]


class _Block(NamedTuple):
    attributes: str  # of its tag
    pieces: list[str]  # its text and the text up to the next block
    repairs: list[str]


def _blocks(markup: str) -> list[_Block]:
    """Whatever precedes the first block, and every block in its order."""
    block = _Block("", [], [])
    blocks = [block]
    inside = False  # between <gdi> and </gdi>
    for kind, content in [*tokens(markup), ("end", "")]:
        if kind in ("open", "end") and inside:
            block.repairs.append("the block was not closed")
        if kind == "open":
            block = _Block(content, [], [])
            blocks.append(block)
            inside = True
        elif kind == "close":
            if not inside:
                block.repairs.append("an end without a block was ignored")
            inside = False
        elif kind == "repair":
            block.repairs.append(content)
        elif kind == "text":
            if not inside and len(blocks) > 1 and content.strip():
                block.repairs.append("text after the end of the block was added to it")
            block.pieces.append(content)
    return blocks


def parse_story(markup: str, images: int) -> list[FrameText]:
    """One text for each of ``images`` pictures, whatever the markup; empty where the story has none.

    A repeated block continues the first. Text between blocks belongs to the block before it, text at the beginning to
    the first block. Without any block all texts are empty, since nothing separates them.
    """
    early, *blocks = _blocks(markup)
    texts: dict[int, list[str]] = defaultdict(list)  # of every block with this number
    repairs: dict[int, list[str]] = defaultdict(list)
    number = 0
    for index, block in enumerate(blocks):
        previous, match = number, re.search(r"[0-9]{1,6}", block.attributes)
        number = int(match[0]) if match else previous + 1
        repairs[number] += early.repairs if index == 0 else []
        if not match:
            repairs[number].append("a block without a number was taken for the next one")
        if number < previous:
            repairs[number].append("the block is out of order")
        if number in texts:
            repairs[number].append("a repeated block was joined to the first")
        if index == 0 and "".join(early.pieces).strip():
            repairs[number].append("text before the first block was added to it")
            block.pieces[:0] = [*early.pieces, " "]
        repairs[number] += block.repairs
        texts[number].append(one_line("".join(block.pieces)))
    frames = []
    for number in range(1, images + 1):
        text = " ".join(filter(None, dict.fromkeys(texts.pop(number, []))))  # a repeated text counts once
        missing = [] if text else ["the story says nothing about this picture"]
        frames.append(FrameText(text, repairs[number] + missing))
    # Repairs that concern the whole story are on the nearest frame.
    if frames and not blocks:
        frames[0].repairs.extend([*early.repairs, "the story has no blocks"])
    if frames and texts:
        frames[-1].repairs.append(f"{len(texts)} blocks without a picture were left out")
    return frames
