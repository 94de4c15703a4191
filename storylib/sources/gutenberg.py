"""Beatrix Potter's tales, and any HTML book with pictures of Project Gutenberg (https://www.gutenberg.org). ::

    <repository>/14838-h/14838-h.htm    pictures and texts in the order of the book
    <repository>/14838-h/images/        the pictures, some with a thumbnail that links to them

A frame is a picture with the text that follows it or shares its part of the page. Where none does, because the book has
its pictures left and right of two pages of text, the picture has the second half of the text before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urljoin

from lxml import etree, html

from storylib.data.download import Archive, fetch
from storylib.data.store import cache_entry, make_sealed
from storylib.data.types import Frame, Story
from storylib.sources._books import find_root, read_books, wrong_layout
from storylib.sources._checks import SourceError, is_url, local_path, one_line

TALES = re.findall(r"^- (\S+) (\w{40})$", Path(__file__).with_suffix(".md").read_text(encoding="utf-8"), flags=re.M)
ARCHIVES = [Archive(f"GITenberg/{repository}", commit, r"\d+-h/.+") for repository, commit in TALES]
PAGES = ("*.htm", "*.html", "*-h/*.htm", "*/*-h/*.htm")  # of a book, of its repository, of all repositories
PICTURE = re.compile(r"[^\x00-\x1f]+\.(jpe?g|png|gif|webp)", re.I)
OFFLINE = "Or save the page with its pictures, and name its .htm file instead."

BLOCKS = set("blockquote dd div figcaption h1 h2 h3 h4 h5 h6 li p pre table td tr".split())
MARKS = re.compile(r"[\[{](Pg|Page|p\.)?\s*\d+[\]}]|\[Illustration[^]]*\]", re.I)
START = re.compile("START OF (THE |THIS )?PROJECT GUTENBERG", re.I)
END = re.compile(r"END OF (THE |THIS )?PROJECT GUTENBERG|^\W*(THE END|FINIS)\W*$", re.I)
IMPRINT = re.compile(r"copyright|all rights|& co\b|produced by|e-text|transcriber|^author of", re.I)


def load(limit: int | None = None, root: str | os.PathLike | None = None, strict: bool = False) -> list[Story]:
    """Books in the order of their files, without title pages, end papers and pictures that have no text.

    root: a folder of repositories, a repository, a folder with one book, its .htm file or its address; by default as
    for ``find_root``, with 14 tales. strict: an error for a picture without a text. With few texts, a book is dropped.
    """
    place = str(root or find_root("gutenberg", ARCHIVES))
    pages = {page.stem: page for page in find_pages(_fetch_book(place) if is_url(place) else local_path(place))}
    return read_books(pages, read_book, f"{place} holds no book with pictures.", limit, strict)


def files(root: Path) -> list[Path]:
    """The pages and the pictures of the user's own books."""
    return [path for page in find_pages(root) for path in (page, *sorted(page.parent.rglob("*"))) if path.is_file()]


def find_pages(root: Path) -> list[Path]:
    """The page of each book. Raises SourceError if there is none."""
    found = [root] if root.is_file() else next(filter(None, (sorted(root.glob(place)) for place in PAGES)), None)
    if not found:
        raise wrong_layout("gutenberg", f"{root} holds no HTML book", "<repository>/NNNN-h/NNNN-h.htm")
    return found


def read_book(page: Path) -> Story | str:
    """The story of an HTML page with all its pictures, or the reason why it cannot be used."""
    document = _parse(page)
    words = document.text_content()

    def fact(pattern: str, otherwise: str = "") -> str:
        match = re.search(pattern, words, re.I | re.M)
        return one_line(match[1] if match else otherwise)

    heading = document.findtext(".//title") or page.stem
    title = fact(r"^\s*Title:(.+)", re.sub("The Project Gutenberg e-?book( of|,|:)? |, by .*", "", heading, flags=re.I))
    frames = []
    for number, (image, texts) in enumerate(_scenes(document, title), 1):
        alt, source = (one_line(MARKS.sub("", image.get(name, ""))) for name in ("alt", "src"))
        pictures = (path for _, path in _inside(page.parent, image) if os.path.isfile(path))
        picture = next(pictures, page.parent / PurePath(source).name)
        text = " ".join(texts)
        repeated = alt.strip(" .").lower() in text.lower()  # such as a caption, or nothing
        frames.append(Frame(picture, text, number, None if repeated or PICTURE.fullmatch(alt) else alt))
    empty = [str(frame.image) for frame in frames if not frame.text]
    if 2 * len(empty) > len(frames) or not frames:
        names = ", ".join(PurePath(name).name for name in empty[:5])
        return f"pictures and texts do not alternate; {len(empty)} pictures have no text before or after them: {names}"
    ebook = fact(r"\[e-?book #(\d+)\]", page.stem)
    credit = (fact(r"^\s*Author:(.+)"), fact(r"^\s*Illustrator:(.+)"), f"Project Gutenberg #{ebook}")
    free = START.search(words) and "COPYRIGHTED" not in words
    licence = "Public domain in the United States" if free else ""
    return Story(f"gutenberg-{ebook}", title, tuple(frames), licence, "; ".join(filter(None, credit)))


def _parse(page: Path) -> Any:
    """The document of a file in the encoding that it declares, without page numbers."""
    data = page.read_bytes()
    declared = re.search(rb"(?:encoding|charset)\s*=\s*[\"']?([\w-]+)", data[:4096])
    name = declared[1].decode().lower() if declared else "utf-8"
    try:
        parser = html.HTMLParser(encoding="windows-1252" if name == "iso-8859-1" else name)  # as browsers read it
        document = html.document_fromstring(data, parser)
    except (LookupError, etree.LxmlError) as error:
        raise SourceError(f"{page} cannot be read as HTML ({error}): name the .htm file of a book.") from error
    for number in document.find_class("pagenum"):
        number.drop_tree()
    for end_of_line in document.iter("br"):
        end_of_line.tail = f" {end_of_line.tail or ''}"
    return document


def _scenes(document: Any, title: str) -> list[tuple[Any, list[str]]]:
    """The pictures of the story, as HTML elements, with their paragraphs."""
    images = document.findall(".//img")
    parts = {}  # the largest part of the page in which a picture is alone: its index
    for index, part in enumerate(images):
        while part.tag != "body" and len(part.getparent().findall(".//img")) == 1:
            part = part.getparent()
        parts[part] = index
    texts: list[list[str]] = [[] for _ in range(len(images) + 1)]  # the last: what comes before the first picture
    front: set[int] = set()  # pictures of title pages
    seen, started = 0, False
    for block, text in _paragraphs(document):
        at = next((parts[part] for part in (block, *block.iterancestors()) if part in parts), seen - 1)
        heading = re.fullmatch("h[1-6]", block.tag)
        if block.tag == "img":
            seen += 1
        elif END.search(text) or (started and text.startswith(("Transcriber", "TRANSCRIBER"))):
            break
        elif START.search(text) or (heading and re.findall(r"\w+", text.lower()) == re.findall(r"\w+", title.lower())):
            texts = [[] for _ in texts]  # so far there was no story
            started = False
        elif not started and (IMPRINT.search(text) or text.isupper() or text[-1:].isalnum()):
            front.add(at)  # a title, a dedication, a publisher
        elif text and not heading:
            texts[at].append(text)
            started = True
    scenes: list[tuple[Any, list[str]]] = []
    opening = texts.pop()
    for index in range(seen):
        opening += texts[index]
        if index not in front:
            scenes.append((images[index], opening))
            opening = []
    with_text = [index for index, (_, paragraphs) in enumerate(scenes) if paragraphs]
    scenes = scenes[with_text[0] : with_text[-1] + 1] if with_text else []
    _share([paragraphs for _, paragraphs in scenes])
    return scenes


def _paragraphs(document: Any) -> Iterator[tuple[Any, str]]:
    """Each picture, and each block of text that holds no other block, with its text."""
    for element in document.iter("img", *BLOCKS):
        if element.tag == "img":
            yield element, ""
        elif next(element.iterdescendants(*BLOCKS), None) is None:
            yield element, one_line(MARKS.sub("", element.text_content()))


def _share(texts: list[list[str]]) -> None:
    """Give a picture without a text the second half of that before it, or all if that can be replaced in this way."""
    for here in reversed(range(1, len(texts))):
        before = texts[here - 1]
        if not texts[here] and (len(before) > 1 or (before and here > 1 and len(texts[here - 2]) > 1)):
            sizes = [len(text) for text in before]
            cut = min(range(len(before) > 1, len(before)), key=lambda at: abs(sum(sizes[:at]) - sum(sizes[at:])))
            texts[here] += before[cut:]
            del before[cut:]


def _inside(folder: Path, image: Any) -> Iterator[tuple[str, Path]]:
    """The full picture to which an image links, then the image: links that stay in a folder, with their paths."""
    for link in (*image.xpath("ancestor::a[1]/@href"), image.get("src", "")):
        if PICTURE.fullmatch(unquote(link)):
            path = (folder / unquote(link)).resolve()
            if path.is_relative_to(folder.resolve()):
                yield link, path


def _fetch_book(url: str) -> Path:
    """A page of the web and its pictures that lie in the folder of the page, in a folder of the cache."""
    root = cache_entry("gutenberg", "book", url, "data.download")

    def make(folder: Path) -> None:
        address = fetch(url, folder / "book.htm", OFFLINE)
        for image in _parse(folder / "book.htm").iter("img"):
            for link, path in _inside(folder, image):
                if urljoin(address, link).startswith(urljoin(address, ".")):
                    fetch(urljoin(address, link), path, OFFLINE)
                    break

    make_sealed(root, make)
    return root
