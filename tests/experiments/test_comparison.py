"""Arms and runs compared: paired or refused, and judged on the primary endpoints alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from storylib.experiments import comparison as module
from storylib.experiments.comparison import JUDGED, compare
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS, VERDICTS, best_baseline

ENDPOINTS = {
    "cross_modal_recall@10": 5,
    "frame_in_story_mrr": 0.03,
    "nats_per_word": 0.05,
    "image_l1": "2 % of copy-last",
}
FACTOR = Factor("the contrastive loss", ("contrastive-on", "contrastive-off"), endpoints=ENDPOINTS)


@pytest.fixture(scope="module")
def arms(tiny_runs):
    return [tiny_runs[1.0, s] for s in (0, 1)], [tiny_runs[0.0, s] for s in (0, 1)]


@pytest.fixture(scope="module")
def comparison(arms):
    return compare(*arms, factor=FACTOR)


def test_arms_are_compared_on_every_metric_that_they_have(comparison, arms):
    assert comparison.frame["metric"].tolist() == [m for m in METRICS if m in arms[0][0].metrics]
    for row in comparison.frame.to_dict("records"):
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["a"] - row["b"], abs=1e-7)  # sums in another order
        if row["group"] != "alignment":  # where chance is that of the model's own vectors, and so of the seed
            baselines = arms[1][0].metrics[row["metric"]]["baselines"]
            assert row["baseline"] == best_baseline(baselines, METRICS[row["metric"]])
            assert row["baseline_value"] == pytest.approx(baselines[row["baseline"]], abs=1e-5)
    on = [run.metrics["image_l1"]["value"] for run in arms[0]]
    assert comparison.frame.set_index("metric").loc["image_l1", "a"] == pytest.approx(np.mean(on), abs=1e-5)


def test_only_primary_endpoints_are_judged(comparison, arms):
    frame = comparison.frame.set_index("metric")
    assert comparison.primary.frame["metric"].tolist() == [name for name in METRICS if name in ENDPOINTS]
    judged = frame.loc[[*ENDPOINTS]]
    assert set(judged["verdict"]) <= set(VERDICTS) and (judged["detectable"] >= 0).all()
    assert (judged["low"] <= judged["low90"]).all() and (judged["high90"] <= judged["high"]).all()
    exploratory = frame.drop(index=[*ENDPOINTS])
    assert exploratory[[*JUDGED]].drop(columns="verdict").isna().all(axis=None) and set(exploratory["verdict"]) == {""}
    copied = arms[1][0].metrics["image_l1"]["baselines"]["copy-last"]
    assert judged.loc["image_l1", "matters"] == pytest.approx(0.02 * copied, rel=1e-4)
    assert judged.loc["cross_modal_recall@10", "matters"] == 5


def test_p_values_are_corrected_among_the_primary_endpoints_only(arms, monkeypatch):
    """Of four times 0.02 the corrected ones are 0.08; with a fifth endpoint they would be 0.1."""
    difference = module.paired_difference
    monkeypatch.setattr(module, "paired_difference", lambda *arms: difference(*arms)._replace(p=0.02))
    assert compare(*arms, FACTOR).primary.frame["p_holm"].tolist() == pytest.approx([0.08] * 4)
    two = dataclasses.replace(FACTOR, endpoints={"nats_per_word": 0.05, "chrf": 1})
    assert compare(*arms, two).primary.frame["p_holm"].tolist() == pytest.approx([0.04] * 2)
    assert compare(*arms, dataclasses.replace(FACTOR, endpoints={})).primary.table.empty


def test_tables_use_the_words_of_the_factor(comparison):
    assert comparison.table.columns[:2].tolist() == ["without", "with"]
    assert comparison.factor.labels == ("with the contrastive loss", "without the contrastive loss")
    other = dataclasses.replace(comparison, factor=Factor("", ("gru", "lstm"), ("gru", "lstm")))
    assert other.table.columns[:2].tolist() == ["lstm", "gru"] and other.factor.labels == ("gru", "lstm")


def test_an_arm_compared_with_itself_is_identical(arms):
    comparison = compare(arms[0], arms[0], FACTOR)
    assert (comparison.frame[["difference", "low", "high"]] == 0).all(axis=None)
    assert set(comparison.primary.frame["verdict"]) == {"equivalent"}


def test_what_is_undetermined_stands_beside_the_smallest_detectable_change(comparison):
    frame = comparison.frame.assign(verdict=lambda f: f["verdict"].where(f["verdict"] == "", "undetermined"))
    table = dataclasses.replace(comparison, frame=frame).table.droplevel("group")
    row = frame.set_index("metric").loc["nats_per_word"]
    title = METRICS["nats_per_word"].title
    assert table.loc[title, "verdict"] == f"undetermined (smallest detectable: {row['detectable']:.2f})"
    assert table.loc[title, "matters from"] == "0.05" and table.loc["chrF", ["verdict", "matters from"]].eq("").all()


def test_a_choice_stands_beside_its_candidates_and_chance(comparison):
    row = comparison.frame.set_index("metric").loc["frame_in_story_mrr"]
    shown = comparison.table.loc["in-story"].loc[METRICS["frame_in_story_mrr"].label(row["candidates"])]
    assert f"among {row['candidates']:.1f}" in shown.name and shown["chance"] == f"{row['chance']:.3f}"
    assert comparison.table.loc["picture", "chance"].eq("").all()


def test_the_verdict_knows_which_way_is_better(arms, monkeypatch):
    """Make one arm's errors smaller: better where less is better, worse the other way round."""
    better = [dataclasses.replace(run) for run in arms[0]]
    for run in better:
        run.__dict__["per_window"] = run.per_window.assign(image_l1=lambda t: t["image_l1"] / 2)
    monkeypatch.setattr(module, "holm", lambda p: p * 0)  # four stories cannot be significant
    forth, back = compare(better, arms[0], FACTOR), compare(arms[0], better, FACTOR)
    verdicts = [c.primary.frame.set_index("metric")["verdict"].to_dict() for c in (forth, back)]
    assert (verdicts[0].pop("image_l1"), verdicts[1].pop("image_l1")) == ("better", "worse")
    assert set(verdicts[0].values()) == set(verdicts[1].values()) == {"equivalent"}


def test_unpaired_arms_are_refused(arms):
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0], arms[1][:1], FACTOR)
    odd = dataclasses.replace(arms[1][0])
    odd.__dict__["per_window"] = arms[1][0].per_window[lambda t: t["story"] != "s10"]
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0][:1], [odd], FACTOR)


def test_the_order_of_the_runs_does_not_matter(arms, comparison):
    again = compare(arms[0][::-1], arms[1], FACTOR)
    pd.testing.assert_frame_equal(again.frame, comparison.frame)
