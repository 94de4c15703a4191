"""Metrics as sums: values by hand, and the expected value of chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from storylib.config import experiments
from storylib.metrics.registry import METRICS, chance_reciprocal_rank, smallest_change
from storylib.metrics.text import BLEU_COLUMNS, bleu_counts


def values(table):
    return {name: metric.value(table) for name, metric in METRICS.items()}


def test_metric_values_by_hand():
    table = pd.DataFrame(
        {"image_rank": [1.0, 3, np.nan], "image_candidates": [10.0, 10, np.nan], "nll": [2.0, 4, np.nan],
         "nll_shuffled": [3.0, 5, np.nan], "tokens": [1, 3, 9], "image_l1": [0.1, 0.3, np.nan], "rouge_l": [0.5, 1, 0]}
    )  # fmt: skip
    metrics = values(table)
    assert metrics["image_recall@1"] == 50 and metrics["image_recall@5"] == 100
    assert metrics["image_mrr"] == pytest.approx(2 / 3)
    assert metrics["cross_entropy"] == pytest.approx(6 / 4) and metrics["perplexity"] == pytest.approx(np.exp(1.5))
    assert metrics["context_gap"] == pytest.approx(2 / 4)
    assert metrics["image_l1"] == pytest.approx(0.2) and metrics["rouge_l"] == 50
    assert metrics["text_mrr"] is None and metrics["bleu"] is None


def test_chance_has_its_expected_values():
    table = pd.DataFrame({"image_rank": [np.nan, np.nan], "image_candidates": [4.0, 20.0]})
    metrics = values(table)
    assert metrics["image_recall@5"] == pytest.approx(100 * (1 + 5 / 20) / 2)
    assert metrics["image_mrr"] == pytest.approx(chance_reciprocal_rank(np.array([4, 20])).mean())


def test_corpus_bleu_is_not_a_mean_of_sentences():
    from sacrebleu.metrics.bleu import BLEU

    counts = bleu_counts(["a b c d e f", "x"], ["a b c d e f", "y z"])
    table = pd.DataFrame(counts, columns=BLEU_COLUMNS)
    expected = BLEU(lowercase=True).corpus_score(["a b c d e f", "x"], [["a b c d e f", "y z"]]).score
    assert values(table)["bleu"] == pytest.approx(expected)


def test_cross_modal_recall_is_the_mean_of_both_directions():
    ranks = {"image_to_text": [1.0, 30, 2, 50], "text_to_image": [40.0, 30, 20, 3]}
    table = pd.DataFrame({f"{task}_rank": rank for task, rank in ranks.items()})
    table = table.assign(image_to_text_candidates=60.0, text_to_image_candidates=60.0)
    metrics = values(table)
    assert metrics["image_to_text_recall@10"] == 50 and metrics["text_to_image_recall@10"] == 25
    assert metrics["cross_modal_recall@10"] == 37.5
    assert METRICS["cross_modal_recall@10"].value(table.drop(columns="text_to_image_rank")) is None


def test_the_distance_of_pictures_is_reported_where_it_was_measured():
    table = pd.DataFrame({"image_l1": [0.1, 0.3], "picture_distance": [0.2, np.nan]})
    metric = METRICS["picture_distance"]
    assert metric.value(table) == 0.2 and metric.value(table[["image_l1"]]) is None
    assert metric.group == "picture" and metric.merit(0.1) > metric.merit(0.2)


def test_every_value_is_possible():
    """The best and the worst of a ranking, and an error without limit."""
    for name, metric in METRICS.items():
        low, high = metric.bounds
        assert low < high, name
    assert METRICS["image_recall@5"].bounds == (0, 100) and METRICS["image_mrr"].bounds == (0, 1)
    assert METRICS["context_gap"].bounds[0] < 0 < METRICS["nats_per_word"].bounds[1] == np.inf


def test_the_primary_endpoints_are_metrics():
    endpoints = experiments()["ablation"]["endpoints"]
    assert set(endpoints) <= set(METRICS) and len(endpoints) == 4
    assert all(smallest_change(change, {"copy-last": 1.0}) > 0 for change in endpoints.values())


def test_a_narrow_interval_is_not_rounded_away():
    nats = METRICS["nats_per_word"]
    assert nats.interval_text(0.0006, -0.0016, 0.0028, "+") == "+0.001 (-0.002 to +0.003)"
    assert nats.interval_text(0.06, -0.16, 0.28) == "0.06 (-0.16 to 0.28)"
