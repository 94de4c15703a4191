from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
from conftest import noise

from storylib.data.types import Frame, Story, windows
from storylib.sources import SourceError, load_stories, one_line, source_names


def test_a_misspelt_source_suggests_the_nearest_name():
    with pytest.raises(SourceError, match=r"'african_storybok'.*Did you mean 'african_storybook'"):
        load_stories("african_storybok")


def test_every_public_module_is_a_source_and_none_is_imported_to_be_found():
    assert set(source_names()) >= {"storyworld", "african_storybook", "story_reasoning", "hugging_face", "folder"}
    for name in source_names():
        assert callable(importlib.import_module(f"storylib.sources.{name}").load)


def test_a_module_put_into_the_package_is_a_source(cache, tmp_path, monkeypatch):
    noise(1).save(tmp_path / "a.png")
    (tmp_path / "newcomer.py").write_text(
        textwrap.dedent(f"""
            from pathlib import Path
            from storylib.data.types import Frame, Story

            def load(limit):
                return [Story("a", "A tale", (Frame(Path({str(tmp_path / "a.png")!r}), "A fox."),))]
        """)
    )
    monkeypatch.setattr("storylib.sources.__path__", [*sys.modules["storylib.sources"].__path__, str(tmp_path)])
    assert "newcomer" in source_names() and "storylib.sources.newcomer" not in sys.modules
    (story,) = load_stories("newcomer")
    assert story.title == "A tale"
    with pytest.raises(SourceError, match="Did you mean 'newcomer'"):
        load_stories("newcommer")
    monkeypatch.delitem(sys.modules, "storylib.sources.newcomer")


@pytest.fixture
def load_these(monkeypatch):
    """Let the source "folder" return some stories."""
    return lambda stories: monkeypatch.setattr("storylib.sources.folder.load", lambda limit: stories)


def test_an_unreadable_picture_is_left_out_or_an_error(cache, tmp_path, load_these, caplog):
    for number in range(1, 8):
        noise(number).save(tmp_path / f"{number}.jpg")
    broken = tmp_path / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    frames = tuple(Frame(tmp_path / f"{number}.jpg", f"Text {number}", number) for number in range(1, 8))
    load_these([Story("whole", "whole", frames[3:]), Story("torn", "torn", frames), Story("lost", "lost", frames[2:3])])
    stories = load_stories("folder")
    assert [s.id for s in stories] == ["whole", "torn"]
    assert [f.number for f in stories[1].frames] == [1, 2, 4, 5, 6, 7]
    assert [w.context[0].number for w in windows(stories[1:], context=3)] == [4]  # none spans the gap
    assert f"frame 3 of story 'torn': {broken} cannot be read" in caplog.text
    with pytest.raises(SourceError, match=r"frame 3 of story 'torn': .*3\.jpg.*strict=False"):
        load_stories("folder", strict=True)


def test_a_source_without_any_readable_picture(cache, tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,text,story_id,position\nx.jpg,A fox.,a,1\n")
    with pytest.raises(SourceError, match="no frame with a readable picture"):
        load_stories(f"folder:{tmp_path}")
    with pytest.raises(SourceError, match=r"frame 1 of story 'a': .*x\.jpg"):
        load_stories("folder", root=tmp_path, strict=True)


def test_long_texts_and_repeated_ids_are_left_out_or_an_error(cache, tmp_path, load_these, caplog):
    picture = tmp_path / "a.png"
    noise(1).save(picture)
    frame, long_frame = Frame(picture, "A fox."), Frame(picture, "x" * 1_000_000, 2)
    first, second = Story("a", "first", (frame, long_frame)), Story("a", "second", (frame,))
    load_these([first, second, Story("b", "only", (long_frame,))])
    (story,) = load_stories("folder")
    assert story.title == "first" and story.frames == (frame,)
    assert "a second story with the id 'a', 'second': give each story its own id" in caplog.text
    assert f"frame 2 of story 'a': the text of {picture} has 1,000,000 characters, more than 50,000" in caplog.text
    with pytest.raises(SourceError, match="shorten or divide it"):
        load_stories("folder", strict=True)
    load_these([second, second])
    with pytest.raises(SourceError, match="a second story with the id 'a'"):
        load_stories("folder", strict=True)


def test_the_name_may_contain_options(cache, tmp_path):
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
