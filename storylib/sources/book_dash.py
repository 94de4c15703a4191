"""Children's books of Book Dash (https://bookdash.org), CC-BY 4.0, from https://github.com/bookdash/bookdash-books. ::

    bookdash-books/_data/meta.yml            title, creators and rights of each book
    bookdash-books/SLUG/en/index.md          ![description]({{ site.image-set }}/NN.jpg), then the text of that page
    bookdash-books/SLUG/en/images/NN.jpg     not for every book

A frame is a page with a picture and a text; its ``number`` is that of the picture. Most pictures are described.
"""

from __future__ import annotations

import html
import os
import re
from functools import partial
from itertools import pairwise
from pathlib import Path

import yaml

from storylib.data.download import Archive
from storylib.data.types import Frame, Story
from storylib.sources._books import find_root, read_books, wrong_layout
from storylib.sources._checks import SourceError, one_line, read_utf8
from storylib.sources.african_storybook import plain

BOOKS = Archive(
    "bookdash/bookdash-books",
    "54916310c5c06a5282e2d5d4add18d64f90e5fde",
    r"_data/meta\.yml|[a-z0-9][\w-]*/en/(index\.md|images/\d+\.jpg)",
    Path(__file__).with_suffix(".sha256"),  # of the metadata and most texts
)


def load(limit: int | None = None, root: str | os.PathLike | None = None, strict: bool = False) -> list[Story]:
    """English books in the order of their folders' names, without pages that have no text.

    root: a folder that holds bookdash-books; by default as for ``find_root``, with a download of 176 MB. strict: an
    error for a page without a text and for a text that cannot be read. Books without pictures are always dropped.
    """
    folder = find_root("book_dash", [BOOKS], root)
    texts = {path.parents[1].name: path for path in sorted(folder.glob("bookdash-books/*/en/index.md"))}
    meta = folder / "bookdash-books" / "_data" / "meta.yml"
    if not meta.is_file():
        raise wrong_layout("book_dash", f"{meta} does not exist", "bookdash-books with _data/meta.yml, */en/index.md")
    try:
        titles = dict(yaml.safe_load(read_utf8(meta))["titles"])
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise SourceError(f"{meta} lists no titles ({one_line(str(error))}): replace it by an intact copy.") from error
    return read_books(texts, partial(read_book, titles), f"{folder} holds no book with pictures.", limit, strict)


def read_book(titles: dict[str, dict[str, str]], path: Path) -> Story | str:
    """A book with all its pages, or the reason why it cannot be used. titles: facts by folder name. path: its text."""
    slug = path.parents[1].name
    facts = titles.get(slug) or {}
    licence = re.search(r"creativecommons\.org/licenses/([a-z-]+)/([\d.]+)", str(facts.get("rights")))
    if not licence:
        return "_data/meta.yml names no Creative Commons licence for it"
    images = path.parent / "images"
    _, *parts = re.split(r"!\[([^\]]*)\]\([^)]*?([^/)]+)\)", read_utf8(path))  # then: description, file name, text, ...
    if any(re.search(r"!\[|<img", part) for part in parts):
        return "it has a picture that is not written as ![description](file)"
    if not any((images / name).is_file() for name in parts[1::3]):
        return "it has no pictures"
    frames = tuple(
        Frame(images / name, clean(text), int(Path(name).stem), clean(description) or None)
        for description, name, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        if Path(name).stem.isdecimal()  # no cover, no logo
    )
    if any(frame.number <= before.number for before, frame in pairwise(frames)):
        return "its pictures are not in order"
    credit = "; ".join(str(facts[role]) for role in ("creator", "contributor") if facts.get(role))
    return Story(slug, str(facts.get("title") or slug), frames, f"CC-{licence[1].upper()} {licence[2]}", credit)


def clean(text: str) -> str:
    """``plain`` without {% tags %}, {{ values }} and {:.classes} of Jekyll, HTML and the addresses of links."""
    text = re.sub(r"\{[%{:].*?\}+|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"</?[a-z][^>]*>", "", re.sub(r"</?(br|p|div)\b[^>]*>", " ", text))
    return plain(html.unescape(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)))
