"""Plots: probabilities of next beats and of whole paths."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from storylib.sources.storyworld import plots
from storylib.sources.storyworld.world import Dice

# Of a chapter: whether it is the first, whether it is the last, and its numbers of beats.
CHAPTERS = [(True, True, range(5, 9)), (True, False, range(5, 8)), (False, True, range(4, 8))]


@pytest.mark.parametrize(("noise", "digression"), [(0.1, 0.25), (0.2, 0.3)])
@pytest.mark.parametrize(("first", "last", "lengths"), CHAPTERS)
def test_probabilities_of_all_paths_sum_to_one(noise, digression, first, last, lengths):
    paths = plots.paths(noise, digression, first, last)
    assert sum(p.probability for p in paths) == pytest.approx(1)
    assert {len(path.beats) for path in paths} == set(lengths)
    by_plot = Counter()
    for path in paths:
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


@pytest.mark.parametrize("chapters", [1, 2])
def test_stories_take_each_path_as_often_as_it_is_probable(chapters):
    """The sampler and the list of all paths are two pieces of code; 20,000 draws must agree."""
    expected, drawn = Counter(), Counter()

    def kind(chapter, plot, beats):
        return chapter, plot, len(beats), beats[0].action, beats[-1].action, beats[-2].feeling

    for chapter in range(chapters):
        for path in plots.paths(0.2, 0.3, chapter == 0, chapter == chapters - 1):
            expected[kind(chapter, path.plot, path.beats)] += path.probability
    count = 20_000
    for number in range(count):
        for chapter, (plot, beats) in enumerate(plots.draw_chapters(0.2, 0.3, chapters, Dice("test", number))):
            drawn[kind(chapter, plot, beats)] += 1 / count
    assert set(drawn) <= set(expected)
    for key, p in expected.items():
        assert drawn[key] == pytest.approx(p, abs=5 * (p / count) ** 0.5 + 1e-9)


def test_every_pair_of_different_plots_is_equally_likely():
    stories = [plots.draw_chapters(0.1, 0.25, 2, Dice("pairs", number)) for number in range(9000)]
    pairs = Counter((one, other) for (one, _), (other, _) in stories)
    assert len(pairs) == 90 and all(one != other for one, other in pairs)
    assert 50 < min(pairs.values()) <= max(pairs.values()) < 150
