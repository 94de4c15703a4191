"""Intervals and tests against formulas, small simulations with fixed seeds, and hand-worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import stdtr, stdtrit
from scipy.stats import ttest_1samp

from storylib.metrics.frechet import frechet_distance, moments
from storylib.metrics.intervals import (
    Spread,
    ends,
    holm,
    influence,
    interval,
    p_value,
    paired_difference,
    spread,
    story_sums,
)


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def with_counts(values: np.ndarray) -> np.ndarray:
    """(seeds, stories) values of one window each -> (seeds, stories, 2) sums."""
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_story_sums_by_hand():
    columns = np.array([[1.0, 1], [2, 1], [4, 1], [8, 1], [16, 1]])
    stories, seeds = np.array(["b", "a", "b", "b", "a"]), np.array([7, 7, 7, 9, 9])
    assert story_sums(columns, stories, seeds).tolist() == [[[2, 1], [5, 2]], [[16, 1], [8, 1]]]


def test_the_interval_of_a_mean_is_close_to_the_analytic_one():
    values = np.random.default_rng(1).normal(5, 2, size=(1, 200))
    error = 1.96 * values.std(ddof=1) / np.sqrt(200)
    value, low, high = interval(with_counts(values), mean)
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.004)


def test_stories_not_windows_are_counted():
    """Copying every window of a story ten times adds no information, so the interval stays as it is."""
    sums = with_counts(np.random.default_rng(2).normal(size=(1, 30)))
    one, ten = interval(sums, mean), interval(10 * sums, mean)
    assert ten == pytest.approx(one)


def test_seeds_widen_the_interval():
    stories = np.random.default_rng(3).normal(size=(1, 60))
    alike = with_counts(np.repeat(stories, 3, axis=0))
    apart = with_counts(stories + np.array([[-3.0], [0], [3]]))
    narrow, wide = interval(alike, mean), interval(apart, mean)
    assert wide[2] - wide[1] > 3 * (narrow[2] - narrow[1])


def test_one_seed_counts_like_equal_seeds():
    stories = np.random.default_rng(3).normal(size=(1, 20))
    one, three = (interval(with_counts(np.repeat(stories, n, axis=0)), mean) for n in (1, 3))
    assert one == pytest.approx(three)


# ---- the range of possible values


def test_all_of_twenty_stories_found_is_not_certainty():
    """The lower end is Clopper and Pearson's, (5 % / 2)^(1 / 20); of none found, the mirror image."""
    found = interval(with_counts(np.full((3, 20), 100.0)), mean, (0, 100))
    assert found == pytest.approx((100, 100 * 0.025 ** (1 / 20), 100))
    missed = interval(with_counts(np.zeros((3, 20))), mean, (0, 100))
    assert missed == pytest.approx((0, 0, 100 - 100 * 0.025 ** (1 / 20)))


@pytest.mark.parametrize(("misses", "bounds"), [(1, (0, 1)), (2, (0, 1)), (1, (-1, 1))])
def test_a_reciprocal_rank_near_one_stays_below_it(misses, bounds):
    values = np.ones((2, 30))
    values[:, :misses] = 0.5
    value, low, high = interval(with_counts(values), mean, bounds)
    assert bounds[0] < low < value < high < 1
    assert value - low > 2 * (high - value)  # there is more room below
    assert interval(with_counts(values), mean)[2] > 1  # what the bounds prevent


def test_bounds_far_away_change_nothing():
    sums = with_counts(np.random.default_rng(5).normal(50, 1, size=(2, 60)))
    assert interval(sums, mean, (0, 100)) == pytest.approx(interval(sums, mean), abs=0.01)


def test_a_frechet_distance_lies_inside_its_interval():
    """Resampled, its values are all larger: with copies of stories the two sets differ more."""
    rng = np.random.default_rng(20)
    columns = np.concatenate([moments(rng.normal(size=(60, 8))), moments(rng.normal(0.3, 1, size=(60, 8)))], axis=1)

    def distance(sums: np.ndarray) -> np.ndarray:
        return frechet_distance(*np.split(sums, 2, axis=-1))

    value, low, high = interval(columns[None], distance, (0, np.inf))
    assert 0 <= low < value < high < 3 * value
    again = [distance(columns[rng.integers(0, 60, 60)].sum(0)) for _ in range(100)]
    assert np.mean(np.array(again) > value) > 0.9
    zero = interval(np.concatenate([columns[:, :73], columns[:, :73]], axis=1)[None], distance, (0, np.inf))
    assert zero == pytest.approx((0, 0, 0), abs=1e-6)


def test_a_narrower_interval_lies_inside_and_is_a_test_at_each_end():
    values = np.random.default_rng(21).normal(0.4, 1, size=(1, 25))
    found = paired_difference(with_counts(values), with_counts(np.zeros((1, 25))), mean)
    assert found.low < found.low90 < found.value < found.high90 < found.high
    assert ttest_1samp(values[0], found.low90, alternative="greater").pvalue == pytest.approx(0.05)
    assert ttest_1samp(values[0], found.low).pvalue == pytest.approx(0.05)
    parts = spread(influence(with_counts(values), mean))
    assert ends(found.value, parts, 0.1) == pytest.approx((found.low90, found.high90))


@pytest.mark.parametrize("truth", [0.9, 0.99])
def test_coverage_near_the_bound_in_short(truth):
    from benchmarks.statistics_simulation import near_the_bound

    assert 90 <= near_the_bound(truth, seeds=3, stories=40, trials=300) <= 99


# ---- differences


def test_an_arm_does_not_differ_from_itself():
    arm = with_counts(np.random.default_rng(6).normal(size=(3, 12)))
    found = paired_difference(arm, arm.copy(), mean)
    assert (found.value, found.low, found.high, found.p, found.detectable()) == (0, 0, 0, 1, 0)


def test_pairing_finds_a_small_shift_under_large_noise():
    base = np.random.default_rng(7).normal(0, 10, size=(3, 40))
    shift = np.random.default_rng(8).normal(0.3, 0.1, size=(3, 40))
    pair = with_counts(base + shift), with_counts(base)
    found, back = paired_difference(*pair, mean), paired_difference(*pair[::-1], mean)
    assert found.value == pytest.approx(shift.mean())
    assert 0.2 < found.low < found.value < found.high < 0.4
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert found.p < 0.01 and back.p == pytest.approx(found.p)


def test_a_difference_that_all_stories_share_gets_a_sign_test():
    """Of four stories, two of sixteen outcomes are as extreme."""
    found = paired_difference(with_counts(np.ones((2, 4))), with_counts(np.zeros((2, 4))), mean)
    assert (found.value, found.p) == (1, 2 / 16)


def test_arms_of_other_shapes_cannot_be_paired():
    with pytest.raises(ValueError, match="paired by seed and story"):
        paired_difference(np.ones((2, 3, 2)), np.ones((2, 4, 2)), mean)


def test_p_values_are_about_uniform_when_nothing_differs():
    rng = np.random.default_rng(10)
    arms = rng.normal(size=(1000, 2, 1, 15))  # as many trials
    ps = np.array([paired_difference(*map(with_counts, pair), mean).p for pair in arms])
    for level in (0.05, 0.2, 0.5):
        assert (ps <= level).mean() == pytest.approx(level, abs=0.04)


def test_holm_by_hand():
    """Sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1 -> .04, .06, .06, .06."""
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.3])).tolist() == [0.3]


def test_holm_keeps_the_order_and_lowers_nothing():
    p = np.random.default_rng(11).random(20) ** 3
    corrected = holm(p)
    assert (corrected >= p).all() and (corrected <= 1).all()
    order = np.argsort(p)
    assert (np.diff(corrected[order]) >= 0).all()
    assert corrected.min() == pytest.approx(min(1.0, 20 * p.min()))


# ---- variance components and detectable differences


def test_influences_of_a_mean_are_the_deviations_of_its_cells():
    values = np.random.default_rng(12).normal(size=(3, 10))
    assert influence(with_counts(values), mean) == pytest.approx(values - values.mean(), rel=1e-6)


def test_the_variance_of_one_seed_is_that_of_the_mean_over_stories():
    values = np.random.default_rng(13).normal(size=(1, 40))
    found = spread(values - values.mean())
    assert found.error**2 == pytest.approx(values.var(ddof=1) / 40) and found.seeds == 0
    assert (found.n_stories, found.n_seeds) == (40, 1)


def test_variance_components_are_recovered():
    """Of stories 1, of seeds 0.25, of cells 0.16: the variance of the mean is 1 / 30 + 0.25 / 8 + 0.16 / 240."""
    rng, found = np.random.default_rng(14), []
    for _ in range(400):
        table = rng.normal(0, 1, (1, 30)) + rng.normal(0, 0.5, (8, 1)) + rng.normal(0, 0.4, (8, 30))
        found.append(spread(table - table.mean()).error ** 2)
    assert np.mean(found) == pytest.approx(1 / 30 + 0.25 / 8 + 0.16 / 240, rel=0.08)


def test_the_smallest_detectable_difference_is_the_textbooks():
    """With many stories: (1.96 + 0.84) standard errors; more if there are more tests."""
    rng = np.random.default_rng(17)
    a, b = (with_counts(rng.normal(size=(1, 2000))) for _ in range(2))
    found = paired_difference(a, b, mean)
    assert found.detectable() == pytest.approx((1.96 + 0.8416) * found.parts.error, rel=0.01)
    assert found.detectable(40) > 1.3 * found.detectable()


def test_skewed_differences_are_not_taken_for_a_finding():
    """Exponential differences with mean zero: Student's t calls them significant at 0.0125 more often than that."""
    rng, student, both = np.random.default_rng(18), 0, 0
    for _ in range(2000):
        values = rng.exponential(1, (1, 30)) - 1
        found = paired_difference(with_counts(values), with_counts(np.zeros((1, 30))), mean)
        student += 2 * stdtr(29, -abs(found.value) / found.parts.error) < 0.0125
        both += found.p < 0.0125
    assert student > 50 and both < 35  # 25 are expected


def test_without_skewness_and_seeds_it_is_a_t_test():
    half = np.random.default_rng(19).normal(size=20)
    values = np.concatenate([half, -half]) + 0.3  # symmetric
    deviations = values - values.mean()
    p = p_value(float(values.mean()), deviations, spread(deviations[None]))
    assert p == pytest.approx(ttest_1samp(values, 0).pvalue, rel=1e-6)


def test_degrees_of_freedom_weigh_as_much_as_their_variance():
    """All variance between five seeds: Student's t with four degrees of freedom; half of it: half way."""
    assert Spread(0.0, 2.0, 300, 5).quantile(0.975) == pytest.approx(stdtrit(4, 0.975))
    assert Spread(2.0, 0.0, 300, 5).quantile(0.975) == pytest.approx(stdtrit(299, 0.975))
    both = (stdtrit(4, 0.975) + stdtrit(299, 0.975)) / 2
    assert Spread(1.0, 1.0, 300, 5).quantile(0.975) == pytest.approx(both) and Spread(1, 1, 9, 5).error == 2**0.5


def test_coverage_and_false_positives_in_short():
    """benchmarks/statistics_simulation, cut to a second: coarse, but a wrong factor would show."""
    from benchmarks.statistics_simulation import simulate

    found = simulate("seeds vary a little", seeds=3, stories=30, trials=300)
    assert 93 <= found["coverage"] <= 97 and found["false positives"] <= 8 and found["power"] >= 65
