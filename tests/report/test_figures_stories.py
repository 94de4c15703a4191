"""Figures of stories show the frames they are given, whatever the text."""

from __future__ import annotations

import dataclasses
import io
import warnings
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
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


def test_a_storyboard_shows_each_window_with_what_was_predicted_for_it(run, tiny_data, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (len(run.pictures), 3, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(type(run), "pictures", pictures)  # the likeliest one and two samples
    rows = run.model_rows.dropna(subset=["chrf"]).sort_values("chrf")
    windows = {"best": rows.iloc[-1], "worst": rows.iloc[0]}
    figure = figures.storyboard(run, tiny_data.stories, windows)
    frames = {(story.id, frame.number): frame.text for story in tiny_data.stories for frame in story.frames}
    shown = [" ".join(axis.get_xlabel().split()) for axis in figure.axes]
    titles = [axis.get_title() for axis in figure.axes]
    copied = run.per_window.query("predictor == 'copy-last'").set_index(["story", "frame"])["chrf"]
    for i, window in enumerate(windows.values()):
        above, below = slice(10 * i, 10 * i + 5), slice(10 * i + 5, 10 * i + 9)
        story, number = window["story"], int(window["frame"])
        assert shown[above] == [frames[story, n] for n in range(number - 4, number + 1)]
        assert titles[above][3:] == [f"context 4: chrF {copied[story, number]:.1f}", "target"]
        retrieved = frames[window["retrieved_story"], int(window["retrieved_frame"])]
        assert shown[below] == [" ".join(window["generation"].split()), "", "", retrieved]
        assert titles[below][0] == f"predicted: chrF {window['chrf']:.1f}"
        drawn = [axis.images[0].get_array() for axis in figure.axes[below][:3]]
        assert all((a == b).all() for a, b in zip(drawn, pictures[int(window["picture"])], strict=True))
    assert [figure.axes[place].get_ylabel() for place in (0, 10)] == ["best", "worst"]


def test_the_whole_of_a_long_sentence_is_shown(tiny_data):
    text = (
        "In the middle of the day the friendly pig Pavel took shelter by the fireplace because thunder had grumbled far"
    )
    figure = figures.story_strip(with_text(tiny_data.stories[:1], text))
    assert " ".join(figure.axes[0].get_xlabel().split()) == text


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
    window = run.model_rows.dropna(subset=["chrf"]).iloc[0]
    figure = figures.storyboard(run, stories, {"odd": window})
    FigureCanvasAgg(figure).draw()
    readable(figure)
    assert readable(figures.story_strip(with_text(stories, "")[:1])) == ""
    emoji = with_text(stories, "A fox \N{FOX FACE}, 狐 and ثعلب met.")[:1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph|Matplotlib currently does not support", category=UserWarning)
        assert "\N{FOX FACE}" in readable(figures.story_strip(emoji))
