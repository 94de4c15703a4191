"""What is true of a scene: shares, baselines and ceilings, and how often a model's next frame agrees."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from conftest import tiny_stories

from storylib.data.pictures import open_picture, thumbnail
from storylib.data.splits import split_stories
from storylib.data.types import windows
from storylib.sources.storyworld import grammar, load
from storylib.sources.storyworld.attributes import (
    attribute_accuracy,
    knows_truth,
    most_common,
    one_of_each_plot,
    scene_truth,
)
from storylib.sources.storyworld.probe import VALUES, read_pictures

pytestmark = pytest.mark.xdist_group("ceilings")  # two files that compute them: once, in one process


@pytest.fixture(scope="module")
def world():
    return load(limit=24, size=32)


def accuracy(world, text, retrieved):
    """The table for a model whose ``text`` and ``retrieved`` make a text and a frame of each window."""
    rows = []
    for window in windows(world):
        rows.append({"story": window.story.id, "frame": window.target.number, "seed": 0, "generation": text(window),
                     "retrieved_story": window.story.id, "retrieved_frame": retrieved(window).number})  # fmt: skip
    return attribute_accuracy(pd.DataFrame(rows), world, split_stories(world).train)


def test_a_model_that_returns_the_truth_is_correct_wherever_the_text_states_it(world):
    table = accuracy(world, lambda window: window.target.text, lambda window: window.target)
    assert (table["retrieved"] == 100).all()
    assert table.loc["name", "written"] == 100 and table.loc["weather", "written"] == 0  # no text states the weather


def test_repeating_the_last_frame_scores_its_baseline(world):
    table = accuracy(world, lambda window: "", lambda window: window.context[-1])
    assert table["retrieved"].tolist() == pytest.approx(table["copy-last"].tolist())
    assert (table["written"] == 0).all()


def test_a_probe_reads_the_drawn_and_the_true_pictures(world):
    targets = [window.target for window in windows(world)]
    rows = [{"story": w.story.id, "frame": w.target.number, "seed": 0, "generation": "", "retrieved_story": w.story.id,
             "retrieved_frame": w.target.number} for w in windows(world)]  # fmt: skip
    true = np.stack([thumbnail(open_picture(frame.image), 64) for frame in targets])
    blank = np.zeros_like(true)
    table = attribute_accuracy(pd.DataFrame(rows), world, split_stories(world).train, drawn=(blank, true))
    assert table["drawn"].notna().sum() == table["probe"].notna().sum() == len(VALUES)
    scenes = read_pictures(true)
    places = [scene["where"] == frame.attributes["where"] for scene, frame in zip(scenes, targets, strict=True)]
    assert table.loc["where", "probe"] == pytest.approx(100 * np.mean(places))
    assert table.loc["where", "probe"] > 50 > table.loc["where", "drawn"]


def test_true_texts_are_read_back_in_lower_case_too(world):
    for story in world:
        for frame in story.frames:
            assert grammar.parse(frame.text.lower()) == grammar.parse(frame.text)


def test_the_truth_table_has_baselines_below_ceilings(world):
    table = scene_truth(world)
    assert table.loc["weather", "in the text"] == 0 and table.loc["name", "in the picture"] == 0
    assert table.loc["action", ["in the text", "in the picture"]].tolist() == [100, 100]
    assert table.loc["with", "in the picture"] == 100
    others = table[["ceiling, text", "ceiling, pictures", "majority"]].max(axis=1)
    assert (table["ceiling, both"] >= others - 1e-9).all()


def test_one_story_of_each_plot(world):
    chosen = one_of_each_plot(world)
    plots = [s.frames[0].attributes["plot"] for s in chosen]
    assert len(plots) == len(set(plots)) == min(10, len({s.frames[0].attributes["plot"] for s in world}))
    assert len(one_of_each_plot(tiny_stories())) == 3


def test_other_stories_have_no_truth():
    assert not knows_truth(tiny_stories())
    assert scene_truth(tiny_stories()).empty
    assert attribute_accuracy(pd.DataFrame(), tiny_stories(), []).empty


def test_the_majority_value():
    assert most_common([{"a": 1}, {"a": 2}, {"a": 2}], ["a"]) == {"a": 2}
