"""Figures of stories show the frames they are given, whatever the text."""

from __future__ import annotations

import dataclasses
import io
import warnings
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from storylib.report import figures_stories as figures

ODD = """The "fox" paid $5 & $6, said <script>alert('x')</script> 100 % of_the time^2 \\alpha {x} — été."""


pytestmark = pytest.mark.usefixtures("strict_figures")


@pytest.fixture
def run(tiny_runs):
    return tiny_runs[1.0, 0]


def readable(figure) -> str:
    """Everything that a reader can read in a figure's SVG, which must be well formed."""
    file = io.StringIO()
    figure.savefig(file, format="svg")
    texts = [e for e in ET.fromstring(file.getvalue()).iter() if e.tag.endswith("}text")]
    return " ".join(" ".join("".join(e.itertext()).split()) for e in texts)


def with_text(stories, text):
    return [
        dataclasses.replace(s, title=text, frames=tuple(dataclasses.replace(f, text=text) for f in s.frames))
        for s in stories
    ]


def test_a_story_strip_shows_pictures_above_texts(tiny_data):
    stories = tiny_data.stories[:2]
    short = dataclasses.replace(stories[0], frames=stories[0].frames[:1])
    figure = figures.story_strip([stories[1], short], frames=3)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 0, 0]
    text = readable(figure)
    assert stories[1].title in text
    assert all(word in text for frame in stories[1].frames[:3] for word in frame.text.split())


def test_a_test_frame_stands_above_the_training_frame_that_leaks_it(tiny_data):
    test, train = tiny_data.stories[:2]
    frames = {"test_story": test, "test_frame": test.frames[0], "train_story": train, "train_frame": train.frames[1]}
    figure = figures.twins([SimpleNamespace(kind=kind, **frames) for kind in ("picture", "text")])
    above, below = (" ".join(figure.axes[place].get_xlabel().split()) for place in (0, 5))
    assert (above, below) == (test.frames[0].text, train.frames[1].text)
    assert [axis.get_title().split("\n")[0] for axis in figure.axes[:2]] == ["same picture", "same text"]
    assert [figure.axes[place].get_ylabel() for place in (0, 5)] == ["test", "training"]


@pytest.mark.parametrize("order", ["best", "worst", "median"])
def test_a_storyboard_shows_one_window_per_story_in_order(run, tiny_data, order):
    figure = figures.storyboard(run, tiny_data.stories, order, n=3)
    assert len(figure.axes) == 3 * 7 and all(len(axis.images) == 1 for axis in figure.axes)
    captions = [" ".join(axis.get_xlabel().split()) for axis in figure.axes[6::7]]
    ranks = [float(caption.split(": ")[1].split(" of")[0]) for caption in captions]
    if order == "median":
        every = run.model_rows["frame_rank"].dropna()
        assert abs(ranks[0] - every.median()) == (every - every.median()).abs().min()
    else:
        assert ranks == sorted(ranks, reverse=order == "worst")


def test_a_storyboard_shows_context_target_text_and_retrieved_frame(run, tiny_data):
    figure = figures.storyboard(run, tiny_data.stories, n=1)
    shown = [" ".join(axis.get_xlabel().split()) for axis in figure.axes]
    rows = run.model_rows.dropna(subset=["frame_rank"]).reset_index()
    row = rows.loc[rows["frame_rank"].idxmin()]
    stories = {story.id: story for story in tiny_data.stories}
    frame = int(row["frame"])  # the first frame of a story is frame 1
    assert shown[:5] == [f.text for f in stories[row["story"]].frames[frame - 5 : frame]]
    assert shown[5] == (row["generation"] or "(nothing)")
    retrieved = stories[row["retrieved_story"]].frames[int(row["retrieved_frame"]) - 1]
    assert shown[6].endswith(retrieved.text)


def test_your_story_shows_the_prediction_and_the_nearest_frames(tiny_data):
    story = tiny_data.stories[0]
    known = SimpleNamespace(frame=story.frames[5], story=story, similarity=0.5)
    predicted = SimpleNamespace(text=None, image=story.frames[4].image, nearest=(known,))
    figure = figures.your_story(story.frames[:4], predicted)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    assert "(no text)" in figure.get_label() and figure.axes[5].get_title() == "0.50"


def test_no_text_of_a_story_breaks_a_figure(run, tiny_data):
    stories = with_text(tiny_data.stories, ODD)
    text = readable(figures.story_strip(stories[:1]))
    assert "$5 & $6" in text and "<script>" in text
    figure = figures.storyboard(run, stories, n=1)
    FigureCanvasAgg(figure).draw()
    readable(figure)
    assert readable(figures.story_strip(with_text(stories, "")[:1])) == ""
    emoji = with_text(stories, "A fox \N{FOX FACE}, 狐 and ثعلب met.")[:1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph|Matplotlib currently does not support", category=UserWarning)
        assert "\N{FOX FACE}" in readable(figures.story_strip(emoji))
