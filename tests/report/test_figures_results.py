"""Figures of results draw the numbers of their records."""

from __future__ import annotations

import pandas as pd
import pytest

from storylib.experiments.comparison import compare
from storylib.experiments.records import pooled_metrics
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS
from storylib.report import figures_results as figures

ENDPOINTS = {"frame_in_story_mrr": 0.03, "nats_per_word": 0.05, "image_l1": "2 % of copy-last"}
FACTOR = Factor("dropout", ("on", "off"), endpoints=ENDPOINTS)


pytestmark = pytest.mark.usefixtures("strict_figures")


@pytest.fixture(scope="module")
def arm(tiny_runs):
    return [tiny_runs[1.0, seed] for seed in (0, 1)]


@pytest.fixture(scope="module")
def comparison(tiny_runs):
    return compare(*([tiny_runs[weight, seed] for seed in (0, 1)] for weight in (1.0, 0.0)), FACTOR)


@pytest.mark.parametrize(("weight", "panels"), [(1.0, 5), (0.0, 4)])
def test_training_curves_show_the_losses_that_were_on(tiny_runs, weight, panels):
    run = tiny_runs[weight, 0]
    figure = figures.training_curves(run)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == panels and ("contrastive" in titles) == (weight > 0)
    drawn = figure.axes[titles.index("text")].lines[0].get_ydata()
    assert list(drawn) == run.history["train_text"].tolist()


def test_baselines_stand_beside_the_model(arm):
    metrics = pooled_metrics(arm)
    names = ["image_recall@10", "cross_entropy", "image_l1", "image_to_text_mrr"]
    figure = figures.beside_baselines(metrics, names)
    assert len(figure.axes) == 4
    for axis, name in zip(figure.axes, names, strict=True):
        baselines = metrics[name]["baselines"]
        labels = [text.get_text() for text in axis.get_yticklabels()]
        assert labels == [*sorted(baselines, key=baselines.get), "model"]
        assert " ".join(axis.get_title().split()) == metrics[name]["title"]


def test_each_endpoint_has_its_interval_its_verdict_and_what_matters(comparison):
    figure = figures.endpoints({"tales": comparison, "other tales": comparison})
    rows = comparison.primary.frame.to_dict("records")
    assert len(figure.axes) == len(rows) == 3 and "With dropout minus without dropout" in figure.get_gid()
    for axis, row in zip(figure.axes, rows, strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == ["tales", "other tales"]
        band = axis.patches[0]
        assert (band.get_x(), band.get_width()) == pytest.approx((-row["matters"], 2 * row["matters"]))
        wide, narrow = (list(line.get_xdata()) for line in axis.lines[:2])
        assert (wide, narrow) == ([row["low"], row["high"]], [row["low90"], row["high90"]])
        assert axis.collections[0].get_offsets()[0][0] == row["difference"]
        assert row["verdict"] in axis.texts[0].get_text() and "→" in axis.texts[0].get_text()
        assert (f"among {row['candidates']:.1f}" in axis.texts[0].get_text()) == bool(METRICS[row["metric"]].task)
        assert f"{METRICS[row['metric']].title}, other tales: {row['verdict']}" in figure.get_label()
        left, right = axis.get_xlim()
        assert (right > left) == METRICS[row["metric"]].higher_is_better  # to the right is better


def test_the_answer_shows_both_arms_beside_the_linear_map_and_the_best_baseline():
    def arm(value):
        baselines = {"linear map": 9.0, "mean": 11.0, "chance": 1.0}
        entry = {"value": value, "interval": [value - 2, value + 1], "baselines": baselines, "best_baseline": "mean"}
        return dict.fromkeys(["frame_in_story_mrr", "nats_per_word"], entry)

    record = {"scores": {"on": arm(8.0), "off": arm(7.0)}}
    figure = figures.answer({"Books": record, "Tales": record}, FACTOR)
    assert (
        len(figure.axes) == 4
        and [axis.get_title().split(":")[0] for axis in figure.axes] == ["Books"] * 2 + ["Tales"] * 2
    )
    for axis, higher in zip(figure.axes, (True, False, True, False), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == ["with", "without", "mean", "linear map"]
        assert [list(line.get_xdata()) for line in axis.lines] == [[6, 9], [5, 8], [11, 11], [9, 9]]
        left, right = axis.get_xlim()
        assert (right > left) == higher  # to the right is better
    assert "Tales, nats per word of the true text: 7.00 without, 8.00 with" in figure.get_label()


def test_a_sweep_shows_both_arms_and_the_baselines():
    table = pd.DataFrame({"value": ["1", "2"], "metric": "image_mrr", "chance": [1.0, 1.5], "baseline": "recency"})
    table = table.assign(baseline_value=1.8, off=[2.0, 4], off_low=[1.0, 3], off_high=[3.0, 5], candidates=7.5)
    table = table.assign(on=[3.0, 5], on_low=[2.0, 4], on_high=[4.0, 6])
    rows = pd.concat([table.assign(sweep=field) for field in ("batch_size", "fusion", "temporal")])
    rows = pd.concat([rows, rows.assign(metric="chrf", sweep="other")], ignore_index=True)
    figure = figures.sweeps(rows, "image_mrr", FACTOR, columns=2)
    assert [axis.get_title() for axis in figure.axes] == ["batch size", "fusion", "temporal"]
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.texts] == ["chance", "recency"]
    assert axis.get_ylabel().split()[-2:] == ["among", "7.5"]
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [[1, 1.5], [1.8, 1.8]]
    assert [list(container[0].get_ydata()) for container in axis.containers] == [[2, 4], [3, 5]]
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["without", "with"] and "with dropout (blue)" in figure.get_gid()
