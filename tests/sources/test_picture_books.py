"""The union of the real sources: every story keeps its source, and a limit keeps each source's share."""

from __future__ import annotations

import pytest

from storylib.data.types import Frame, Story
from storylib.sources import SourceError, load_stories, picture_books
from storylib.sources.picture_books import SOURCES


def test_stories_keep_their_source_and_a_limit_keeps_the_shares(monkeypatch):
    for name, count in zip(SOURCES, (8, 4, 2), strict=True):
        stories = [Story(f"{name}{i}", name, (Frame("a.png", "A text."),)) for i in range(count)]
        monkeypatch.setattr(SOURCES[name], "load", lambda stories=stories, **_: stories)
    names = [story.source for story in picture_books.load()]
    assert names == ["african_storybook"] * 8 + ["book_dash"] * 4 + ["gutenberg"] * 2
    assert [[story.source for story in picture_books.load(limit=7)].count(name) for name in SOURCES] == [4, 2, 1]
    assert len(picture_books.load(limit=99)) == 14


def test_it_has_no_options():
    with pytest.raises(SourceError, match="The source 'picture_books': Unknown option 'language'"):
        load_stories("picture_books:?language=fr")
