"""Figures: every one draws without a warning from tiny records, and is the same bytes every time."""

from __future__ import annotations

import ast
import dataclasses
import io
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from storylib import plots
from storylib.comparison import Comparison, compare
from storylib.leaks import Twin
from storylib.protocol import METRICS
from storylib.runs import Data

ODD = """The "fox" paid $5 & $6, said <script>alert('x')</script> 100 % of_the time^2 \\alpha {x} — été."""


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.setenv("STORYLIB_FIGURES", str(tmp_path / "figures"))
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    plt.close("all")


@pytest.fixture
def run(tiny_runs):
    return tiny_runs[1.0, 0]


@pytest.fixture
def arm(tiny_runs):
    return [tiny_runs[1.0, s] for s in (0, 1)]


@pytest.fixture(scope="module")
def table(tiny_runs):
    return compare(*([tiny_runs[w, s] for s in (0, 1)] for w in (1.0, 0.0)), draws=50)


def svg(figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()


def words_of(text: str) -> str:
    """Everything that a reader can read in an SVG; it must be well formed."""
    return " ".join(
        " ".join("".join(e.itertext()).split()) for e in ET.fromstring(text).iter() if e.tag.endswith("}text")
    )


def test_a_story_strip_shows_pictures_above_texts(tiny_data):
    stories = tiny_data.stories[:2]
    figure = plots.story_strip(stories, pages=3)
    assert len(figure.axes) == 6 and all(len(a.images) == 1 for a in figure.axes)
    readable = words_of(svg(figure))
    for story in stories:
        assert story.title in readable
        assert all(word in readable for f in story.frames[:3] for word in f.text.split())


def test_a_short_story_leaves_the_rest_of_its_strip_empty(tiny_data):
    short = dataclasses.replace(tiny_data.stories[0], frames=tiny_data.stories[0].frames[:1])
    figure = plots.story_strip([short], pages=3)
    assert [len(a.images) for a in figure.axes] == [1, 0, 0]


def test_lengths_count_pages_and_words(tiny_data):
    left, right = plots.lengths(tiny_data.stories).axes
    assert sum(p.get_height() for p in left.patches) == 14
    assert sum(p.get_height() for p in right.patches) == 84


@pytest.mark.parametrize(("weight", "panels"), [(1.0, 5), (0.0, 4)])
def test_training_curves_show_the_losses_that_were_on(tiny_runs, weight, panels):
    run = tiny_runs[weight, 0]
    figure = plots.training_curves(run)
    titles = [a.get_title() for a in figure.axes]
    assert len(titles) == panels and ("contrastive" in titles) == (weight > 0)
    drawn = figure.axes[titles.index("text")].lines[0].get_ydata()
    assert list(drawn) == run.history["train_text"].tolist()


def test_floors_stand_beside_the_model(run):
    names = ["image_recall@10", "cross_entropy", "image_l1", "image_to_text_mrr"]
    figure = plots.beside_floors(run.metrics, names)
    assert len(figure.axes) == 4
    for axis, name in zip(figure.axes, names, strict=True):
        said = [t.get_text() for t in axis.texts]
        assert said == ["model", *sorted(run.metrics[name]["floors"], key=run.metrics[name]["floors"].get)]
        assert " ".join(axis.get_title().split()) == METRICS[name].title
    assert len(plots.beside_floors(run.metrics, names[:1]).axes) == 1


def test_the_ablation_shows_every_metric_with_both_values(table):
    figure = plots.ablation(table)
    (axis,) = figure.axes
    shown = table.frame
    assert [t.get_text() for t in axis.get_yticklabels()] == shown["title"].tolist()
    assert len(axis.texts) == len(shown) > 40
    assert all("→" in t.get_text() for t in axis.texts)


def test_right_is_better_whatever_the_metric(table):
    rows = table.frame.set_index("metric")
    values = ["a", "b", "difference", "effect", "effect_low", "effect_high"]
    for name in ("image_l1", "image_mrr", "length_ratio"):  # smaller errors; smaller ranks; further from 100
        rows.loc[name, values] = [0.1, 0.2, -0.1, -0.5, -0.7, -0.3]
    chosen = Comparison(rows.loc[["image_l1", "image_mrr", "length_ratio"]].reset_index())
    (axis,) = plots.ablation(chosen).axes
    found = [c.get_offsets()[0][0] for c in axis.collections]
    assert found == [pytest.approx(0.5), pytest.approx(-0.5), pytest.approx(-0.5)]


def test_leakage_bars_have_their_shares():
    counts = pd.DataFrame(
        {"split": ["by story", "by story", "by group", "by group"], "what": ["pages", "stories"] * 2,
         "share": [20.0, 60, 0, 0]}
    )  # fmt: skip
    (axis,) = plots.leakage(counts).axes
    assert sorted(p.get_width() for c in axis.containers for p in c) == [0, 0, 20, 60]


def test_a_page_of_the_test_stands_above_the_one_that_gives_it_away(tiny_data):
    one, other = tiny_data.stories[:2]
    pairs = [Twin(kind, one, one.frames[0], other, other.frames[1]) for kind in ("picture", "text")]
    figure = plots.twins(pairs)
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 1]
    above, _, below, _ = (" ".join(axis.get_xlabel().split()) for axis in figure.axes)
    assert (above, below) == (one.frames[0].text, other.frames[1].text)
    assert [axis.get_title().split("\n")[0] for axis in figure.axes[:2]] == ["same picture", "same text"]
    assert [axis.get_ylabel() for axis in figure.axes] == ["test", "", "training", ""]
    assert "no page of the test set is in a training story" in words_of(svg(plots.twins([])))


@pytest.mark.parametrize("order", ["best", "worst", "median", "first"])
def test_a_storyboard_tells_one_window_a_story(run, tiny_data, order):
    figure = plots.storyboard(run, tiny_data, order, n=3)
    assert len(figure.axes) == 3 * 7 and all(len(a.images) == 1 for a in figure.axes)
    ranks = [float(" ".join(a.get_xlabel().split()).split(": ")[1].split(" of")[0]) for a in figure.axes[6::7]]
    if order == "median":
        every = run.model_rows["page_rank"].dropna()
        assert abs(ranks[0] - every.median()) == (every - every.median()).abs().min()
    elif order != "first":
        assert ranks == sorted(ranks, reverse=order == "worst")


def test_a_storyboard_shows_what_was_written_and_what_came(run, tiny_data):
    figure = plots.storyboard(run, tiny_data, "first", n=1)
    said = [" ".join(a.get_xlabel().split()) for a in figure.axes]
    story = tiny_data.splits.test[0]
    assert said[:5] == [f.text for f in story.frames[:5]]
    assert said[5] == (run.generations["generation"][0] or "(nothing)")
    row = run.model_rows.dropna(subset=["page_rank"]).iloc[0]
    found = next(f for s in tiny_data.stories if s.id == row["retrieved_story"] for f in s.frames
                 if f.page == row["retrieved_page"])  # fmt: skip
    assert said[6].endswith(found.text)


def test_rank_histograms_count_every_window_in_percent(arm):
    figure = plots.rank_histograms(arm)
    assert len(figure.axes) == 2
    for axis, kind in zip(figure.axes, ("page", "page_story"), strict=True):
        assert "rank of the true page" in axis.get_xlabel()
        model = axis.patches[1].get_xy()[:, 1]  # the outline of the steps
        assert model.max() <= 100 and kind
    assert {t.get_text() for t in figure.axes[0].get_legend().get_texts()} == {"recency", "model", "chance"}


def test_similarities_stand_beside_a_random_page_and_the_last_frame(arm):
    figure = plots.similarities(arm)
    assert [len(a.lines) for a in figure.axes] == [3, 3]
    for axis, kind in zip(figure.axes, ("image", "text"), strict=True):
        model = axis.lines[2].get_xdata()
        values = pd.concat([r.model_rows[f"{kind}_cosine"] for r in arm])
        assert model.min() <= values.median() <= model.max()


def test_attention_shows_the_mean_influence_and_the_mixture(arm):
    figure = plots.attention(arm)
    shown = [t.get_text() for a in figure.axes[:2] for t in a.texts]
    expected = sum(np.array(r.attention["influence"]) for r in arm) / len(arm)
    assert shown == [f"{v:.2f}" for v in expected.flatten()]
    assert len(figure.axes[2].lines) == 3  # two mixtures and the zero line


def test_a_sweep_shows_both_arms_and_the_floors():
    table = pd.DataFrame({"value": [1, 1, 2, 2], "arm": ["off", "on"] * 2, "floor: chance": [1.0, 1, 1.5, 1.5]})
    table = table.assign(low=[1.0, 2, 3, 4], mean=[2.0, 3, 4, 5], high=[3.0, 4, 5, 6])
    figure = plots.sweeps({"batch_size": table, "fusion": table, "temporal": table}, "image_mrr", columns=2)
    assert [a.get_title() for a in figure.axes] == ["batch size", "fusion", "temporal"]
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.texts] == ["chance"] and list(axis.lines[0].get_ydata()) == [1, 1.5]
    assert [list(container[0].get_ydata()) for container in axis.containers] == [[2, 4], [3, 5]]


def with_text(tiny_data, text: str) -> Data:
    stories = [
        dataclasses.replace(s, title=text, frames=tuple(dataclasses.replace(f, text=text) for f in s.frames))
        for s in tiny_data.stories
    ]
    return dataclasses.replace(tiny_data, stories=stories)


def test_no_text_of_a_story_breaks_a_figure(run, tiny_data):
    data = with_text(tiny_data, ODD)
    for figure in (plots.story_strip(data.stories[:1]), plots.storyboard(run, data, n=1), plots.lengths(data.stories)):
        text = svg(figure)
        assert "<script" not in text
        FigureCanvasAgg(figure).draw()
    readable = words_of(svg(plots.story_strip(data.stories[:1])))
    assert "$5 & $6" in readable and "<script>" in readable


def test_an_emoji_does_not_break_a_figure(tiny_data):
    text = "A fox \N{FOX FACE}, 狐 and ثعلب met."
    stories = with_text(tiny_data, text).stories[:1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph|Matplotlib currently does not support", category=UserWarning)
        assert "\N{FOX FACE}" in words_of(svg(plots.story_strip(stories)))


def test_an_empty_text_is_drawn(tiny_data):
    assert svg(plots.story_strip(with_text(tiny_data, "").stories[:1]))


def test_long_texts_are_cut():
    assert plots._shortened("a" * 30, 10) == "a" * 9 + "…"
    assert plots._shortened("short", 10) == "short"
    assert plots._shortened("one two three", 5) == "one…"


def test_saved_figures_are_the_same_bytes_every_time(run, table, tiny_data, tmp_path):
    def draw() -> list[bytes]:
        figures = {
            "curves": plots.training_curves(run), "floors": plots.beside_floors(run.metrics, ["image_mrr"]),
            "ablation": plots.ablation(table), "board": plots.storyboard(run, tiny_data, n=1),
        }  # fmt: skip
        for name, figure in figures.items():
            drawing = plots.save(figure, name)
            assert len(drawing.alt) > 40 and len(drawing.caption) > 30
        return [(tmp_path / "figures" / f"{name}.svg").read_bytes() for name in figures]

    first, second = draw(), draw()
    assert first == second
    assert all(b"<svg" in b for b in first) and not plt.get_fignums()


def test_figures_are_transparent_and_keep_their_words(run):
    text = svg(plots.training_curves(run))
    assert "<text" in text and "epoch" in words_of(text)
    background = plots.training_curves(run).patch.get_facecolor()
    assert background[3] == 0


def test_every_figure_is_described(run, table, tiny_data):
    source = Path(plots.__file__).read_text()
    drawn = [
        f for f in ast.parse(source).body if isinstance(f, ast.FunctionDef) and ast.unparse(f.returns or f) == "Figure"
    ]
    told = [f.name for f in drawn if "tell(" in ast.unparse(f)]
    assert told == [f.name for f in drawn] and len(told) >= 8


def test_a_saved_figure_is_shown_with_its_description(tiny_data):
    drawing = plots.save(plots.tell(plots.lengths(tiny_data.stories), ODD, "What to see."), "odd")
    data, told = drawing._repr_mimebundle_()
    assert told["image/svg+xml"] == {"alt": " ".join(ODD.split()), "caption": "What to see.", "name": "odd"}
    root = ET.fromstring(data["image/svg+xml"])
    assert root.get("role") == "img" and root.get("aria-label") == " ".join(ODD.split())


def test_a_figure_that_nobody_described_is_described_by_its_own_words():
    figure, axis = plt.subplots()
    axis.set(title="apples", xlabel="day")
    assert plots.save(figure, "apples").alt == "Figure with 1 panels: apples; day."


def test_an_arm_has_one_colour_everywhere():
    colours = plots.arm_colours(["contrastive-off", "system-a", "contrastive-on", "system-b"])
    assert (colours["contrastive-on"], colours["contrastive-off"]) == (plots.ON, plots.OFF)
    assert len(set(colours.values())) == 4
