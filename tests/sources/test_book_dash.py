from __future__ import annotations

import logging
from pathlib import Path

import pytest

from storylib.config import project_root
from storylib.data.types import windows
from storylib.sources import SourceError, book_dash, load_stories
from storylib.sources.book_dash import clean
from tests.sources.shelves import write_book

REAL = project_root().parent / "shared" / "data" / "book_dash"
PAGES = [(f"Picture {i}.", f"Page {i}\n\nof six.") for i in range(1, 7)]


@pytest.fixture
def shelf(tmp_path) -> Path:
    root = tmp_path / "shelf"
    write_book(root, "a-fox", PAGES)
    write_book(root, "b-hat", [*PAGES[:2], ("Nobody speaks.", "\n \n"), *PAGES[3:]])
    return root


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def text_of(root: Path, slug: str) -> Path:
    return root / "bookdash-books" / slug / "en" / "index.md"


def reason(root: Path, slug: str, caplog) -> str:
    """Why a book is dropped. The others are not."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        kept = book_dash.load(root=root)
    assert slug not in {book.id for book in kept} and f"1 of {len(kept) + 1} stories were dropped" in caplog.text
    (line,) = [line for line in caplog.messages if line.startswith(f"dropped {slug}: ")]
    return line.partition(": ")[2]


def test_a_text_belongs_to_the_picture_before_it(cache, shelf):
    fox, hat = load_stories("book_dash", root=shelf)
    assert (fox.id, fox.title, fox.licence) == ("a-fox", "The a-fox", "CC-BY 4.0")
    assert fox.credit == "A. Writer, B. Painter; Volunteers"
    assert [f.text for f in fox.frames] == [f"Page {i} of six." for i in range(1, 7)]  # paragraphs are joined
    assert [f.description for f in fox.frames] == [f"Picture {i}." for i in range(1, 7)]
    assert [f.image.name for f in fox.frames] == [f"{i:02d}.jpg" for i in range(1, 7)]
    assert [f.number for f in hat.frames] == [1, 2, 4, 5, 6] and hat.frames[2].image.name == "04.jpg"
    assert len(list(windows([fox, hat], context=2))) == 4 + 1  # none spans the page without a text


def test_pages_without_a_text_are_counted_or_an_error(shelf, caplog):
    book_dash.load(root=shelf)
    assert f"left out: frames without a text: 1, the first is {text_of(shelf, 'b-hat')}, frame 3" in caplog.text
    with pytest.raises(SourceError, match="frames without a text: 1"):
        book_dash.load(root=shelf, strict=True)


def test_options(cache, shelf, monkeypatch):
    assert [book.id for book in book_dash.load(root=shelf, limit=1)] == ["a-fox"]
    assert len(load_stories(f"book_dash:{shelf}")) == 2
    monkeypatch.setenv("STORYLIB_BOOK_DASH", str(shelf))
    assert len(book_dash.load()) == 2
    monkeypatch.delenv("STORYLIB_BOOK_DASH")
    monkeypatch.setenv("STORYLIB_HOME", str(shelf.parent / "project"))
    beside = shelf.parent / "shared" / "data" / "book_dash"
    beside.parent.mkdir(parents=True)
    shelf.rename(beside)
    assert book_dash.load()[0].frames[0].image.is_relative_to(beside)


def test_layouts_that_differ(shelf):
    path = text_of(shelf, "a-fox")
    edit(path, "{{ site.image-set }}/01.jpg", "images/01.jpg")
    edit(path, "{{ site.image-set }}/02.jpg", "{{ page.images-folder }}/02.jpg")
    edit(path, "![Picture 3.]", "![]")
    edit(path, "# A title", "# A title\n\n![The cover.](images/cover.jpg)\n\nA series.\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    for other in ("fr", "xh"):
        (path.parents[1] / other).mkdir()
        (path.parents[1] / other / "index.md").write_text("![Un renard.](01.jpg)\n\nBonjour.")
    (shelf / "bookdash-books" / "translated-only" / "fr").mkdir(parents=True)
    (shelf / "bookdash-books" / "no-text" / "en").mkdir(parents=True)
    fox, hat = book_dash.load(root=shelf)
    assert [f.text for f in fox.frames] == [f"Page {i} of six." for i in range(1, 7)]
    assert [f.description for f in fox.frames[1:4]] == ["Picture 2.", None, "Picture 4."] and hat.id == "b-hat"


def test_reasons(shelf, caplog):
    path = write_book(shelf, "c-cat", PAGES)
    good = path.read_text()
    path.write_text("---\ntitle: C\n---\n\nOnly a text.")
    assert reason(shelf, "c-cat", caplog) == "it has no pictures"
    path.write_text(good)
    edit(path, "![Picture 2.]({{ site.image-set }}/02.jpg)", '<img src="02.jpg">')
    assert reason(shelf, "c-cat", caplog) == "it has a picture that is not written as ![description](file)"
    path.write_text(good)
    edit(path, "![Picture 2.]", "![Picture [2].]")
    assert reason(shelf, "c-cat", caplog) == "it has a picture that is not written as ![description](file)"
    path.write_text(good)
    edit(path, "05.jpg", "02.jpg")
    assert reason(shelf, "c-cat", caplog) == "its pictures are not in order"
    path = write_book(shelf, "c-cat", [(said, "") for said, _ in PAGES])
    assert reason(shelf, "c-cat", caplog) == "no page has a text"
    write_book(shelf, "c-cat", PAGES, rights="All rights reserved.")
    assert reason(shelf, "c-cat", caplog) == "_data/meta.yml names no Creative Commons licence for it"
    edit(shelf / "bookdash-books" / "_data" / "meta.yml", "c-cat", "d-dog")
    assert reason(shelf, "c-cat", caplog) == "_data/meta.yml names no Creative Commons licence for it"
    write_book(shelf, "c-cat", PAGES, rights="https://creativecommons.org/licenses/by-nc-sa/3.0")
    assert book_dash.load(root=shelf)[2].licence == "CC-BY-NC-SA 3.0"
    for picture in path.parent.rglob("*.jpg"):
        picture.unlink()
    (path.parent / "images" / "cover.jpg").touch()
    assert reason(shelf, "c-cat", caplog) == "it has no pictures"


def test_a_picture_that_is_missing_leaves_a_gap_or_stops(cache, shelf, caplog):
    (text_of(shelf, "a-fox").parent / "images" / "03.jpg").unlink()
    fox, _ = load_stories(f"book_dash:{shelf}")
    assert [f.number for f in fox.frames] == [1, 2, 4, 5, 6] and "frame 3 of story 'a-fox'" in caplog.text


def test_a_text_that_cannot_be_read_stays_out_or_stops(shelf, caplog):
    path = text_of(shelf, "a-fox")
    path.write_bytes(b"![](01.jpg)\n\xff\n")
    assert [book.id for book in book_dash.load(root=shelf)] == ["b-hat"]
    assert f"left out: {path} is not UTF-8" in caplog.text
    with pytest.raises(SourceError, match="is not UTF-8"):
        book_dash.load(root=shelf, strict=True)


@pytest.mark.parametrize(("markdown", "expected"), [
    ("One.\n\nTwo\nthree.  \nFour.", "One. Two three. Four."),
    ("**He’s** not _like_ us.\n{:.bold .large}", "He’s not like us."),
    ("{:#first}\nA fox.{: .red}", "A fox."),
    ("{% include page.html\n  a=1 %}One {{ site.title }}two.", "One two."),
    ("<p class='a'>One.</p><p>Two<br/>three, <em>four</em>.</p>", "One. Two three, four."),
    ("Me &amp; you&nbsp;two<!-- not\nthis -->.", "Me & you two."),
    ("See [the other book](../other/index.html).", "See the other book."),
    ("(Blessings!) 2 < 3 { 4", "(Blessings!) 2 < 3 { 4"),
])  # fmt: skip
def test_clean_text(markdown, expected):
    assert clean(markdown) == expected


def test_errors_name_the_place_and_the_way_out(shelf, tmp_path):
    empty = tmp_path / "empty"
    with pytest.raises(SourceError, match=r"empty/bookdash-books/_data/meta.yml does not exist.*STORYLIB_BOOK_DASH"):
        book_dash.load(root=empty)
    meta = shelf / "bookdash-books" / "_data" / "meta.yml"
    for damage in ("titles: [", "titles: 3", "series: {}", "", "titles: [a]"):
        meta.write_text(damage)
        with pytest.raises(SourceError, match=r"meta\.yml lists no titles \([^\n]+\): replace it by an intact copy"):
            book_dash.load(root=shelf)
    meta.write_text("titles: {}")
    with pytest.raises(SourceError, match=r"holds no book with pictures\. The first was dropped: a-fox: _data/meta"):
        book_dash.load(root=shelf)


def test_the_real_books(caplog):
    if not REAL.is_dir():
        pytest.skip("the real books are not at ../shared/data/book_dash")
    books = book_dash.load(root=REAL)
    frames = [frame for book in books for frame in book.frames]
    assert (len(books), len(frames), len(list(windows(books)))) == (30, 355, 224)
    assert "frames without a text: 6," in caplog.text and "dropped" not in caplog.text
    assert all(frame.description and frame.image.stem == f"{frame.number:02d}" for frame in frames)
    assert {book.licence for book in books} == {"CC-BY 4.0"} and all(book.credit for book in books)
    assert not any(sign in frame.text + frame.description for frame in frames for sign in "{}<>[]*_#\\")
    book_dash.BOOKS.check(REAL / "bookdash-books")
