from __future__ import annotations

import logging

import pytest
from conftest import noise

from storylib import sources
from storylib.pictures import PictureError
from storylib.sources import SourceError, load_stories, without_broken_pictures
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
