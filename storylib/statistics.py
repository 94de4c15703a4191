"""Intervals and differences: bootstrap over stories and seeds, paired by window, corrected for many tests.

Two things vary that a conclusion must survive: the held-out stories, a few dozen, and the training seeds, a handful.
They are crossed: every seed is judged on every story. Percentiles of a crossed bootstrap (Owen 2007) are too wide where
stories and seeds interact and too narrow where seeds differ, because three or five seeds say little about the next one.
So the bootstrap gives the interval its shape, and its width comes from the variance components of the same table of
seeds and stories, with as many degrees of freedom as those deserve (Satterthwaite 1946).
benchmarks/statistics_simulation.py measures what comes of it: coverage, false positives, power.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

DRAWS = 10_000
LEVEL = 0.05  # of every interval and test
POWER = 0.8  # of the minimal detectable difference

# Summed columns (..., C) to the value of a metric (...): a mean is sum / count, corpus BLEU a function of ten sums.
Reduce = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference.

    p: two-sided, the most cautious of a sign-flip test over stories and two tests that allow for skewness. effect: the
    difference in standard deviations of the stories' differences, with its interval. error and freedom: standard error
    and its degrees of freedom.
    """

    p: float
    effect: float
    effect_low: float
    effect_high: float
    error: float
    freedom: float

    def detectable(self, tests: int = 1) -> float:
        """The least true difference that would be seen four times in five, corrected for so many tests (Bonferroni)."""
        if not self.error:
            return 0.0
        return float(self.error * (student.ppf(1 - LEVEL / tests / 2, self.freedom) + student.ppf(POWER, self.freedom)))


@dataclass(frozen=True)
class Spread:
    """Where the variance of a mean over seeds and stories comes from."""

    stories: float  # variance of the mean that stories contribute, interaction with seeds included
    seeds: float  # what seeds add
    bootstrap: float  # what the crossed bootstrap makes of the same table
    freedom: float  # degrees of freedom of the two together
    n_seeds: int

    @property
    def variance(self) -> float:
        return self.stories + self.seeds

    @property
    def factor(self) -> float:
        """What a bootstrap deviation is to be multiplied with."""
        if self.bootstrap <= 0 or self.variance <= 0:
            return 1.0
        quantile = student.ppf(1 - LEVEL / 2, self.freedom) / norm.ppf(1 - LEVEL / 2)
        return float(quantile * np.sqrt(self.variance / self.bootstrap))


def story_sums(columns: np.ndarray, stories: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Sums per seed and story, (seeds, stories, C), of per-window columns (N, C)."""
    story_codes = np.unique(stories, return_inverse=True)[1]
    seed_codes = np.unique(seeds, return_inverse=True)[1]
    sums = np.zeros((seed_codes.max() + 1, story_codes.max() + 1, columns.shape[1]))
    np.add.at(sums, (seed_codes, story_codes), columns)
    return sums


def influence(sums: np.ndarray, reduce: Reduce) -> np.ndarray:
    """(seeds, stories) how far each cell of the table pulls the metric from its value, by leaving it out (jackknife).

    The mean of metric + influence is the metric; for a mean over equally many windows it is the cell's deviation.
    """
    total, cells = sums.sum((0, 1)), sums.shape[0] * sums.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        pull = (cells - 1) * (reduce(total) - reduce(total - sums))
    pull = np.where(np.isfinite(pull), pull, 0.0)  # a cell without which there is no metric says nothing of its spread
    return pull - pull.mean()


def spread(pull: np.ndarray) -> Spread:
    """Variance components of a table of influences (seeds, stories): a two-way analysis of variance."""
    n_seeds, n_stories = pull.shape
    cells = n_seeds * n_stories
    of_story, of_seed = pull.mean(0), pull.mean(1)
    rest = pull - of_story[None] - of_seed[:, None]
    story_square = n_seeds * (of_story**2).sum() / max(1, n_stories - 1)
    seed_square = n_stories * (of_seed**2).sum() / max(1, n_seeds - 1)
    rest_square = (rest**2).sum() / max(1, (n_seeds - 1) * (n_stories - 1))
    # One seed says nothing of others. Half as much again is taken off, for noise alone is above its mean half the time.
    seeds = max(0.0, seed_square - 1.5 * rest_square) / cells if n_seeds > 1 else 0.0
    # In squares, each over its degrees of freedom (Satterthwaite); without a part of the seeds the stories' alone.
    stories, parts = story_square / cells, story_square**2 / max(1, n_stories - 1)
    if seeds:
        parts += seed_square**2 / (n_seeds - 1) + rest_square**2 / max(1, (n_seeds - 1) * (n_stories - 1))
    freedom = ((stories + seeds) * cells) ** 2 / parts if parts > 0 else 1.0
    bootstrap = (1 - 1 / n_stories) * (pull.sum(1) ** 2).sum() + (1 - 1 / n_seeds) * (pull.sum(0) ** 2).sum()
    bootstrap = (bootstrap + (pull**2).sum()) / cells**2
    return Spread(float(stories), float(seeds), float(bootstrap), max(1.0, float(freedom)), n_seeds)


@lru_cache(maxsize=32)
def resampled(count: int, draws: int, seed: int) -> np.ndarray:
    """(draws, count) how often each of ``count`` is drawn when as many are drawn with replacement."""
    rng = np.random.default_rng([seed, count])
    return rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


def bootstrap_sums(sums: np.ndarray, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """(draws, C) column sums under resampling of stories and, crossed with them, of seeds.

    Stories are the unit of independence, not windows: neighbouring windows share frames. Every call with the same
    shape and seed draws the same samples, so that arms stay paired.
    """
    n_seeds, n_stories, columns = sums.shape
    stories, seeds = resampled(n_stories, draws, seed), resampled(n_seeds, draws, seed + 1)
    over_stories = stories @ sums.transpose(1, 0, 2).reshape(n_stories, -1)  # (draws, seeds x C)
    return (seeds[:, :, None] * over_stories.reshape(draws, n_seeds, columns)).sum(1)


def interval(sums: np.ndarray, reduce: Reduce, draws: int = DRAWS, seed: int = 0) -> Interval:
    """A metric with its bootstrap interval. sums: (seeds, stories, C)."""
    value = float(reduce(sums.sum((0, 1))))
    found = reduce(bootstrap_sums(sums, draws, seed)) - value
    low, high = ends(found, spread(influence(sums, reduce)).factor)
    return Interval(value, value + low, value + high)


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
    found = reduce(bootstrap_sums(a, draws, seed)) - reduce(bootstrap_sums(b, draws, seed)) - value
    pull = influence(a, reduce) - influence(b, reduce)
    parts = spread(pull)
    low, high = ends(found, parts.factor)
    each = value + pull.mean(0)  # (stories,)
    tests = skewed_t_p(each, value, parts), bootstrap_t_p(each, value, parts, draws, seed)
    p = max(sign_flip_p(a, b, reduce, draws, seed, parts), *tests)
    effect = _effect(each, value, low, high, draws, seed)
    error = float(np.sqrt(parts.variance))
    return Difference(value, value + low, value + high, p, *effect, error=error, freedom=parts.freedom)


def _effect(
    each: np.ndarray, value: float, low: float, high: float, draws: int, seed: int
) -> tuple[float, float, float]:
    """Cohen's d for pairs, value / standard deviation of the stories' differences (stories,), with its interval.

    The ends are those of the difference, in deviations of which the bootstrap says how well they are known.
    """
    deviation = each.std(ddof=1) if len(each) > 1 else 0.0
    if deviation <= 1e-12:
        return (0.0, 0.0, 0.0) if not value else (np.inf * np.sign(value), -np.inf, np.inf)
    weights = resampled(len(each), draws, seed)
    first, second = weights @ each / len(each), weights @ each**2 / len(each)
    deviations = np.sqrt(np.maximum(second - first**2, 0))
    known = np.std(np.log(np.maximum(deviations, 1e-12) / deviation))  # relative error of the deviation
    d, wider = value / deviation, abs(value) / deviation * norm.ppf(1 - LEVEL / 2) * known
    return d, d - np.hypot(low / deviation, wider), d + np.hypot(high / deviation, wider)


def sign_flip_p(
    a: np.ndarray, b: np.ndarray, reduce: Reduce, draws: int = DRAWS, seed: int = 0, parts: Spread | None = None
) -> float:
    """Two-sided p of "the arms are exchangeable": swap the arms of random stories, all seeds together.

    Stories alone would ask whether these very trainings differ. What the difference varies between seeds is added to
    each swap as a draw of Student's t with one degree of freedom less than there are seeds.
    """
    parts = spread(influence(a, reduce) - influence(b, reduce)) if parts is None else parts
    a, b = a.sum(0), b.sum(0)  # (stories, C)
    observed = abs(reduce(a.sum(0)) - reduce(b.sum(0)))
    rng = np.random.default_rng([seed, 2])
    swap = rng.integers(0, 2, size=(draws, len(a))).astype(float)
    moved = swap @ (b - a)  # (draws, C)
    chance = reduce(a.sum(0) + moved) - reduce(b.sum(0) - moved)
    if parts.seeds > 0:
        chance = chance + np.sqrt(parts.seeds) * rng.standard_t(parts.n_seeds - 1, size=draws)
    extreme = np.abs(chance) >= observed - 1e-12
    return float((extreme.sum() + 1) / (draws + 1))


def skewed_t_p(each: np.ndarray, value: float, parts: Spread) -> float:
    """Two-sided p of "the mean is zero" by Hall's (1992) transformation of t, which takes skewness out.

    Swaps presume that differences are as likely to be large upwards as downwards. Where a few stories differ much, all
    in one direction, they call chance a finding too often, above all far out in the tail where Holm's correction looks.
    each: (stories,) differences. parts: their spread.
    """
    deviations = each - each.mean()
    scale = deviations.std()
    if scale <= 1e-12 or parts.variance <= 0:
        return 1.0 if not value else 0.0
    skew = (deviations**3).mean() / scale**3 / np.sqrt(len(each)) * parts.stories / parts.variance
    t = value / np.sqrt(parts.variance)
    straight = t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6
    return float(2 * student.sf(abs(straight), parts.freedom))


def bootstrap_t_p(each: np.ndarray, value: float, parts: Spread, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p of "the mean is zero" by the bootstrap of t (Efron and Tibshirani 1993), which keeps its skewness.

    What the difference varies between seeds is added to each draw as in ``sign_flip_p``. each: (stories,) differences.
    """
    deviations, count = each - each.mean(), len(each)
    if deviations.std() <= 1e-12 or parts.variance <= 0:
        return 1.0 if not value else 0.0
    weights = resampled(count, draws, seed)
    mean = weights @ deviations / count
    variance = np.maximum(weights @ deviations**2 / count - mean**2, 1e-12) / (count - 1)
    t = mean / np.sqrt(variance) * np.sqrt(parts.stories / parts.variance)
    if parts.seeds > 0:
        rng = np.random.default_rng([seed, 3])
        t = t + np.sqrt(parts.seeds / parts.variance) * rng.standard_t(parts.n_seeds - 1, size=draws)
    observed = value / np.sqrt(parts.variance)
    fewer = min((t <= observed).sum(), (t >= observed).sum()) + 1
    return float(min(1.0, 2 * fewer / (draws + 1)))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's (1979) step-down correction: p values that control the chance of any false positive in a table."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty_like(steps)
    corrected[order] = np.minimum(steps, 1.0)
    return corrected
