from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
from conftest import noise

from storylib.data.types import Frame, Story, windows
from storylib.sources import (
    SourceError,
    absolute_source,
    load_stories,
    name_and_options,
    one_line,
    source_fingerprint,
    source_names,
)


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
    with pytest.raises(SourceError, match="has no frame with a text and a picture"):
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
    assert "frame 2 of story 'a': its text has 1,000,000 characters, more than 50,000" in caplog.text
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


NAMES = [
    "with space", "a&b", "a #b", "{x}", "what?", "?images=b", "what?a=b&c=d", "'quote\" $HOME", "[1]*", "a::b",
    "naïve ꦏ 图", "-leading", "%41+b", "a:b", "~", "~b", "...",
]  # fmt: skip


def folder_of_one(folder):
    folder.mkdir(parents=True)
    noise(1).save(folder / "a.png")
    (folder / "metadata.csv").write_text("file_name,text,story_id,position\na.png,A fox.,a,1\n")


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder(cache, tmp_path, monkeypatch, name):
    folder_of_one(tmp_path / "here" / name)
    monkeypatch.chdir(tmp_path / "here")
    absolute = f"folder:{tmp_path / 'here' / name}"
    for source in (f"folder:{name}", f"folder:{tmp_path}/here/../here/{name}", absolute, f"folder:{name}/metadata.csv"):
        (story,) = load_stories(source, strict=True)
        assert story.frames[0].image == tmp_path / "here" / name / "a.png"
        assert absolute_source(source).startswith(absolute) and absolute_source(
            absolute_source(source)
        ) == absolute_source(source)
    monkeypatch.setenv("STORYLIB_FOLDER", name)
    assert load_stories("folder") and absolute_source("folder") == "folder"


def test_home_links_and_other_users(cache, tmp_path, monkeypatch):
    folder_of_one(tmp_path / "home" / "mine")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "link").symlink_to(tmp_path / "home" / "mine")
    assert absolute_source("folder:~/mine") == f"folder:{tmp_path / 'home' / 'mine'}"
    assert len(load_stories("folder:~/mine")) == len(load_stories(f"folder:{tmp_path / 'link'}")) == 1
    monkeypatch.setenv("STORYLIB_FOLDER", "~/mine")
    assert len(load_stories("folder")) == 1
    with pytest.raises(SourceError, match="~no-such-user/x does not exist"):
        load_stories("folder:~no-such-user/x")
    with pytest.raises(SourceError, match="does not exist"):
        load_stories(f"folder:{'x' * 5000}")


def test_options_after_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a?b=c").mkdir()
    options = "?images=my+pics%26more&texts=a=b"
    name, parts = name_and_options(f"hugging_face:a?b=c{options}")
    assert (name, parts) == ("hugging_face", {"root": f"{tmp_path}/a?b=c", "images": "my+pics&more", "texts": "a=b"})
    assert absolute_source(f"hugging_face:a?b=c{options}") == f"hugging_face:{tmp_path}/a?b=c{options}"
    assert name_and_options("hugging_face:a?b=c")[1] == {"root": f"{tmp_path}/a?b=c"}
    with pytest.raises(SourceError, match="Unknown option 'limit'"):
        load_stories("hugging_face:owner/name?limit=3")


@pytest.mark.parametrize("source", [None, 2024, ["folder:x"], 1.5])
def test_a_source_that_is_no_text(source):
    with pytest.raises(SourceError, match="A source is a text, such as 'folder:<path>', not"):
        load_stories(source)


def test_rows_that_cannot_be_used_do_not_stop_the_fingerprint(tmp_path):
    (tmp_path / "metadata.jsonl").write_text('{\n[1]\nnull\n{"text": 1}\n{"file_name": "../a.png"}\n')
    assert source_fingerprint(f"folder:{tmp_path}")


def test_a_changed_parquet_file_changes_the_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_STORY_REASONING", str(tmp_path))
    seen = set()
    for name in ("train/0.parquet", "test/0.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
        seen |= {source_fingerprint("story_reasoning"), source_fingerprint(f"hugging_face:{tmp_path}?texts=a")}
    (tmp_path / name).write_bytes(b"other")
    seen.add(source_fingerprint(f"story_reasoning:{tmp_path}"))
    assert len(seen) == 3


def test_licences_are_chosen_before_the_limit(monkeypatch):
    stories = [Story(str(i), "t", (Frame("a.png", "A text."),), "CC-BY" if i % 2 else "CC-BY-NC") for i in range(6)]
    monkeypatch.setattr("storylib.sources.folder.load", lambda limit=None: stories[:limit])
    monkeypatch.setattr("storylib.sources._usable", lambda stories, strict: stories)
    assert [story.id for story in load_stories("folder:?licences=CC-BY", limit=2)] == ["1", "3"]
    assert len(load_stories("folder", licences="CC-BY, CC-BY-NC")) == 6
    with pytest.raises(SourceError, match=r"Unknown licence 'CC0'.* Known: CC-BY, CC-BY-NC"):
        load_stories("folder:?licences=CC0")
