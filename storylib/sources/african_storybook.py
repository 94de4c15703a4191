"""Illustrated children's stories of the African Storybook Project (https://africanstorybook.org), CC-BY and CC-BY-NC.

Texts come from https://github.com/global-asp/asp-source, pictures from https://github.com/global-asp/asp-imagebank. ::

    asp-source/<language>/NNNN_slug.md       title; a line ``##`` starts each page; the last block is licence metadata
    asp-imagebank/README.md                  a table of the illustrators of each story
    asp-imagebank/medium/NNNN/PP.jpg         01 is the cover, page i is picture i + 1, often followed by a back page

A frame is a page with a text; its ``number`` is that of the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from storylib.data.download import Archive
from storylib.data.types import Frame, Story
from storylib.sources._books import find_root, read_books, wrong_layout
from storylib.sources._checks import check_known, read_utf8

TEXTS = Archive(
    "global-asp/asp-source",
    "99e022369a980bd52bce8c6f86d5f24e9a4ada9d",
    r"[a-z-]+/\d{4}.*\.md",
    Path(__file__).with_suffix(".sha256"),  # of the English texts
)
PICTURES = Archive(
    "global-asp/asp-imagebank", "a56e6dbe7aeeb8ea3e53d9941664416e2e7356ad", r"README\.md|medium/\d{4}/\d{2}\.jpg"
)

# Stories with the right number of pictures that nevertheless lack one inside and have a back page instead, identified
# by eye among the 28 whose last picture repeats an earlier one. Value: the page from which pictures and texts disagree.
OUT_OF_STEP = {"0013": 11, "0024": 8, "0031": 5, "0032": 9, "0230": 5, "0250": 8}

EXPECTED = "asp-source/<language>/NNNN_title.md and asp-imagebank/medium/NNNN/PP.jpg"


def load(
    limit: int | None = None, root: str | os.PathLike | None = None, language: str = "en", strict: bool = False
) -> list[Story]:
    """Stories in the order of their numbers, without covers, back pages and pages that have no text.

    root: a folder that holds asp-source and asp-imagebank; by default as for ``find_root``, with a download of 151 MB.
    language: a folder name of asp-source. strict: raise an error for a text that is missing or cannot be read. Stories
    whose pictures do not match their pages are dropped in any case.
    """
    folder = find_root("african_storybook", [TEXTS, PICTURES], root)
    texts, pictures = folder / "asp-source", folder / "asp-imagebank" / "medium"
    for part in (folder, texts, pictures):
        if not part.is_dir():
            raise wrong_layout("african_storybook", f"The folder {part} does not exist", EXPECTED)
    paths = sorted(texts.glob("*/[0-9][0-9][0-9][0-9]*.md"))
    if not paths:
        raise wrong_layout("african_storybook", f"{texts} holds no story text", EXPECTED)
    check_known("language", [language], {path.parent.name for path in paths}, f"{texts}: ")
    none = f"{folder} holds no story in {language!r} whose pictures match its pages."
    by_name = {path.stem: path for path in paths if path.parent.name == language}
    return read_books(by_name, lambda path: read_story(path, pictures / path.name[:4]), none, limit, strict)


def read_story(path: Path, pictures: Path) -> Story | str:
    """A story with all its pages, or the reason why it cannot be used. path: its text. pictures: their folder."""
    title, *pages = re.split(r"^##[ \t]*$", read_utf8(path), flags=re.MULTILINE)
    if len(pages) < 2:
        return "the text has no pages"
    facts = dict(re.findall(r"^\* ([^:\n]+):[ \t]*(.*)$", pages.pop(), flags=re.MULTILINE))
    if "License" not in facts:
        return "the last block names no licence"
    files = sorted(pictures.glob("[0-9]*.jpg"))
    if [file.stem for file in files] != [f"{number:02d}" for number in range(1, len(files) + 1)]:
        return "a picture number is missing"
    if len(files) - len(pages) not in (1, 2):  # a cover, and often a back page
        return f"{len(files)} pictures do not match {len(pages)} pages and a cover"
    if path.name[:4] in OUT_OF_STEP:
        return f"pictures and texts disagree from about page {OUT_OF_STEP[path.name[:4]]}"
    texts = enumerate(map(plain, pages), 1)
    frames = tuple(Frame(files[number], text, number) for number, text in texts)
    licence = facts.pop("License").strip("[] ").replace("CC BY", "CC-BY")
    credit = "; ".join(f"{role}: {names.strip()}" for role, names in facts.items() if names.strip())
    return Story(path.stem, plain(title), frames, licence, f"{credit}; African Storybook Project")


def plain(text: str) -> str:
    """One line of text without Markdown: line breaks joined, emphasis, escapes and heading signs removed."""
    text = re.sub(r"^#+[ \t]+", "", text.strip(), flags=re.MULTILINE)
    text = re.sub(r"(?<![\w\\])([*_]{1,3})(?=\S)([^*_]+)(?<=[^\s\\])\1(?!\w)", r"\2", text)
    text = re.sub(r"\\([\\`*_{}\[\]()#+\-.!<>|~])", r"\1", text)
    return " ".join(text.split())
