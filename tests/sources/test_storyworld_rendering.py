"""Loading Storyworld: pictures are drawn once, completely, and kept."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import pytest
from conftest import flip
from PIL import Image

from storylib.data import store
from storylib.data.store import StoreError
from storylib.sources import SourceError, storyworld
from storylib.sources.storyworld import drawing, rendering, truth
from storylib.sources.storyworld.attributes import scene_truth
from storylib.sources.storyworld.lexicon import TITLES
from storylib.sources.storyworld.world import Settings

LOAD = "from storylib.sources import storyworld; print(storyworld.load(limit=2, size=32)[1].frames[0].image)"


@pytest.fixture(scope="module")
def drawn_cache(tmp_path_factory):
    """A cache with the pictures of three stories."""
    folder = tmp_path_factory.mktemp("drawn") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_CACHE", str(folder))
        storyworld.load(limit=3, size=32)
    return folder


@pytest.fixture
def stories(cache, drawn_cache):
    """These stories in the cache of this test alone, which it may damage."""
    shutil.copytree(drawn_cache, cache)
    return storyworld.load(limit=3, size=32)


def test_load_returns_stories(stories):
    assert [s.id for s in stories] == ["sw-00000", "sw-00001", "sw-00002"]
    for story in stories:
        assert 5 <= len(story.frames) <= 8 and story.group == story.id and story.licence == "CC0-1.0"
        assert [f.number for f in story.frames] == list(range(1, len(story.frames) + 1))
        for frame in story.frames:
            assert Image.open(frame.image).size == (32, 32)
            assert set(truth.ATTRIBUTES) <= set(frame.attributes) and json.dumps(frame.attributes)


def test_a_story_of_two_chapters_names_the_plot_of_each_frame(cache, monkeypatch):
    (story,) = storyworld.load(limit=1, size=32, chapters=2)
    plots = [frame.attributes["plot"] for frame in story.frames]
    runs = [plot for plot, _ in itertools.groupby(plots)]
    assert 9 <= len(plots) <= 14 and len(runs) == len(set(runs)) == 2
    assert any(story.title == title.format(name=story.frames[0].attributes["name"]) for title in TITLES[runs[0]])
    columns = ["text", "pictures", "both", "copy_last", "majority"]
    ceilings = {Settings(chapters=2): pd.DataFrame(0.5, index=truth.ATTRIBUTES, columns=columns)}
    monkeypatch.setattr(truth, "ceilings", lambda settings, context: ceilings[settings])
    assert scene_truth([story]).loc["action", "ceiling, both"] == 50


def test_limit_is_a_prefix_and_the_second_load_draws_nothing(stories, monkeypatch):
    monkeypatch.setattr(rendering, "render", lambda *_: pytest.fail("drawn again"))
    assert storyworld.load(limit=2, size=32) == stories[:2]


@pytest.fixture
def drawn(monkeypatch):
    """A list that gets an entry for every picture drawn."""
    drawn, render = [], drawing.render

    def counting_render(*arguments):
        drawn.append(arguments)
        return render(*arguments)

    monkeypatch.setattr(rendering, "render", counting_render)
    return drawn


def read_all(stories):
    return [f.image.read_bytes() for s in stories for f in s.frames]


def test_an_interrupted_drawing_continues_with_the_tale(stories, cache, monkeypatch, drawn):
    monkeypatch.setenv("STORYLIB_CACHE", str(cache / "other"))
    save = Image.Image.save

    def kill(image, path, *_, **__):
        if path.parts[-2].startswith("00001.") and path.name == "2.png":
            path.write_bytes(b"half a pic")
            raise KeyboardInterrupt
        save(image, path, "PNG", compress_level=3)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Image.Image, "save", kill)
        storyworld.load(limit=3, size=32)
    assert [p.name for p in sorted((cache / "other").rglob("0000*")) if p.is_dir()] == ["00000"]
    assert read_all(storyworld.load(limit=3, size=32)) == read_all(stories)
    assert len(drawn) == sum(len(s.frames) for s in stories) + 2  # two pictures of the interrupted tale


@pytest.mark.parametrize("name", ["3.png", "SHA256SUMS"])
def test_a_tale_with_one_changed_byte_is_drawn_again(stories, drawn, caplog, name):
    whole, folder = read_all(stories), stories[1].frames[0].image.parent
    flip(folder / name, 40)
    assert read_all(storyworld.load(limit=3, size=32)) == whole and len(drawn) == len(stories[1].frames)
    (warning,) = caplog.messages
    assert f"the cache is damaged, {folder}" in warning and warning.endswith("; it is made again")


def test_pictures_that_older_code_drew_are_not_used(stories, monkeypatch):
    keys = set()
    monkeypatch.setattr(store, "code_fingerprint", lambda *modules: keys.add(modules) or "newer code")
    (after,) = storyworld.load(limit=1, size=32)
    assert not {f.image for f in stories[0].frames} & {f.image for f in after.frames}
    assert read_all(stories[:1]) == read_all([after])
    assert keys == {("sources.storyworld.drawing",)}


def test_two_processes_repair_the_same_world_at_once(stories, cache):
    whole = read_all(stories)
    flip(stories[0].frames[1].image)
    flip(stories[1].frames[0].image)
    both = [subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [p.communicate()[0].strip() for p in both] == [str(stories[1].frames[0].image)] * 2
    assert read_all(stories) == whole and not list(cache.rglob("*.partial"))


def test_a_full_disk_is_reported_and_leaves_nothing(cache, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(StoreError, match=r"is full.*STORYLIB_CACHE"):
        storyworld.load(limit=1, size=32)
    assert not [p for p in cache.rglob("0000*") if p.is_dir()]


def test_many_processes_draw_what_one_draws(stories, cache, monkeypatch):
    monkeypatch.setenv("STORYLIB_CACHE", str(cache / "other"))
    monkeypatch.setattr(rendering, "FEW", 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(rendering, "render", lambda *_: pytest.fail("drawn here"))
    assert read_all(storyworld.load(limit=2, size=32)) == read_all(stories[:2])


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0}, {"limit": 2.5}, {"limit": True}, {"size": 16}, {"size": 1024}, {"size": "large"}, {"seed": -1},
        {"seed": 1.5}, {"noise": 1.5}, {"digression": -0.1}, {"in_text": "often"}, {"in_picture": 2}, {"jitter": 3},
        {"distractors": 100}, {"chapters": 3}, {"chapters": 0}, {"chapters": 1.0}, {"chapters": True},
        {"chapters": "2"}, {"noize": 0.1},
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(bad):
    with pytest.raises(SourceError, match=next(iter(bad))):
        storyworld.load(**({"limit": 1} | bad))
