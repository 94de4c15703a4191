"""What is true of a scene: shares, floors and ceilings, and how often a model says or finds it."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import tiny_stories

from storylib.attributes import attribute_accuracy, knows_truth, most_common, one_of_each_plot, scene_truth
from storylib.config import Config
from storylib.sources.storyworld import grammar, load
from storylib.stories import split_stories, windows


@pytest.fixture(scope="module")
def world():
    return load(limit=24, size=32)


def reader(world, say, find):
    """A stand-in for a run: ``say`` and ``find`` make a text and a frame of each window's story, given its target."""
    rows = []
    for window in windows(world):
        target = window.target
        found = find(window)
        rows.append({"story": window.story.id, "page": target.page, "generation": say(window),
                     "retrieved_story": window.story.id, "retrieved_page": found.page})  # fmt: skip
    return SimpleNamespace(config=Config(), model_rows=pd.DataFrame(rows))


@pytest.fixture(scope="module")
def data(world):
    return SimpleNamespace(stories=world, splits=split_stories(world))


def test_a_reader_of_the_truth_is_right_wherever_it_was_told(world, data):
    table = attribute_accuracy([reader(world, lambda w: w.target.text, lambda w: w.target)], data)
    assert (table["retrieved"] == 100).all()
    assert table.loc["name", "written"] == 100 and table.loc["weather", "written"] == 0  # weather is never told


def test_repeating_the_last_frame_scores_its_floor(world, data):
    table = attribute_accuracy([reader(world, lambda w: "", lambda w: w.context[-1])], data)
    assert table["retrieved"].tolist() == pytest.approx(table["copy-last"].tolist())
    assert (table["written"] == 0).all()


def test_true_texts_are_read_back_in_lower_case_too(world):
    for story in world:
        for frame in story.frames:
            assert grammar.parse(frame.text.lower()) == grammar.parse(frame.text)


def test_the_truth_table_has_floors_below_ceilings(world):
    table = scene_truth(world)
    assert table.loc["weather", "told"] == 0 and table.loc["name", "shown"] == 0
    assert table.loc["action", ["told", "shown"]].tolist() == [100, 100]
    assert table.loc["with", "shown"] == 100
    assert (
        table["ceiling, both"] >= table[["ceiling, text", "ceiling, pictures", "majority"]].max(axis=1) - 1e-9
    ).all()


def test_one_story_of_each_plot(world):
    chosen = one_of_each_plot(world)
    plots = [s.frames[0].attributes["plot"] for s in chosen]
    assert len(plots) == len(set(plots)) == min(10, len({s.frames[0].attributes["plot"] for s in world}))
    assert len(one_of_each_plot(tiny_stories())) == 3


def test_other_stories_have_no_truth():
    assert not knows_truth(tiny_stories())
    assert scene_truth(tiny_stories()).empty
    assert attribute_accuracy([], SimpleNamespace(stories=tiny_stories())).empty


def test_the_majority_value():
    assert most_common([{"a": 1}, {"a": 2}, {"a": 2}], ["a"]) == {"a": 2}
