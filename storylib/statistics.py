"""Intervals and differences: bootstrap over stories and seeds, paired by window, corrected for many tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Summed columns (..., C) to the value of a metric (...): a mean is sum / count, corpus BLEU a function of ten sums.
Reduce = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference; ``p`` is two-sided from a sign-flip test over stories."""

    p: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


def story_sums(columns: np.ndarray, stories: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Sums per seed and story, (seeds, stories, C), of per-window columns (N, C)."""
    story_codes = np.unique(stories, return_inverse=True)[1]
    seed_codes = np.unique(seeds, return_inverse=True)[1]
    sums = np.zeros((seed_codes.max() + 1, story_codes.max() + 1, columns.shape[1]))
    np.add.at(sums, (seed_codes, story_codes), columns)
    return sums


def bootstrap_sums(sums: np.ndarray, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """(draws, C) column sums under resampling of stories and, crossed with them, of seeds.

    Stories are the unit of independence, not windows: neighbouring windows share frames. Every call with the same
    shape and seed draws the same samples, so that arms stay paired.
    """
    n_seeds, n_stories, _ = sums.shape
    rng = np.random.default_rng(seed)
    story_weights = rng.multinomial(n_stories, np.full(n_stories, 1 / n_stories), size=draws)
    seed_weights = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=draws)
    over_stories = np.tensordot(story_weights, sums, axes=(1, 1))  # (draws, seeds, C)
    return np.einsum("dk,dkc->dc", seed_weights, over_stories)


def interval(sums: np.ndarray, reduce: Reduce, draws: int = 2000, seed: int = 0) -> Interval:
    """A metric with its percentile bootstrap interval. sums: (seeds, stories, C)."""
    low, high = np.nanpercentile(reduce(bootstrap_sums(sums, draws, seed)), [2.5, 97.5])
    return Interval(float(reduce(sums.sum((0, 1)))), float(low), float(high))


def paired_difference(a: np.ndarray, b: np.ndarray, reduce: Reduce, draws: int = 2000, seed: int = 0) -> Difference:
    """Metric of arm ``a`` minus that of arm ``b``, both (seeds, stories, C) over the same seeds and stories."""
    if a.shape != b.shape:
        raise ValueError(f"arms must be paired by seed and story, but have shapes {a.shape} and {b.shape}")
    differences = reduce(bootstrap_sums(a, draws, seed)) - reduce(bootstrap_sums(b, draws, seed))
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    value = float(reduce(a.sum((0, 1))) - reduce(b.sum((0, 1))))
    return Difference(value, float(low), float(high), sign_flip_p(a, b, reduce, draws, seed))


def sign_flip_p(a: np.ndarray, b: np.ndarray, reduce: Reduce, draws: int = 2000, seed: int = 0) -> float:
    """Two-sided p of "arms are exchangeable within a story": swap the arms of random stories, all seeds together."""
    a, b = a.sum(0), b.sum(0)  # (stories, C)
    observed = abs(reduce(a.sum(0)) - reduce(b.sum(0)))
    swap = np.random.default_rng(seed).integers(0, 2, size=(draws, len(a))).astype(float)
    moved = swap @ (b - a)  # (draws, C)
    extreme = np.abs(reduce(a.sum(0) + moved) - reduce(b.sum(0) - moved)) >= observed - 1e-12
    return float((extreme.sum() + 1) / (draws + 1))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction: p values that control the chance of any false positive in a table."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(steps)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
