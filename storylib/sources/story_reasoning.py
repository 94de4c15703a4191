"""StoryReasoning (Oliveira and Martins de Matos 2025): 4,178 stories about movie frames, CC-BY-ND 4.0.

The columns are story_id, images and story: one block per picture, written by a language model, so that its form cannot
be relied on. Tags mark entities, actions and places, and are removed::

    <gdi image1> <gdo char1>Sarah</gdo> <gda char1>held</gda> <gdo obj3>the book</gdo> near
    <gdl bg1>the shoreline</gdl>. </gdi> <gdi image2> ... </gdi>
"""

from __future__ import annotations

import html
import os
import re
from collections import defaultdict

from storylib.data.types import Frame, Story
from storylib.sources._books import build
from storylib.sources._checks import one_line
from storylib.sources._dataset_rows import HELD_OUT, Row, rows
from storylib.sources._dataset_rows import parquet_paths as files  # noqa: F401  # for the fingerprint of the source

REPOSITORY = "daniel3303/StoryReasoning"
LICENCE = "CC-BY-ND-4.0"
CREDIT = "Daniel A. P. Oliveira and David Martins de Matos: StoryReasoning"


def load(
    limit: int | None = None, root: str | os.PathLike | None = None, revision: str | None = None, strict: bool = False
) -> list[Story]:
    """One story per row, training split first; the data set's own test split is kept.

    root: a folder of Parquet files; by default the hub's repository. limit, revision: see ``rows``.
    strict: raise an error for a missing picture or text; damaged markup is never an error.
    """
    table = rows(root or REPOSITORY, ["story_id", "story"], "images", limit, revision)
    return build(((row.place, row) for row in table), _read, strict, join=False)


def _read(row: Row) -> Story:
    texts = parse_story(str(row.values["story"] or ""), len(row.pictures))
    pages = enumerate(zip(row.pictures, texts, strict=True), 1)
    frames = tuple(Frame(picture, text, number) for number, (picture, text) in pages)
    name = one_line(str(row.values["story_id"] or f"{row.split}-{row.number:05d}"))
    return Story(name, f"Story {name}", frames, LICENCE, CREDIT, split=HELD_OUT.get(row.split, "train"))


# What follows a "<". A tag ends at the next ">"; without one, after ids only, so that it does not swallow the text.
IDS = r"(?P<ids>(?:[\s,;:=\"']*(?:image|char|obj|bg|lm)[\s_-]*[0-9]+)*)"
TAG = re.compile(r"\s*(?P<end>/\s*)?gd(?P<letter>[ioal])(?:(?P<attributes>[^>.!?]{0,120})>|" + IDS + ")", re.I)
OTHER_TAG = re.compile(r"\s*(?:/\s*)?[a-z!?][^>]{0,200}>", re.I)


def parse_story(markup: str, images: int) -> list[str]:
    """One line of text for each of ``images`` pictures, whatever the markup, in linear time; empty where it has none.

    A repeated block continues the first. Text between blocks belongs to the block before it, text at the beginning to
    the first block. Without any block all texts are empty, since nothing separates them.
    """
    (_, early), *blocks = _blocks(markup)
    texts: dict[int, list[str]] = defaultdict(list)  # of every block with this number
    number = 0
    for attributes, text in blocks:
        match = re.search(r"[0-9]{1,6}", attributes)
        number = int(match[0]) if match else number + 1
        texts[number].append(one_line(f"{early} {text}"))
        early = ""
    # A repeated text counts once.
    return [" ".join(filter(None, dict.fromkeys(texts[number]))) for number in range(1, images + 1)]


def _blocks(markup: str) -> list[tuple[str, str]]:
    """The attributes of its tag and the text of each block; first, without attributes, what precedes all blocks.

    No text holds a "<" that could begin a tag, however texts are joined: removing one tag never creates another.
    """
    first, *pieces = _unescape(markup).split("<")
    block = [first]
    blocks = [("", block)]
    for piece in pieces:
        tag = TAG.match(piece)
        if tag and tag["letter"] in "iI" and not tag["end"]:
            block = []
            blocks.append((tag["attributes"] or tag["ids"] or "", block))
        removed = tag or OTHER_TAG.match(piece)
        if removed:
            piece = piece[removed.end() :]
        elif re.match(r"\s*[0-9]", piece):  # "<3" cannot begin a tag
            piece = f"<{piece}"
        block.append(piece)
    return [(attributes, "".join(texts)) for attributes, texts in blocks]


def _unescape(markup: str) -> str:
    """Decode HTML entities, also where they were escaped more than once."""
    markup = re.sub(r"&(?:amp;|#0*38;|#[xX]0*26;)+", "&", markup)
    markup = re.sub(r"&#0+(?=[0-9])", "&#", markup)
    # No character has so large a number, and html.unescape raises an error at thousands of digits.
    return html.unescape(re.sub(r"&#[0-9]{8,};?", "\ufffd", markup))
