"""Splits that ask something: new stories, new combinations of what is known, new plots."""

from __future__ import annotations

from collections.abc import Sequence

from storylib.sources.storyworld import world
from storylib.sources.storyworld.plots import PLOTS
from storylib.sources.storyworld.world import Dice
from storylib.stories import Splits, Story, split_stories

KINDS = ("standard", "combinations", "plots")
SHARE = 0.2  # of the stories that a test of combinations should have


def split(stories: Sequence[Story], kind: str = "standard", seed: int = 0) -> Splits:
    """Train, validation and test.

    standard: a story is in one split. combinations: some species were never in some places before the test, while
    each was seen elsewhere; a test story has at least one such pair. plots: the test's two plots were never seen.
    """
    if kind not in KINDS:
        raise world.error(f"Storyworld: kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    if kind == "standard":
        return split_stories(stories, seed)
    dice = Dice("split", kind, seed)
    if kind == "plots":
        held_out = set(dice.sample(tuple(PLOTS), 2))
        test = [s for s in stories if plot_of(s) in held_out]
    else:
        pairs = held_out_pairs(stories, dice)
        test = [s for s in stories if combinations(s) & pairs]
    chosen = {s.id for s in test}
    rest = [s for s in stories if s.id not in chosen]
    order = dice.sample(range(len(rest)), len(rest))
    count = round(0.15 * len(stories))
    validation = {rest[i].id for i in order[:count]}
    return Splits(
        train=[s for s in rest if s.id not in validation],
        validation=[s for s in rest if s.id in validation],
        test=test,
        groups={s.id: i for i, s in enumerate(stories)},
    )


def plot_of(story: Story) -> str:
    return str((story.frames[0].attributes or {}).get("plot"))


def combinations(story: Story) -> set[tuple[str, str]]:
    """Every pair of a species and a place that a story shows together."""
    attributes = [f.attributes or {} for f in story.frames]
    return {(a[who], a["where"]) for a in attributes for who in ("who", "with") if a.get(who)}


def held_out_pairs(stories: Sequence[Story], dice: Dice) -> set[tuple[str, str]]:
    """Pairs of species and place, no species or place twice, that about a fifth of the stories contain."""
    species = dice.sample(world.SPECIES, len(world.SPECIES))
    places = dice.sample(world.PLACES, len(world.PLACES))
    chosen: set[tuple[str, str]] = set()
    for pair in zip(species, places, strict=False):
        chosen.add(pair)
        if sum(bool(combinations(s) & chosen) for s in stories) >= SHARE * len(stories):
            break
    return chosen
