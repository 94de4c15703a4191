"""Metrics as sums: values by hand, and the expected value of chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from storylib.metrics.registry import METRICS, chance_reciprocal_rank
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
