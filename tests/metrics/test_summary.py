"""The table of scores: nothing in it without a baseline and an interval; and the verdicts on primary endpoints."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest

from storylib.metrics.intervals import Difference
from storylib.metrics.registry import METRICS, MODEL, ORACLE, VERDICTS, best_baseline, smallest_change, verdict
from storylib.metrics.summary import ScoreError, Scores, summarise


@pytest.fixture(scope="module")
def table(tiny_runs):
    return tiny_runs[1.0, 0].per_window


@pytest.fixture(scope="module")
def summary(table):
    return summarise(table)


DESCRIBED = {name for name in METRICS if "descri" in name}  # the tiny world describes no picture
SAMPLED = {"best_l1", "sample_spread"}  # of decoders that can draw several pictures


def test_every_metric_is_summarised_beside_its_baselines(summary, table):
    assert set(summary) == set(METRICS) - SAMPLED - DESCRIBED - ({"picture_distance"} - set(table))
    model = table[table["predictor"] == MODEL]
    for name, entry in summary.items():
        assert entry["baselines"] and entry["value"] == pytest.approx(METRICS[name].value(model), abs=1e-6)
        assert entry["interval"][0] <= entry["value"] <= entry["interval"][1]
        low, high = METRICS[name].bounds
        assert low <= entry["interval"][0] <= entry["interval"][1] <= high, name
        assert (entry["title"].startswith(METRICS[name].title), entry["group"]) == (True, METRICS[name].group)
        assert not {"p", "p_holm", "verdict"} & set(entry)  # exploratory
    next_frame = {"chance", "copy-last", "mean", "recency", "nearest", ORACLE}
    words = {"chance", "unigram", "trigram", "trigram and cache"}
    assert next_frame == set(summary["image_mrr"]["baselines"])
    for name in ("cross_entropy", "perplexity", "top1", "top5", "context_gap"):
        assert set(summary[name]["baselines"]) == words, name
    for name in ("image_to_text_mrr", "probe_recall@10", "alignment", "image_uniformity", "modality_gap"):
        assert set(summary[name]["baselines"]) == {"chance", "linear map"}, name
    for name in ("rouge_l", "cider_d", "distinct_2", "length_ratio", "text_similarity"):
        assert {"chance", "copy-last", "nearest", "trigram"} <= set(summary[name]["baselines"]), name
    for name in ("image_l1", "image_ssim", "sharpness", "frechet"):
        assert {"chance", "copy-last", "mean", "nearest", "median"} <= set(summary[name]["baselines"]), name


def test_the_gain_is_over_the_best_honest_baseline(summary):
    for name, entry in summary.items():
        best = best_baseline(entry["baselines"], METRICS[name])
        assert entry["best_baseline"] == best and best not in (ORACLE, *METRICS[name].limits)
        assert entry["gain"] == pytest.approx(entry["value"] - entry["baselines"][best], abs=2e-6), name
        assert entry["gain_interval"][0] <= entry["gain"] <= entry["gain_interval"][1]


def test_a_baseline_gains_nothing_over_itself(table):
    rows = table[table["predictor"] == "recency"]
    both = pd.concat([rows.assign(predictor=MODEL), rows])
    for entry in summarise(both).values():
        assert (entry["gain"], entry["gain_interval"]) == (0, [0, 0])


def test_a_metric_without_a_baseline_is_left_out(table):
    found = summarise(table[table["predictor"].isin([MODEL, "unigram"])])
    likelihoods = {"nats_per_word", "bits_per_character", "cross_entropy", "perplexity", "top1", "top5"}
    assert set(found) == likelihoods | {"context_gap", "context_gap_per_word"}
    assert not summarise(table[table["predictor"].isin([MODEL, ORACLE])])  # the oracle is no baseline
    assert not summarise(table[table["predictor"] == MODEL])


def test_the_table_cannot_hold_a_metric_without_a_baseline(summary):
    entry = summary["image_mrr"]
    for baselines in ({}, {ORACLE: 0.5}):
        with pytest.raises(ScoreError, match="'image_mrr' has no baseline"):
            Scores({"image_mrr": entry | {"baselines": baselines}})
        with pytest.raises(ScoreError, match="'image_mrr' has no baseline"):
            summary["image_mrr"] = entry | {"baselines": baselines}
    assert summary["image_mrr"]["baselines"]


def test_a_score_that_is_not_a_number_is_refused(summary):
    with pytest.raises(ScoreError, match="'image_mrr' or one of its baselines is not a number"):
        Scores({"image_mrr": summary["image_mrr"] | {"value": float("nan")}})


def test_the_summary_is_the_same_every_time(summary, table):
    assert summarise(table) == summary
    shuffled = summarise(table.sample(frac=1, random_state=1))["image_l1"]
    assert shuffled["interval"] == summary["image_l1"]["interval"]


def test_the_table_shows_every_metric_and_baseline(summary):
    shown = summary.frame()
    assert len(shown) == len(summary)
    row, entry = shown.loc[("text", "perplexity")], summary["perplexity"]
    assert row["model"] == f"{entry['value']:.1f}"
    assert row["95 % interval"] == f"{entry['interval'][0]:.1f} to {entry['interval'][1]:.1f}"
    assert row["trigram"] == f"{entry['baselines']['trigram']:.1f}" and row["copy-last"] == ""
    assert "perplexity" in str(summary) and "verdict" not in shown


def test_a_choice_states_its_candidates_and_its_chance(summary, table):
    """Of a story of six frames, four are the context: two remain, and one more has the target's picture or text."""
    for name in ("frame_in_story_mrr", "image_in_story_recall@1", "cross_modal_recall@10"):
        entry, task = summary[name], METRICS[name].task
        counts = table.loc[table["predictor"] == MODEL, f"{task}_candidates"].dropna()
        assert entry["candidates"] == pytest.approx(counts.mean(), abs=0.05) and "chance" in entry["baselines"]
        assert entry["title"] == METRICS[name].label(entry["candidates"]) and ", among " in entry["title"]
    assert METRICS["image_mrr"].label(2.84).endswith(", among 2.8")
    assert METRICS["image_mrr"].label(433.2).endswith(", among 433")
    assert METRICS["image_l1"].candidates(table) is None and summary["image_l1"]["title"] == METRICS["image_l1"].title


def test_values_on_both_sides_of_an_ideal_are_worse():
    metric = METRICS["length_ratio"]
    assert metric.merit(100) > metric.merit(90) == metric.merit(110) > metric.merit(200)
    assert best_baseline({"a": 130.0, "b": 75.0, "c": 40.0}, metric) == "b"
    assert best_baseline({"a": 130.0, "b": 75.0}, METRICS["perplexity"]) == "b"
    assert best_baseline({"a": 130.0, "b": 75.0, ORACLE: 900.0}, METRICS["chrf"]) == "a"
    assert best_baseline({"chance": 0.0, "linear map": 0.2}, METRICS["modality_gap"]) == "linear map"


def difference(value, half):
    """A difference whose 95 % interval reaches ``half`` to both sides, and whose 90 % interval 0.84 of that."""
    return Difference(value, value - half, value + half, value - 0.84 * half, value + 0.84 * half, half / 2, 50)


@pytest.mark.parametrize(
    ("value", "half", "p", "expected"),
    [
        (8.0, 3.0, 0.001, "better"),
        (-8.0, 3.0, 0.001, "worse"),
        (8.0, 3.0, 0.06, "undetermined"),  # the correction says no
        (8.0, 9.0, 0.001, "undetermined"),  # the interval says no
        (0.5, 9.0, 0.9, "undetermined"),  # nobody knows
        (0.5, 3.0, 0.9, "equivalent"),  # known to be smaller than 5
        (1.0, 0.5, 0.001, "equivalent"),  # not zero, but too small to matter
        (4.0, 1.3, 0.001, "better"),  # perhaps too small to matter, perhaps not
    ],
)
def test_the_four_verdicts(value, half, p, expected):
    metric, flipped = METRICS["chrf"], {"better": "worse", "worse": "better"}
    assert verdict(metric, difference(value, half), p, matters=5) == expected in VERDICTS
    less_is_better = dataclasses.replace(metric, higher_is_better=False)
    assert verdict(less_is_better, difference(value, half), p, matters=5) == flipped.get(expected, expected)


def test_the_smallest_change_is_a_number_or_a_share_of_a_baseline():
    assert smallest_change(0.03, {}) == 0.03
    assert smallest_change("2 % of copy-last", {"copy-last": 0.4, "mean": 1.0}) == pytest.approx(0.008)
    with pytest.raises(KeyError, match="copy-last"):
        smallest_change("2 % of copy-last", {"mean": 1.0})


def test_baselines_are_scored_by_the_code_that_scores_the_model(table):
    """A model that is a baseline gets the baseline's value on every metric that the baseline has."""
    for baseline in ("nearest", "trigram", "linear map"):
        rows = table[table["predictor"] == baseline]
        found = summarise(pd.concat([rows.assign(predictor=MODEL), rows]))
        assert found
        for entry in found.values():
            assert entry["value"] == entry["baselines"][baseline]


def test_intervals_do_not_depend_on_the_names_of_stories(table, summary):
    renamed = summarise(table.assign(story="x" + table["story"]))
    assert [entry["interval"] for entry in renamed.values()] == [entry["interval"] for entry in summary.values()]
