"""Intervals and differences: bootstrap over stories and seeds, paired by window, corrected for many tests.

Percentiles of a crossed bootstrap (Owen 2007) are too wide where stories and seeds interact, and too narrow where seeds
differ, because a few seeds say little about the next one. So the bootstrap gives an interval its shape, and its width
comes from the variance components of the same table, with Satterthwaite's (1946) degrees of freedom
(benchmarks/statistics_simulation.py). scipy's permutation_test cannot add the variance between seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats takes seconds to import

DRAWS = 10_000
LEVEL = 0.05  # of every interval and test
NORMAL = 1.959963984540054  # quantile of the normal distribution at 1 - LEVEL / 2
POWER = 0.8  # of the smallest detectable difference

# Summed columns (..., C) to the value of a metric (...): a mean is sum / count, corpus BLEU a function of ten sums.
Reduce = Callable[[np.ndarray], np.ndarray]
Estimate = tuple[float, float, float]  # a value, and the lower and upper end of its interval


class Difference(NamedTuple):
    """A paired difference with its 95 % interval."""

    value: float
    low: float
    high: float
    p: float  # two-sided, of "there is no difference"
    effect: float  # the difference in standard deviations of the stories' differences
    effect_low: float
    effect_high: float
    error: float  # standard error
    freedom: float  # its degrees of freedom

    def detectable(self, tests: int = 1) -> float:
        """The smallest true difference that is found with 80 % power, corrected for ``tests`` tests (Bonferroni)."""
        return float(self.error * (stdtrit(self.freedom, 1 - LEVEL / tests / 2) + stdtrit(self.freedom, POWER)))


class Spread(NamedTuple):
    """Where the variance of a mean over seeds and stories comes from."""

    stories: float  # variance of the mean that stories contribute, interaction with seeds included
    seeds: float  # variance that seeds add
    variance: float  # of both
    freedom: float  # degrees of freedom of both
    factor: float  # what deviations of the bootstrap are multiplied by
    n_seeds: int


def story_sums(columns: np.ndarray, stories: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Sums per seed and story, (seeds, stories, C), of per-window columns (N, C)."""
    story_codes, seed_codes = (np.unique(labels, return_inverse=True)[1] for labels in (stories, seeds))
    sums = np.zeros((seed_codes.max() + 1, story_codes.max() + 1, columns.shape[1]))
    np.add.at(sums, (seed_codes, story_codes), columns)
    return sums


def influence(sums: np.ndarray, reduce: Reduce) -> np.ndarray:
    """(seeds, stories) how far each cell of the table pulls the metric from its value (jackknife)."""
    total, cells = sums.sum((0, 1)), sums.shape[0] * sums.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = (cells - 1) * (reduce(total) - reduce(total - sums))
    pull = np.where(np.isfinite(pull), pull, 0.0)  # without this cell the metric does not exist
    return pull - pull.mean()


def spread(pull: np.ndarray) -> Spread:
    """Variance components of a table of influences (seeds, stories): a two-way analysis of variance."""
    n_seeds, n_stories = pull.shape
    cells = n_seeds * n_stories
    story_means, seed_means = pull.mean(0), pull.mean(1)
    rest = pull - story_means[None] - seed_means[:, None]
    story_square = n_seeds * (story_means**2).sum() / max(1, n_stories - 1)
    seed_square = n_stories * (seed_means**2).sum() / max(1, n_seeds - 1)
    rest_square = (rest**2).sum() / max(1, (n_seeds - 1) * (n_stories - 1))
    # One seed says nothing about others. 1.5 times the noise is subtracted, as noise exceeds its mean half of the time.
    seeds = max(0.0, seed_square - 1.5 * rest_square) / cells if n_seeds > 1 else 0.0
    # Satterthwaite: squares over their degrees of freedom; those of the stories alone if seeds add nothing.
    stories, parts = story_square / cells, story_square**2 / max(1, n_stories - 1)
    if seeds:
        parts += seed_square**2 / (n_seeds - 1) + rest_square**2 / max(1, (n_seeds - 1) * (n_stories - 1))
    freedom = ((stories + seeds) * cells) ** 2 / parts if parts > 0 else 1.0
    bootstrap = (1 - 1 / n_stories) * (pull.sum(1) ** 2).sum() + (1 - 1 / n_seeds) * (pull.sum(0) ** 2).sum()
    bootstrap = (bootstrap + (pull**2).sum()) / cells**2  # variance of the crossed bootstrap of the same table
    variance, freedom, factor = float(stories) + float(seeds), max(1.0, float(freedom)), 1.0
    if bootstrap > 0 and variance > 0:
        factor = float(stdtrit(freedom, 1 - LEVEL / 2) / NORMAL * np.sqrt(variance / bootstrap))
    return Spread(float(stories), float(seeds), variance, freedom, factor, n_seeds)


@lru_cache(maxsize=32)
def resampled(count: int, draws: int, seed: int) -> np.ndarray:
    """(draws, count) how often each of ``count`` is drawn when as many are drawn with replacement."""
    rng = np.random.default_rng([seed, count])
    return rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


def bootstrap_sums(sums: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """(draws, C) column sums under resampling of stories and, crossed with them, of seeds.

    Neighbouring windows share frames, so stories are drawn. Tables of the same shape get the same samples.
    """
    n_seeds, n_stories, columns = sums.shape
    stories, seeds = resampled(n_stories, draws, seed), resampled(n_seeds, draws, seed + 1)
    over_stories = stories @ sums.transpose(1, 0, 2).reshape(n_stories, -1)  # (draws, seeds x C)
    return (seeds[:, :, None] * over_stories.reshape(draws, n_seeds, columns)).sum(1)


def interval(sums: np.ndarray, reduce: Reduce, draws: int = DRAWS) -> Estimate:
    """(value, low, high) of a metric with its bootstrap interval. sums: (seeds, stories, C)."""
    value = float(reduce(sums.sum((0, 1))))
    low, high = ends(reduce(bootstrap_sums(sums, draws)) - value, spread(influence(sums, reduce)).factor)
    return value, value + low, value + high


def ends(deviations: np.ndarray, factor: float) -> tuple[float, float]:
    """Lower and upper end of the interval, as deviations from the estimate, from those of the bootstrap."""
    deviations = deviations[np.isfinite(deviations)]
    if not len(deviations):
        return 0.0, 0.0
    low, high = np.percentile(deviations, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    return min(0.0, float(low * factor)), max(0.0, float(high * factor))


def paired_difference(a: np.ndarray, b: np.ndarray, reduce: Reduce, draws: int = DRAWS, seed: int = 0) -> Difference:
    """Metric of arm ``a`` minus that of arm ``b``, both (seeds, stories, C) over the same seeds and stories."""
    if a.shape != b.shape:
        raise ValueError(f"arms must be paired by seed and story, but have shapes {a.shape} and {b.shape}")
    value = float(reduce(a.sum((0, 1))) - reduce(b.sum((0, 1))))
    deviations = reduce(bootstrap_sums(a, draws, seed)) - reduce(bootstrap_sums(b, draws, seed)) - value
    pull = influence(a, reduce) - influence(b, reduce)
    parts = spread(pull)
    low, high = ends(deviations, parts.factor)
    per_story = value + pull.mean(0)  # (stories,)
    p = max(sign_flip_p(a, b, reduce, parts, draws, seed), p_value(per_story, value, parts, draws, seed))
    effect = _effect(per_story, (value, low, high), resampled(len(per_story), draws, seed))
    return Difference(value, value + low, value + high, p, *effect, float(np.sqrt(parts.variance)), parts.freedom)


def _effect(per_story: np.ndarray, difference: Estimate, weights: np.ndarray) -> Estimate:
    """Cohen's d for pairs with its interval: that of the difference, widened by the error of the standard deviation."""
    value, low, high = difference  # the ends as deviations
    deviation = per_story.std(ddof=1) if len(per_story) > 1 else 0.0
    if deviation <= 1e-12:
        return (0.0, 0.0, 0.0) if not value else (np.inf * np.sign(value), -np.inf, np.inf)
    first, second = weights @ per_story / len(per_story), weights @ per_story**2 / len(per_story)
    deviations = np.sqrt(np.maximum(second - first**2, 0))
    relative_error = np.std(np.log(np.maximum(deviations, 1e-12) / deviation))
    d, wider = value / deviation, abs(value) / deviation * NORMAL * relative_error
    return d, d - np.hypot(low / deviation, wider), d + np.hypot(high / deviation, wider)


def sign_flip_p(a: np.ndarray, b: np.ndarray, reduce: Reduce, parts: Spread, draws: int, seed: int) -> float:
    """Two-sided p of "the arms are exchangeable": swap the arms of random stories, all seeds together.

    The variance between seeds is added to each swap as a draw of Student's t with one degree of freedom less than there
    are seeds; without it the test would be about these very trainings. parts: the spread of the difference.
    """
    a, b = a.sum(0), b.sum(0)  # (stories, C)
    observed = abs(reduce(a.sum(0)) - reduce(b.sum(0)))
    rng = np.random.default_rng([seed, 2])
    swap = rng.integers(0, 2, size=(draws, len(a))).astype(float)
    moved = swap @ (b - a)  # (draws, C)
    chance = reduce(a.sum(0) + moved) - reduce(b.sum(0) - moved)
    if parts.seeds > 0:
        chance = chance + np.sqrt(parts.seeds) * rng.standard_t(parts.n_seeds - 1, size=draws)
    return float(((np.abs(chance) >= observed - 1e-12).sum() + 1) / (draws + 1))


def p_value(per_story: np.ndarray, value: float, parts: Spread, draws: int, seed: int) -> float:
    """Two-sided p of "the mean is zero", the larger of two tests that allow for skewed differences (stories,).

    Where a few stories differ much, all in one direction, swaps reject too often, above all far out in the tail.
    """
    deviations = per_story - per_story.mean()
    if deviations.std() <= 1e-12 or parts.variance <= 0:
        return 0.0 if value else 1.0
    t = value / np.sqrt(parts.variance)
    return max(skewed_t_p(deviations, t, parts), bootstrap_t_p(deviations, t, parts, draws, seed))


def skewed_t_p(deviations: np.ndarray, t: float, parts: Spread) -> float:
    """By Hall's (1992) transformation of t, which removes the skewness of the stories' deviations (stories,)."""
    skew = (deviations**3).mean() / deviations.std() ** 3
    skew = skew / np.sqrt(len(deviations)) * parts.stories / parts.variance
    straight = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    return float(2 * stdtr(parts.freedom, -abs(straight)))


def bootstrap_t_p(deviations: np.ndarray, t: float, parts: Spread, draws: int, seed: int) -> float:
    """By the bootstrap of t (Efron and Tibshirani 1993); seeds are added to each draw as in ``sign_flip_p``."""
    count = len(deviations)
    weights = resampled(count, draws, seed)
    mean = weights @ deviations / count
    variance = np.maximum(weights @ deviations**2 / count - mean**2, 1e-12) / (count - 1)
    drawn = mean / np.sqrt(variance) * np.sqrt(parts.stories / parts.variance)
    if parts.seeds > 0:
        rng = np.random.default_rng([seed, 3])
        drawn = drawn + np.sqrt(parts.seeds / parts.variance) * rng.standard_t(parts.n_seeds - 1, size=draws)
    tail = min((drawn <= t).sum(), (drawn >= t).sum()) + 1
    return float(min(1.0, 2 * tail / (draws + 1)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction: p values that control the chance of any false positive in a table."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(steps)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
