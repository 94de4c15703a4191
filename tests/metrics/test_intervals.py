"""Intervals and tests against formulas, small simulations with fixed seeds, and hand-worked examples."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from storylib.metrics.intervals import (
    bootstrap_sums,
    holm,
    influence,
    interval,
    paired_difference,
    sign_flip_p,
    skewed_t_p,
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
    value, low, high = interval(with_counts(values), mean, draws=4000)
    assert value == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.04)


def test_stories_not_windows_are_resampled():
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


def test_one_seed_is_resampled_like_equal_seeds():
    stories = np.random.default_rng(3).normal(size=(1, 20))
    one, three = (interval(with_counts(np.repeat(stories, n, axis=0)), mean) for n in (1, 3))
    assert one == pytest.approx(three)


def test_a_draw_weighs_whole_stories_and_seeds():
    """With ones in all cells each draw holds as many windows as the data; the sums are reproducible."""
    sums = np.ones((2, 5, 1))
    assert (bootstrap_sums(sums, draws=50) == 10).all()
    rng = np.random.default_rng(5)
    other = rng.normal(size=(2, 5, 3))
    assert np.array_equal(bootstrap_sums(other, 30, seed=1), bootstrap_sums(other, 30, seed=1))
    assert not np.array_equal(bootstrap_sums(other, 30, seed=1), bootstrap_sums(other, 30, seed=2))
    assert bootstrap_sums(other, 30, seed=1) == pytest.approx(
        np.stack([bootstrap_sums(other[..., i : i + 1], 30, seed=1)[:, 0] for i in range(3)], axis=1)
    )


def test_an_arm_does_not_differ_from_itself():
    arm = with_counts(np.random.default_rng(6).normal(size=(3, 12)))
    found = paired_difference(arm, arm.copy(), mean)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_pairing_finds_a_small_shift_under_large_noise():
    base = np.random.default_rng(7).normal(0, 10, size=(3, 40))
    shift = np.random.default_rng(8).normal(0.3, 0.1, size=(3, 40))
    found = paired_difference(with_counts(base + shift), with_counts(base), mean)
    assert found.value == pytest.approx(shift.mean())
    assert 0.2 < found.low < found.value < found.high < 0.4
    assert found.p < 0.01
    back = paired_difference(with_counts(base), with_counts(base + shift), mean)
    assert (back.value, back.low, back.high, back.p) == pytest.approx((-found.value, -found.high, -found.low, found.p))


def test_arms_of_other_shapes_cannot_be_paired():
    with pytest.raises(ValueError, match="paired by seed and story"):
        paired_difference(np.ones((2, 3, 2)), np.ones((2, 4, 2)), mean)


def sign_flip(a, b, draws, seed=0):
    return sign_flip_p(a, b, mean, spread(influence(a, mean) - influence(b, mean)), draws, seed)


def test_sign_flip_p_is_close_to_all_swaps_counted():
    rng = np.random.default_rng(9)
    a, b = (with_counts(rng.normal(m, 1, size=(2, 8))) for m in (0.5, 0.0))
    one, two = a.sum(0), b.sum(0)
    observed = abs(mean(one.sum(0)) - mean(two.sum(0)))
    extreme = 0
    for swap in itertools.product([False, True], repeat=8):
        chosen = np.array(swap)[:, None]
        first, second = np.where(chosen, two, one).sum(0), np.where(chosen, one, two).sum(0)
        extreme += abs(mean(first) - mean(second)) >= observed - 1e-12
    assert sign_flip(a, b, 20_000) == pytest.approx(extreme / 256, abs=0.01)


def test_p_values_are_about_uniform_when_nothing_differs():
    rng = np.random.default_rng(10)
    arms = rng.normal(size=(300, 2, 1, 15))  # as many trials
    ps = np.array([sign_flip(*map(with_counts, pair), 300, trial) for trial, pair in enumerate(arms)])
    for level in (0.05, 0.2, 0.5):
        assert (ps <= level).mean() == pytest.approx(level, abs=0.06)


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


# ---- variance components, effects and detectable differences


def test_influences_of_a_mean_are_the_deviations_of_its_cells():
    values = np.random.default_rng(12).normal(size=(3, 10))
    assert influence(with_counts(values), mean) == pytest.approx(values - values.mean(), rel=1e-6)


def test_the_variance_of_one_seed_is_that_of_the_mean_over_stories():
    values = np.random.default_rng(13).normal(size=(1, 40))
    found = spread(values - values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1) / 40) and found.seeds == 0
    assert found.freedom == pytest.approx(39)


def test_variance_components_are_recovered():
    """Of stories 1, of seeds 0.25, of cells 0.16: the variance of the mean is 1 / 30 + 0.25 / 8 + 0.16 / 240."""
    rng, found = np.random.default_rng(14), []
    for _ in range(400):
        table = rng.normal(0, 1, (1, 30)) + rng.normal(0, 0.5, (8, 1)) + rng.normal(0, 0.4, (8, 30))
        found.append(spread(table - table.mean()).variance)
    assert np.mean(found) == pytest.approx(1 / 30 + 0.25 / 8 + 0.16 / 240, rel=0.08)


def test_the_effect_is_cohens_d_of_the_stories_with_its_interval():
    base = np.random.default_rng(15).normal(0, 3, size=(2, 50))
    shift = np.random.default_rng(16).normal(0.5, 1, size=(1, 50))
    found = paired_difference(with_counts(base + shift), with_counts(base), mean)
    assert found.effect == pytest.approx(shift.mean() / shift.std(ddof=1))
    assert found.effect_low < found.effect < found.effect_high
    assert found.effect_low * found.low > 0  # one interval excludes zero if the other does
    arm = with_counts(base)
    assert (paired_difference(arm, arm, mean).effect, paired_difference(arm, arm, mean).detectable()) == (0, 0)


def test_the_smallest_detectable_difference_is_the_textbooks():
    """With many stories: (1.96 + 0.84) standard errors; more if there are more tests."""
    rng = np.random.default_rng(17)
    a, b = (with_counts(rng.normal(size=(1, 2000))) for _ in range(2))
    found = paired_difference(a, b, mean, draws=500)
    assert found.detectable() == pytest.approx((1.96 + 0.8416) * found.error, rel=0.01)
    assert found.detectable(40) > 1.3 * found.detectable()


def test_skewed_differences_are_not_taken_for_a_finding():
    """Exponential differences with mean zero: swaps alone call them significant at 0.0025 much more often than that."""
    rng, flips, both = np.random.default_rng(18), 0, 0
    for trial in range(600):
        values = rng.exponential(1, (1, 30)) - 1
        a, b = with_counts(values), with_counts(np.zeros((1, 30)))
        parts = spread(influence(a, mean))
        t = float(values.mean()) / np.sqrt(parts.variance)
        p = sign_flip_p(a, b, mean, parts, 2000, trial), skewed_t_p(values[0] - values.mean(), t, parts)
        flips, both = flips + (p[0] < 0.01), both + (max(p) < 0.01)
    assert both < flips and both <= 12


def test_without_skewness_it_is_a_t_test():
    from scipy.stats import ttest_1samp

    half = np.random.default_rng(19).normal(size=20)
    values = np.concatenate([half, -half]) + 0.3  # symmetric
    deviations = values - values.mean()
    parts = spread(deviations[None])
    p = skewed_t_p(deviations, float(values.mean() / np.sqrt(parts.variance)), parts)
    assert p == pytest.approx(ttest_1samp(values, 0).pvalue, rel=1e-6)


def test_coverage_and_false_positives_in_short():
    """benchmarks/statistics_simulation, cut to two seconds: coarse, but a wrong factor would show."""
    from benchmarks.statistics_simulation import simulate

    found = simulate("seeds vary a little", seeds=3, stories=30, trials=24, draws=300)
    assert 87 <= found["coverage"] <= 100 and found["false positives"] <= 13 and found["power"] >= 45
