"""Splits that test generalisation: to new stories, to new combinations of known parts, to new plots."""

from __future__ import annotations

from collections.abc import Sequence

from storylib.data.splits import Splits, split_stories
from storylib.data.types import Story
from storylib.sources._checks import SourceError
from storylib.sources.storyworld.plots import PLOTS
from storylib.sources.storyworld.world import PLACES, SPECIES, Dice

KINDS = ("standard", "combinations", "plots")
TEST_SHARE = 0.2  # of the stories, in a test of combinations


def split(stories: Sequence[Story], kind: str = "standard", seed: int = 0) -> Splits:
    """Train, validation and test.

    standard: new stories. combinations: every test story pairs a species with a place that no training story pairs,
    while each of the two occurs in training. plots: two plots occur in the test split only, which has every story with
    either of them.
    """
    if kind not in KINDS:
        raise SourceError(f"Storyworld: kind must be one of {', '.join(KINDS)}, not {kind!r}.")
    if kind == "standard":
        return split_stories(stories, seed)
    dice = Dice("split", kind, seed)
    if kind == "plots":
        held_out = set(dice.sample(tuple(PLOTS), 2))
        test = [s for s in stories if plots_of(s) & held_out]
    else:
        pairs = held_out_pairs(stories, dice)
        test = [s for s in stories if combinations(s) & pairs]
    test_ids = {s.id for s in test}
    rest = [s for s in stories if s.id not in test_ids]
    order = dice.sample(range(len(rest)), len(rest))
    count = round(0.15 * len(stories))
    validation = {rest[i].id for i in order[:count]}
    return Splits(
        train=[s for s in rest if s.id not in validation],
        validation=[s for s in rest if s.id in validation],
        test=test,
        groups={s.id: i for i, s in enumerate(stories)},
    )


def plots_of(story: Story) -> set[str]:
    """The plots of a story, one per chapter."""
    return {str((frame.attributes or {}).get("plot")) for frame in story.frames}


def combinations(story: Story) -> set[tuple[str, str]]:
    """Every pair of a species and a place that a story shows together."""
    attributes = [f.attributes or {} for f in story.frames]
    return {(a[who], a["where"]) for a in attributes for who in ("who", "with") if a.get(who)}


def held_out_pairs(stories: Sequence[Story], dice: Dice) -> set[tuple[str, str]]:
    """Pairs of species and place, each species and place at most once, that about a fifth of the stories contain."""
    species = dice.sample(SPECIES, len(SPECIES))
    places = dice.sample(PLACES, len(PLACES))
    chosen: set[tuple[str, str]] = set()
    for pair in zip(species, places, strict=False):
        chosen.add(pair)
        if sum(bool(combinations(s) & chosen) for s in stories) >= TEST_SHARE * len(stories):
            break
    return chosen
