"""Arms and runs compared: paired or refused, and never called different without interval and test."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from storylib.experiments import comparison as module
from storylib.experiments.comparison import compare
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS, VERDICTS, best_baseline

FACTOR = Factor("the contrastive loss", ("contrastive-on", "contrastive-off"))


@pytest.fixture(scope="module")
def arms(tiny_runs):
    return [tiny_runs[1.0, s] for s in (0, 1)], [tiny_runs[0.0, s] for s in (0, 1)]


@pytest.fixture(scope="module")
def comparison(arms):
    return compare(*arms, factor=FACTOR, draws=200)


def test_arms_are_compared_on_every_metric_that_they_have(comparison, arms):
    assert comparison.frame["metric"].tolist() == [m for m in METRICS if m in arms[0][0].metrics]
    for row in comparison.frame.to_dict("records"):
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["a"] - row["b"], abs=1e-7)  # sums in another order
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]
        assert 0 < row["p"] <= row["p_holm"] <= 1 and row["detectable"] >= 0
        assert row["verdict"] in VERDICTS
        if row["group"] != "alignment":  # where chance is that of the model's own vectors, and so of the seed
            baselines = arms[1][0].metrics[row["metric"]]["baselines"]
            assert row["baseline"] == best_baseline(baselines, METRICS[row["metric"]])
            assert row["baseline_value"] == pytest.approx(baselines[row["baseline"]], abs=1e-5)
    on = [run.metrics["image_l1"]["value"] for run in arms[0]]
    assert comparison.frame.set_index("metric").loc["image_l1", "a"] == pytest.approx(np.mean(on), abs=1e-5)


def test_tables_use_the_words_of_the_factor(comparison):
    assert comparison.table.columns[:2].tolist() == ["without", "with"]
    assert comparison.factor.labels == ("with the contrastive loss", "without the contrastive loss")
    other = dataclasses.replace(comparison, factor=Factor("", ("gru", "lstm"), ("gru", "lstm")))
    assert other.table.columns[:2].tolist() == ["lstm", "gru"] and other.factor.labels == ("gru", "lstm")


def test_an_arm_compared_with_itself_is_identical(arms):
    comparison = compare(arms[0], arms[0], FACTOR, draws=50)
    assert (comparison.frame["effect"] == 0).all() and set(comparison.frame["verdict"]) == {"no difference"}
    assert set(comparison.table["smallest detectable"]) == {"identical"}


def test_the_verdict_knows_which_way_is_better(arms, monkeypatch):
    """Make one arm's errors smaller: better where less is better, worse the other way round."""
    better = [dataclasses.replace(run) for run in arms[0]]
    for run in better:
        run.__dict__["per_window"] = run.per_window.assign(image_l1=lambda t: t["image_l1"] / 2)
    monkeypatch.setattr(module, "holm", lambda p: p * 0)  # four stories cannot be significant
    forth, back = compare(better, arms[0], FACTOR, 50), compare(arms[0], better, FACTOR, 50)
    verdicts = [c.frame.set_index("metric")["verdict"].to_dict() for c in (forth, back)]
    assert (verdicts[0].pop("image_l1"), verdicts[1].pop("image_l1")) == ("better", "worse")
    assert set(verdicts[0].values()) == set(verdicts[1].values()) == {"no difference"}
    counts = forth.verdicts()
    assert counts.loc["picture", "better"] == 1 and counts.to_numpy().sum() == len(forth.frame)
    assert counts.columns.tolist() == list(VERDICTS) and counts.index.tolist() == list(forth.frame["group"].unique())


def test_unpaired_arms_are_refused(arms):
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0], arms[1][:1], FACTOR)
    odd = dataclasses.replace(arms[1][0])
    odd.__dict__["per_window"] = arms[1][0].per_window[lambda t: t["story"] != "s10"]
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0][:1], [odd], FACTOR)


def test_the_order_of_the_runs_does_not_matter(arms, comparison):
    again = compare(arms[0][::-1], arms[1], FACTOR, draws=200)
    pd.testing.assert_frame_equal(again.frame, comparison.frame)


def test_some_groups_alone(comparison):
    part = comparison.of("text", "picture")
    assert set(part.frame["group"]) == {"text", "picture"} and 0 < len(part.frame) < len(comparison.frame)
    some, every = (table.set_index("metric").loc["top1"] for table in (part.frame, comparison.frame))
    assert some.equals(every) and part.factor == comparison.factor
