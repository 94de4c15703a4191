"""What a random order of the candidates scores in expectation."""

from __future__ import annotations

import numpy as np


def chance_recall(counts: np.ndarray, k: int) -> np.ndarray:
    """Expected recall@k of a random order of ``counts`` candidates."""
    return np.minimum(k / np.maximum(counts, 1), 1.0)


def chance_reciprocal_rank(counts: np.ndarray) -> np.ndarray:
    """Expected reciprocal rank of a random order: the n-th harmonic number over n; NaN without candidates."""
    harmonic = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, max(int(counts.max()), 1) + 1))])
    return harmonic[counts] / np.maximum(counts, 1)
