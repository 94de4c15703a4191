"""Intervals and tests over stories and seeds, paired by window; and their correction for several endpoints.

A table of seeds and stories has few seeds and skewed stories. So the variance of a metric comes from the influence of
each cell (jackknife), split into what stories and what seeds contribute, each with its own degrees of freedom. A
bootstrap covers no better and takes thousands of draws (benchmarks/statistics_simulation.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit  # scipy.stats takes seconds to import

LEVEL = 0.05  # of every interval and test
EQUIVALENCE = 0.1  # of the interval whose two ends are each a test at LEVEL (Schuirmann 1987)
POWER = 0.8  # of the smallest detectable difference

# Summed columns (..., C) to the value of a metric (...): a mean is sum / count, corpus BLEU a function of ten sums.
Reduce = Callable[[np.ndarray], np.ndarray]
Estimate = tuple[float, float, float]  # a value, and the lower and upper end of its interval
Bounds = tuple[float, float]  # of possible values
UNBOUNDED: Bounds = (-np.inf, np.inf)


class Spread(NamedTuple):
    """Where the variance of a mean over seeds and stories comes from."""

    stories: float  # variance of the mean that stories contribute, interaction with seeds included
    seeds: float  # variance that seeds add
    n_stories: int
    n_seeds: int

    @property
    def error(self) -> float:
        """The standard error."""
        return float(np.sqrt(self.stories + self.seeds))

    def mean(self, of_freedom: Callable[[int], float]) -> float:
        """A function of the degrees of freedom, weighted by the variance that has them (Cochran and Cox 1957)."""
        parts = ((max(self.stories, 1e-300), self.n_stories), (self.seeds, self.n_seeds))
        weighted = sum(variance * of_freedom(max(1, count - 1)) for variance, count in parts)
        return float(weighted / sum(variance for variance, _ in parts))

    def quantile(self, share: float) -> float:
        """Student's t below which this share lies."""
        return self.mean(lambda freedom: stdtrit(freedom, share))


class Difference(NamedTuple):
    """A paired difference with its 95 % and its 90 % interval."""

    value: float
    low: float
    high: float
    low90: float
    high90: float
    p: float  # two-sided, of "the arms do not differ"
    parts: Spread

    def detectable(self, tests: int = 1) -> float:
        """The smallest true difference found with 80 % power, corrected for this many tests (Bonferroni)."""
        return self.parts.error * (self.parts.quantile(1 - LEVEL / tests / 2) + self.parts.quantile(POWER))


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
    story_means, seed_means = pull.mean(0), pull.mean(1)
    rest = pull - story_means[None] - seed_means[:, None]
    stories = (story_means**2).sum() / max(1, n_stories - 1) / n_stories
    seeds = (seed_means**2).sum() / max(1, n_seeds - 1) / n_seeds
    noise = (rest**2).sum() / max(1, (n_seeds - 1) * (n_stories - 1)) / rest.size
    # One seed says nothing about others. 1.5 times the noise is subtracted, as noise exceeds its mean half of the time.
    return Spread(float(stories), max(0.0, float(seeds - 1.5 * noise)) if n_seeds > 1 else 0.0, n_stories, n_seeds)


def interval(sums: np.ndarray, reduce: Reduce, bounds: Bounds = UNBOUNDED) -> Estimate:
    """(value, low, high) of a metric with its 95 % interval. sums: (seeds, stories, C)."""
    value = float(reduce(sums.sum((0, 1))))
    return value, *ends(value, spread(influence(sums, reduce)), bounds=bounds)


def ends(value: float, parts: Spread, level: float = LEVEL, bounds: Bounds = UNBOUNDED) -> tuple[float, float]:
    """Lower and upper end of an interval, never outside the bounds: between two of them it is made on log-odds."""
    low, high = bounds
    reach = parts.quantile(1 - level / 2) * parts.error
    if not np.isfinite(high - low):
        return max(low, value - reach), min(high, value + reach)
    if reach <= 1e-9 * (high - low):  # All stories agree, as they would if at most this share of all stories differed:
        unseen = 1 - (level / 2) ** (1 / parts.n_stories)
        return value - unseen * (value - low), value + unseen * (high - value)
    share = (value - low) / (high - low)
    reach /= (high - low) * share * (1 - share)
    first, second = (low + (high - low) * float(expit(logit(share) + sign * reach)) for sign in (-1, 1))
    return first, second


def paired_difference(a: np.ndarray, b: np.ndarray, reduce: Reduce) -> Difference:
    """Metric of arm ``a`` minus that of arm ``b``, both (seeds, stories, C) over the same seeds and stories."""
    if a.shape != b.shape:
        raise ValueError(f"arms must be paired by seed and story, but have shapes {a.shape} and {b.shape}")
    value, pull = float(reduce(a.sum((0, 1))) - reduce(b.sum((0, 1)))), influence(a, reduce) - influence(b, reduce)
    parts = spread(pull)
    intervals = (*ends(value, parts), *ends(value, parts, EQUIVALENCE))
    return Difference(value, *intervals, p_value(value, pull.mean(0), parts), parts)


def p_value(value: float, deviations: np.ndarray, parts: Spread) -> float:
    """Two-sided p of "the mean is zero", the larger with and without the skewness of the deviations (stories,).

    Where a few stories differ much, all in one direction, Student's t rejects too often, and Hall's (1992)
    transformation of it, which removes the skewness, does not.
    """
    if parts.error <= 1e-12:  # all stories agree: a sign test
        return 0.5 ** (parts.n_stories - 1) if abs(value) > 1e-12 else 1.0
    t, deviation = value / parts.error, max(1e-12, float(deviations.std()))
    skew = float((deviations**3).mean()) / deviation**3 / np.sqrt(parts.n_stories) * parts.stories / parts.error**2
    least = min(abs(t), abs(t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6))
    return 2 * parts.mean(lambda freedom: stdtr(freedom, -least))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction: p values that control the chance of any false positive in a table."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(steps)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
