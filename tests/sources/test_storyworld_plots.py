"""Plots: probabilities of next beats and of whole paths."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from storylib.sources.storyworld import plots
from storylib.sources.storyworld.world import Dice


@pytest.mark.parametrize(("noise", "digression"), [(0.1, 0.25), (0.2, 0.3)])
def test_probabilities_of_all_paths_sum_to_one(noise, digression):
    paths = plots.paths(noise, digression)
    assert sum(p.probability for p in paths) == pytest.approx(1)
    by_plot = Counter()
    for path in paths:
        assert 5 <= len(path.beats) <= 8
        by_plot[path.plot] += path.probability
    assert all(p == pytest.approx(1 / len(plots.PLOTS)) for p in by_plot.values())


def test_next_beats_are_distributions():
    for beats in plots.PLOTS.values():
        for line, following in beats.values():
            assert sum(following.values()) == pytest.approx(1)
            assert ("|" in line) == (plots.END in following)


def test_plots_share_their_openings():
    first = defaultdict(set)
    for path in plots.paths(0.1, 0.25):
        first[path.plot].add(path.beats[0])
    assert len({frozenset(beats) for beats in first.values()}) == 1


def test_stories_take_each_path_as_often_as_it_is_probable():
    """The sampler and the list of all paths are two pieces of code; 20,000 draws must agree."""
    expected, drawn = Counter(), Counter()
    for path in plots.paths(0.2, 0.3):
        expected[path.plot, len(path.beats), path.beats[-1].action, path.beats[-2].feeling] += path.probability
    count = 20_000
    for number in range(count):
        plot, beats = plots.draw_beats(0.2, 0.3, Dice("test", number))
        drawn[plot, len(beats), beats[-1].action, beats[-2].feeling] += 1 / count
    assert set(drawn) <= set(expected)
    for key, p in expected.items():
        assert drawn[key] == pytest.approx(p, abs=5 * (p / count) ** 0.5 + 1e-9)
