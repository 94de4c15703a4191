from __future__ import annotations

import logging

import pytest
from conftest import noise

from storylib import sources
from storylib.pictures import PictureError
from storylib.sources import SourceError, load_stories, one_line, without_broken_pictures
from storylib.stories import Frame, Story, windows


def test_a_misspelt_source_suggests_the_nearest_name():
    with pytest.raises(SourceError, match=r"'african_storybok'.*Did you mean 'african_storybook'"):
        load_stories("african_storybok")


def test_every_registered_source_can_be_imported():
    for module in sources.SOURCES.values():
        assert callable(pytest.importorskip(module).load)


@pytest.fixture
def one_broken(tmp_path) -> list[Story]:
    for page in range(1, 8):
        noise(page).save(tmp_path / f"{page}.jpg")
    broken = tmp_path / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    frames = tuple(Frame(tmp_path / f"{page}.jpg", f"page {page}", page) for page in range(1, 8))
    return [Story("whole", "whole", frames[3:]), Story("torn", "torn", frames), Story("lost", "lost", frames[2:3])]


def test_a_broken_picture_is_named_and_counted(cache, one_broken, caplog):
    with caplog.at_level(logging.WARNING):
        kept = without_broken_pictures(one_broken)
    assert [s.id for s in kept] == ["whole", "torn"]
    assert [f.page for f in kept[1].frames] == [1, 2, 4, 5, 6, 7]
    assert [w.context[0].page for w in windows(kept[1:], context=3)] == [4]  # none reaches across the gap
    assert "torn, page 3" in caplog.text and "3.jpg" in caplog.text and "2 pages were left out" in caplog.text


def test_a_broken_picture_is_fatal_under_strict(cache, one_broken):
    with pytest.raises(PictureError, match=r"3\.jpg(?s:.)*2 broken in all"):
        without_broken_pictures(one_broken, strict=True)


def test_a_source_of_broken_pictures_only(cache, tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text,story_id,position\nx.jpg,A fox.,a,1\n")
    with pytest.raises(SourceError, match="no page with a readable picture"):
        load_stories(f"folder:{tmp_path}")
    with pytest.raises(PictureError, match=r"x\.jpg"):
        load_stories("folder", root=tmp_path, strict=True)


def test_what_no_page_is_stays_out_or_stops(cache, tmp_path, monkeypatch, caplog):
    noise(1).save(tmp_path / "a.png")
    page = Frame(tmp_path / "a.png", "A fox.")
    book = Frame(tmp_path / "a.png", "x" * 1_000_000, 2)
    stories = [Story("a", "first", (page, book)), Story("a", "second", (page,)), Story("b", "only", (book,))]
    monkeypatch.setattr("storylib.sources.folder.load", lambda limit: stories)
    (kept,) = load_stories("folder")
    assert kept.title == "first" and kept.frames == (page,)
    assert "a second story with the id 'a', 'second': give each story its own id" in caplog.text
    assert f"a, page 2 ({tmp_path / 'a.png'}): its text has 1,000,000 characters, more than 50,000" in caplog.text
    with pytest.raises(SourceError, match="shorten or divide it"):
        load_stories("folder", strict=True)
    stories[:] = stories[1:2] * 2
    with pytest.raises(SourceError, match="a second story with the id 'a'"):
        load_stories("folder", strict=True)


def test_options_may_stand_in_the_name(cache, tmp_path):
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,text,story_id,position\na.png,A fox.,a,1\n")
    assert len(load_stories(f"folder:{tmp_path}?")) == 1
    with pytest.raises(SourceError, match="Unknown option 'tests'"):
        load_stories(f"folder:{tmp_path}?tests=1")
    with pytest.raises(SourceError, match="Unknown option 'text'"):
        load_stories("folder", root=tmp_path, text=1)


@pytest.mark.parametrize(("text", "expected"), [
    ("a\n b\t\u00a0c ", "a b c"), ("a\x00b\x1bc", "a b c"), ("a\ud800b", "a b"), ("\u2028", ""),
    ("ŋ «é» ቃል 😀", "ŋ «é» ቃል 😀"),
])  # fmt: skip
def test_one_line(text, expected):
    assert one_line(text) == expected


def test_credits_name_every_licence_and_author_once():
    from storylib.sources import credits

    def story(number, credit):
        return Story(f"s{number}", f"Title {number}", (), "CC-BY", credit)

    table = credits([*(story(i, "Ada") for i in range(7)), story(7, "<b>Bo</b>")])
    assert table[["credit", "stories"]].values.tolist() == [["Ada", 7], ["<b>Bo</b>", 1]]
    assert table["titles"][0] == "Title 0; Title 1; Title 2; Title 3; Title 4; …"
    assert "<b>" not in table.to_html()
