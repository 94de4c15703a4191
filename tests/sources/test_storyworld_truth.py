"""Ceilings and baselines, compared with simulations and brute force."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest

from storylib.sources import SourceError
from storylib.sources.storyworld import plots, truth, world
from storylib.sources.storyworld.tales import make_tale
from storylib.sources.storyworld.world import Dice, Settings

DEFAULT, TWO_CHAPTERS = Settings(), Settings(chapters=2)
pytestmark = pytest.mark.xdist_group("ceilings")  # two files that compute them: once, in one process


@pytest.fixture(scope="module")
def table():
    return truth.ceilings()


def test_ceilings_are_pinned(table):
    """Of one chapter; if this fails, the worlds of the report have changed."""
    pinned = {"where": 0.752107813103, "action": 0.794778114894, "weather": 0.759042396020, "feeling": 0.644970809947}
    assert table.loc[list(pinned), "both"].to_dict() == pytest.approx(pinned, abs=1e-11)


@pytest.mark.parametrize("settings", [DEFAULT, TWO_CHAPTERS])
def test_ceilings_are_ordered(settings):
    table = truth.ceilings(settings)
    assert ((table >= 0) & (table <= 1 + 1e-9)).all(axis=None)
    for reader in ("text", "pictures"):
        assert (table["both"] >= table[reader] - 1e-9).all()
        assert (table[reader] >= table["majority"] - 1e-9).all()
    assert (table["both"] >= table["copy_last"] - 1e-9).all()


def test_both_modalities_are_needed(table):
    assert table.loc["action", "both"] > max(table.loc["action", ["text", "pictures"]]) + 0.08


def test_what_cannot_be_seen_can_only_be_guessed(table):
    assert table.loc["garment", "text"] == pytest.approx(1 / 8)
    assert table.loc["name", "pictures"] == pytest.approx(1 / 24)
    silent = truth.PerfectReader(Settings(in_text=0), "text").ceilings()
    assert silent["who"] == pytest.approx(1 / 12) and silent["where"] == pytest.approx(1 / 12)
    assert silent["time"] == pytest.approx(1 / 4)


def test_stating_everything_makes_text_as_good_as_both_where_pictures_add_nothing():
    everything_in_text = Settings(in_text=1, in_picture=0.5)
    text, both = (truth.PerfectReader(everything_in_text, reader).ceilings() for reader in ("text", "both"))
    assert both["name"] == pytest.approx(text["name"]) and both["who"] == pytest.approx(text["who"], abs=0.02)
    assert both["action"] > text["action"]


@pytest.mark.parametrize("settings", [DEFAULT, TWO_CHAPTERS])
def test_ceilings_agree_with_perfect_readers_of_simulated_stories(settings):
    """The perfect reader's accuracy on simulated stories, within 4.5 standard errors over stories."""
    stories, table = (
        [make_tale(settings, number) for number in range(5000, 5000 + 1500 // settings.chapters)],
        truth.ceilings(settings),
    )
    for kind in truth.READERS:
        reader = truth.PerfectReader(settings, kind)
        correct, windows = defaultdict(list), []
        for tale in stories:
            starts = range(len(tale.scenes) - 4)
            scores = [reader.correctness(tale.scenes[k : k + 4], tale.scenes[k + 4]) for k in starts]
            windows.append(len(scores))
            for attribute in truth.ATTRIBUTES:
                correct[attribute].append(sum(score[attribute] for score in scores))
        n = np.array(windows, float)
        for attribute, ceiling in table[kind].items():
            residual = np.array(correct[attribute]) - ceiling * n
            error = residual.std() / np.sqrt(len(n)) + 1e-9
            assert abs(residual.mean()) < 4.5 * error, (kind, attribute)


def test_no_predictor_fitted_to_stories_beats_the_ceiling(table):
    """Brute force: counts of what followed in 3,000 stories are too good on these, and not good enough on others."""

    def windows(numbers):
        for number in numbers:
            scenes = make_tale(DEFAULT, number).scenes
            for k in range(len(scenes) - 4):
                context = scenes[k : k + 4]
                # Everything in the context except the species and the places.
                yield tuple(
                    (s.action, s.state, s.partner is None, s.who == context[0].who, s.where == context[0].where,
                     s.weather in world.FOUL, s.feeling, s.reason)
                    for s in context
                ), scenes[k + 4].action  # fmt: skip

    counts = defaultdict(Counter)
    counted = list(windows(range(3000)))
    for key, action in counted:
        counts[key][action] += 1
    predicted = {key: actions.most_common(1)[0][0] for key, actions in counts.items()}
    on_counted = np.mean([predicted[key] == action for key, action in counted])
    on_others = np.mean([predicted.get(key) == action for key, action in windows(range(3000, 5000))])
    assert on_others - 0.03 < table.loc["action", "both"] < on_counted + 0.03


@pytest.mark.parametrize("chapters", [1, 2])
def test_windows_are_all_those_of_a_story(chapters):
    """Their number is the mean number of windows of simulated stories."""
    counts = np.array([len(make_tale(Settings(chapters=chapters), number).scenes) - 4 for number in range(3000)])
    mean = sum(truth.PerfectReader(Settings(chapters=chapters)).windows.values())
    assert mean == pytest.approx(counts.mean(), abs=4.5 * counts.std() / np.sqrt(len(counts)))


def test_windows_of_two_chapters_are_those_of_whole_stories(monkeypatch):
    """A world of two plots, whose whole stories are all enumerated."""
    monkeypatch.setattr(plots, "PLOTS", {plot: plots.PLOTS[plot] for plot in ("race", "gift")})
    sequences: dict = defaultdict(float)
    for one, other in itertools.product(plots.paths(0.05, 0, True, False), plots.paths(0.05, 0, False, True)):
        if one.plot != other.plot:
            beats = one.beats + other.beats
            for start in range(len(beats) - 4):
                # Half the stories have each order of the two plots.
                sequences[beats[start : start + 5]] += 2 * one.probability * other.probability
    brute: dict = defaultdict(float)
    for beats, weight in sequences.items():
        views = truth.beat_views(beats)
        brute[truth.window(views[:-1], views[-1])] += weight
    assert truth.PerfectReader(Settings(noise=0.05, digression=0, chapters=2)).windows == pytest.approx(brute)


def test_roles_are_counted_as_brute_force_counts_their_values(monkeypatch):
    """A small world: every assignment of 3 species and 4 places to the roles is enumerated and counted."""
    monkeypatch.setitem(truth.SIZES, "who", 3)
    monkeypatch.setitem(truth.SIZES, "where", 4)
    dice = Dice("brute force")
    some = dice.sample(plots.paths(0.1, 0.25), 60)
    seen = frozenset({"who", "where", "weather"})
    exact: dict = {}
    brute: dict = {}
    for path in some:
        for start in range(len(path.beats) - 3):
            beats = path.beats[start : start + 4]
            views = truth.beat_views(beats)
            whole = truth.window(views[:-1], views[-1])
            for attribute, value in zip(truth.ATTRIBUTES, whole.values, strict=True):
                if attribute in ("who", "with", "where", "action"):
                    weights = exact.setdefault((attribute, whole.context(seen)), Counter())
                    weights[value] += path.probability
            for (h, f), places in itertools.product(
                itertools.permutations("xyz", 2), itertools.permutations("abcd", 3)
            ):
                species, where = {"H": h, "F": f}, dict(zip("ABC", places, strict=True))
                scenes = [(b.action, b.state, tuple(species[c] for c in b.cast), where[b.place], b.foul) for b in beats]
                who = scenes[-1][2]
                targets = {
                    "who": who[0], "with": who[1] if len(who) > 1 else None,
                    "where": scenes[-1][3], "action": scenes[-1][0],
                }  # fmt: skip
                for attribute, value in targets.items():
                    weights = brute.setdefault((attribute, tuple(scenes[:-1])), Counter())
                    weights[value] += path.probability / 144
    for attribute in ("who", "with", "where", "action"):
        a = sum(truth.best(weights)[1] for (name, _), weights in exact.items() if name == attribute)
        b = sum(max(weights.values()) for (name, _), weights in brute.items() if name == attribute)
        assert a == pytest.approx(b), attribute


def test_the_best_answer_among_unseen_values_shares_their_chance():
    assert truth.best({("seen", 0): 0.3, ("new", 10): 0.7}) == (("seen", 0), 0.3)
    assert truth.best({("seen", 0): 0.3, ("new", 2): 0.7}) == (("new", 2), pytest.approx(0.35))
    assert truth.best({("is", None): 0.2, ("is", "run"): 0.5})[0] == ("is", "run")


def test_bad_readers_are_refused():
    with pytest.raises(SourceError, match="reader"):
        truth.PerfectReader(reader="smell")
    with pytest.raises(SourceError, match="context"):
        truth.PerfectReader(context=0)
    with pytest.raises(SourceError, match="context must be from 1 to 5"):
        truth.PerfectReader(TWO_CHAPTERS, context=6)
