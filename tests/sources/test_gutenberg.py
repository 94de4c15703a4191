from __future__ import annotations

import logging
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from storylib.config import project_root
from storylib.data.store import StoreError
from storylib.data.types import windows
from storylib.sources import SourceError, absolute_source, gutenberg, load_stories, source_fingerprint
from tests.stand_in import blobs

REAL = project_root().parent / "shared" / "data" / "gutenberg"
WRITTEN = {"iso-8859-1": "windows-1252"}  # many pages declare the first and are in the second, as browsers know
HEAD = """<pre>
The Project Gutenberg EBook of The Tale of a Hat, by Ada Writer

This eBook is for the use of anyone anywhere.

Title: The Tale of a Hat

Author: Ada Writer

Release Date: January 30, 2005 [EBook #123]

*** START OF THIS PROJECT GUTENBERG EBOOK THE TALE OF A HAT ***

Produced by Volunteers.
</pre>
<h1>THE TALE OF A HAT</h1>"""
LICENCE = """<pre>End of Project Gutenberg's The Tale of a Hat

*** END OF THIS PROJECT GUTENBERG EBOOK *** No story. </pre><p>Nor is this.</p>"""
TITLE_PAGE = """<img src="images/emblem.png" alt="Emblem"><h3>BY</h3><p><i>Author of "Socks," etc.</i></p>
<p>Copyright, 1904, by A. House &amp; Co.</p><p>FOR ALL CHILDREN!</p>"""


def image(name: str, alt: str = "") -> str:
    return f'<div><img src="images/{name}" alt="{alt}"></div>'


def write_book(
    folder: Path, body: str, pictures: str = "1.png 2.png 3.png 4.png", head: str = HEAD, encoding: str = "iso-8859-1"
) -> Path:
    """An HTML book in the layout of GITenberg. Returns its page."""
    page = folder / "123-h" / "123-h.htm"
    (page.parent / "images").mkdir(parents=True)
    for i, name in enumerate(pictures.split()):
        blobs(np.random.default_rng(i), (32, 24)).save(page.parent / "images" / name)
    declaration = f'<meta http-equiv="Content-Type" content="text/html; charset={encoding}" />'
    html = f"<html><head>{declaration}<title>A hat</title></head><body>{head}{body}{LICENCE}</body></html>"
    page.write_bytes(html.encode(WRITTEN.get(encoding, encoding)))
    return page


def pages(story) -> list[tuple[int, str, str]]:
    return [(frame.number, Path(frame.image).name, frame.text) for frame in story.frames]


def test_a_book_without_its_front_matter_page_marks_end_papers_and_licence(cache, tmp_path):
    body = f"""{image("cover.png", "Cover")}{TITLE_PAGE}
    {image("1.png", "A girl in a café")}<p>Once <span class="pagenum">9</span>upon a
    time,<br>in a café.</p><p>It <b>rai</b>ned. [10]</p><p>[Pg 11]</p>
    <h2>CHAPTER II</h2>{image("2.png")}<blockquote><p>The END OF THE hat.</p></blockquote>
    <h2>THE END</h2>{image("paper.png")}<p>An advertisement.</p>"""
    write_book(tmp_path / "Hat_123", body, "cover.png emblem.png 1.png 2.png paper.png")
    (story,) = load_stories(f"gutenberg:{tmp_path}", strict=True)
    assert (story.id, story.title) == ("gutenberg-123", "The Tale of a Hat")
    assert story.licence == "Public domain in the United States"
    assert story.credit == "Ada Writer; Project Gutenberg #123"
    assert pages(story) == [
        (1, "1.png", "Once upon a time, in a café. It rained."),
        (2, "2.png", "The END OF THE hat."),
    ]
    assert [frame.description for frame in story.frames] == ["A girl in a café", None]


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-8"])
@pytest.mark.parametrize("by_xml", [False, True])
def test_the_declared_encoding(tmp_path, encoding, by_xml):
    page = write_book(tmp_path, f"{image('1.png')}<p>A café – ’.</p>", "1.png", encoding=encoding)
    if by_xml:
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>'.encode()
        page.write_bytes(declaration + page.read_bytes().replace(b"charset=", b"other="))
    assert gutenberg.read_book(page).frames[0].text == "A café – ’."


def test_an_unknown_encoding_is_named(tmp_path):
    page = write_book(tmp_path, f"{image('1.png')}<p>A hat.</p>")
    page.write_bytes(page.read_bytes().replace(b"iso-8859-1", b"klingon"))
    with pytest.raises(SourceError, match=r"123-h\.htm cannot be read as HTML"):
        gutenberg.read_book(page)


def test_notes_of_the_transcriber_are_no_story(tmp_path):
    body = f"<p>Transcriber's Note: a hat.</p>{image('1.png')}<p>One.</p>{image('2.png')}<p>Two.</p>"
    page = write_book(tmp_path, f"{body}<h4>TRANSCRIBER'S NOTE</h4><p>Spelling is as in the book.</p>")
    assert [text for _, _, text in pages(gutenberg.read_book(page))] == ["One.", "Two."]


def test_a_thumbnail_stands_for_the_picture_to_which_it_links(tmp_path):
    body = "".join(f'<a href="images/{i}.png"><img src="images/{i}-tb.png"></a><p>Page {i}.</p>' for i in (1, 2))
    page = write_book(tmp_path, body, "1.png 1-tb.png 2-tb.png")
    assert [name for _, name, _ in pages(gutenberg.read_book(page))] == ["1.png", "2-tb.png"]  # 2.png does not exist


@pytest.mark.parametrize("alt", ["", "images/1.PNG", "[Illustration]", "[Illustration: ]", "One"])
def test_an_alt_text_that_says_nothing_is_no_description(tmp_path, alt):
    page = write_book(tmp_path, f"{image('1.png', alt)}<p>One.</p>{image('2.png', 'A hat')}<p>Two.</p>")
    assert [frame.description for frame in gutenberg.read_book(page).frames] == [None, "A hat"]


def test_pictures_left_and_right_share_the_text_between_them(tmp_path):
    body = f"""{image("1.png")}<p>One.</p><p>Two, a longer text.</p><p>Two again.</p>{image("2.png")}
    {image("3.png")}<p>Three.</p><p>Four.</p>{image("4.png")}<p>Five.</p>{image("5.png")}{image("6.png")}<p>Six.</p>"""
    story = gutenberg.read_book(write_book(tmp_path, body))
    assert [text for _, _, text in pages(story)] == [
        "One. Two, a longer text.",
        "Two again.",
        *"Three. Four. Five. Six.".split(),
    ]


def test_the_part_of_the_page_that_a_picture_has_to_itself(tmp_path):
    left, right = ("<tr><td>{}</td><td><p>{}</p><p>More.</p></td></tr>", "<tr><td>{1}</td><td>{0}</td></tr>")
    rows = [
        left.format(image("1.png"), "One."),
        right.format(image("2.png"), "Two."),
        left.format(image("3.png"), "3."),
    ]
    page = write_book(tmp_path, f"{TITLE_PAGE}<p>Once upon a time:</p><table>{''.join(rows)}</table>")
    texts = [text for _, _, text in pages(gutenberg.read_book(page))]
    assert texts == ["Once upon a time: One. More.", "Two.", "3. More."]  # what comes before all belongs to the first


def test_a_heading_with_the_title_ends_the_front_matter(tmp_path):
    front = f"{image('1.png')}<p>My dear child, here is a story.</p>{image('2.png')}<h2>The Tale of a Hat</h2>"
    story = gutenberg.read_book(write_book(tmp_path, f"{front}<p>One.</p>{image('3.png')}<p>Two.</p>"))
    assert pages(story) == [(1, "2.png", "One."), (2, "3.png", "Two.")]


def test_a_picture_without_a_text_leaves_a_gap(cache, tmp_path, caplog):
    names = [f"{i}.png" for i in range(1, 8)]
    body = "".join(image(name) + ("" if name == "3.png" else f"<p>Page {name[0]}.</p>") for name in names)
    page = write_book(tmp_path, body, " ".join(names))
    (story,) = load_stories(f"gutenberg:{page}")
    assert [frame.number for frame in story.frames] == [1, 2, 4, 5, 6, 7]
    assert f"frames without a text: 1, the first is {page}, frame 3" in caplog.text
    assert len(list(windows([story], context=3))) == 1
    with pytest.raises(SourceError, match="frames without a text: 1"):
        load_stories(f"gutenberg:{page}", strict=True)


@pytest.mark.parametrize("body", ["<p>No picture.</p>", "".join(image(f"{i}.png") for i in (1, 2, 3, 4))])
def test_a_book_whose_pictures_and_texts_do_not_alternate(tmp_path, body):
    page = write_book(tmp_path, body)
    with pytest.raises(SourceError, match=r"holds no book with pictures.* 123-h: pictures and texts do not alternate"):
        gutenberg.load(root=page)


def test_the_error_names_the_pictures_without_a_text(tmp_path, caplog):
    body = f"{image('1.png')}<p>A text.</p>" + "".join(image(f"{i}.png") for i in range(2, 9)) + "<p>The last.</p>"
    bad, good = write_book(tmp_path / "a", body), write_book(tmp_path / "b", f"{image('1.png')}<p>One.</p>")
    good.rename(good.with_name("124-h.htm"))
    with caplog.at_level(logging.INFO):
        assert len(gutenberg.load(root=tmp_path)) == 1
    (line,) = [line for line in caplog.messages if line.startswith(f"dropped {bad.stem}: ")]
    assert line.endswith("6 pictures have no text before or after them: 2.png, 3.png, 4.png, 5.png, 6.png")


def test_a_picture_outside_of_the_book_is_not_read(cache, tmp_path, caplog):
    body = (
        f'{image("1.png")}<p>One.</p><img src="../../secret.png"><p>Two.</p><img src="%2e%2e/../secret.png"><p>3.</p>'
    )
    page = write_book(tmp_path / "book", body)
    blobs(np.random.default_rng(0), (32, 24)).save(tmp_path / "book" / "secret.png")
    blobs(np.random.default_rng(0), (32, 24)).save(tmp_path / "secret.png")
    (story,) = load_stories(f"gutenberg:{page}")
    assert [frame.number for frame in story.frames] == [1]
    assert caplog.text.count("secret.png does not exist") == 2


def test_any_folder_of_a_book_and_its_fingerprint(tmp_path):
    page = write_book(tmp_path / "Hat_123", f"{image('1.png')}<p>One.</p>")
    for place in (tmp_path, page.parents[1], page.parent, page):
        assert [story.id for story in gutenberg.load(root=place)] == ["gutenberg-123"]
    before = source_fingerprint(f"gutenberg:{tmp_path}")
    (page.parent / "images" / "1.png").write_bytes(b"another picture")
    assert source_fingerprint(f"gutenberg:{tmp_path}") != before
    with pytest.raises(SourceError, match=r"holds no HTML book\. Expected <repository>/NNNN-h/NNNN-h\.htm"):
        gutenberg.load(root=tmp_path / "nothing")


def test_a_book_of_the_user_that_names_no_facts(tmp_path):
    page = write_book(tmp_path, f"{image('1.png')}<p>One.</p>", head="<h1>A HAT</h1>")
    story = gutenberg.read_book(page)
    assert (story.title, story.licence, story.id) == ("A hat", "", "gutenberg-123-h")


def test_a_book_that_is_not_free_gets_no_licence(tmp_path):
    head = HEAD.replace("This eBook is for", "This is a COPYRIGHTED Project Gutenberg eBook for")
    assert gutenberg.read_book(write_book(tmp_path, f"{image('1.png')}<p>One.</p>", head=head)).licence == ""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        self.server.requested.append(self.path)


@pytest.fixture
def web(tmp_path):
    """A web server of the folder "web", which notes what it is asked for."""
    (tmp_path / "web").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "web"))) as server:
        server.requested = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_book_of_the_web_is_downloaded_once_with_the_pictures_of_its_folder(cache, tmp_path, web, monkeypatch):
    names = ("../../secret.png", "%2e%2e/secret.png", "/secret.png", "http://127.0.0.1:9/secret.png")
    outside = "".join(f'<img src="{name}"><p>A text.</p>' for name in names)
    thumbnail = '<a href="./images/2.png"><img src="images/2-tb.png"></a><p>Two.</p>'
    page = write_book(tmp_path / "web", f"{image('1.png')}<p>One.</p>{thumbnail}{outside}", "1.png 2.png 2-tb.png")
    for folder in (tmp_path, tmp_path / "web"):
        blobs(np.random.default_rng(9), (32, 24)).save(folder / "secret.png")
    source = f"gutenberg:http://127.0.0.1:{web.server_address[1]}/123-h/{page.name}"
    assert absolute_source(source) == source and source_fingerprint(source) == ""
    (story,) = load_stories(source)
    assert pages(story) == [(1, "1.png", "One."), (2, "2.png", "Two.")]
    assert set(web.requested) == {"/123-h/123-h.htm", "/123-h/images/1.png", "/123-h/images/2.png"}
    web.requested.clear()
    assert pages(load_stories(source)[0]) == pages(story) and not web.requested


def test_missing_files_of_the_web(cache, tmp_path, web):
    page = write_book(tmp_path / "web", f"{image('1.png')}<p>One.</p>", "1.png")
    url = f"http://127.0.0.1:{web.server_address[1]}/123-h/{page.name}"
    with pytest.raises(StoreError, match=r"nothing\.htm cannot be downloaded \(404 .*name its \.htm file instead"):
        gutenberg.load(root=url.replace(page.name, "nothing.htm"))
    (page.parent / "images" / "1.png").unlink()
    with pytest.raises(StoreError, match=r"1\.png cannot be downloaded \(404 "):
        gutenberg.load(root=url)


def test_fourteen_tales_are_pinned():
    assert len({archive.repository for archive in gutenberg.ARCHIVES}) == 14
    assert all(
        len(archive.commit) == 40 and archive.repository.startswith("GITenberg/") for archive in gutenberg.ARCHIVES
    )


@pytest.mark.skipif(not REAL.is_dir(), reason="no copy of the tales")
def test_the_real_tales(cache, caplog):
    stories = load_stories(f"gutenberg:{REAL}", strict=True)
    assert (len(stories), sum(len(story.frames) for story in stories), len(list(windows(stories)))) == (11, 303, 259)
    assert sum(frame.description is not None for story in stories for frame in story.frames) == 181
    assert {story.credit.partition(";")[0] for story in stories} == {"Beatrix Potter"}
