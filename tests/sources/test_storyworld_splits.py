"""Splits of Storyworld: new stories, new combinations, new plots."""

from __future__ import annotations

from pathlib import Path

import pytest

from storylib.data.types import Frame, Story
from storylib.sources import SourceError, storyworld
from storylib.sources.storyworld import plots, splits, world
from storylib.sources.storyworld.tales import make_tale
from storylib.sources.storyworld.world import Dice, Settings


@pytest.fixture(scope="module", params=[1, 2])
def stories(request):
    """Stories without pictures, of one chapter or two."""
    tales = [make_tale(Settings(chapters=request.param), number) for number in range(300)]
    stories = []
    for tale, texts in zip(tales, storyworld.write(tales), strict=True):
        pairs = zip(tale.scenes, texts, strict=True)
        frames = tuple(
            Frame(Path(scene.seed), text, scene.number, attributes=scene.attributes()) for scene, text in pairs
        )
        stories.append(Story(f"sw-{tale.number}", tale.plot, frames, group=f"sw-{tale.number}"))
    return stories


@pytest.mark.parametrize("kind", splits.KINDS)
def test_splits_are_disjoint_and_complete(stories, kind):
    split = splits.split(stories, kind, seed=1)
    names = [s.id for _, part in split for s in part]
    assert sorted(names) == sorted(s.id for s in stories)
    assert all(len(part) >= 20 for _, part in split)
    texts = [{f.text for s in part for f in s.frames} for _, part in split]
    assert not texts[0] & texts[2] and not texts[0] & texts[1] and not texts[1] & texts[2]
    assert [s.id for s in splits.split(stories, kind, seed=1).test] == [s.id for s in split.test]


def test_held_out_combinations_are_new_but_their_parts_are_not(stories):
    split = splits.split(stories, "combinations")
    known = set().union(*(splits.combinations(s) for s in [*split.train, *split.validation]))
    held_out = splits.held_out_pairs(stories, Dice("split", "combinations", 0))
    assert held_out and not held_out & known
    assert all(splits.combinations(s) & held_out for s in split.test)
    known_species, known_places = zip(*known, strict=True)
    assert set(known_species) == set(world.SPECIES) and set(known_places) == set(world.PLACES)


def test_held_out_plots_are_new(stories):
    split = splits.split(stories, "plots")
    known = set().union(*map(splits.plots_of, [*split.train, *split.validation]))
    assert len(known) == len(plots.PLOTS) - 2
    assert not any(splits.plots_of(s) <= known for s in split.test)


def test_an_unknown_kind_is_refused():
    with pytest.raises(SourceError, match="kind"):
        splits.split([], "random")
