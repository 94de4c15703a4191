"""Vocabulary, tales and their texts."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storylib.sources import storyworld
from storylib.sources.storyworld import drawing, grammar, lexicon, plots, staging, wildlife, world
from storylib.sources.storyworld.figures import POSES
from storylib.sources.storyworld.heads import BUILDS, MOODS
from storylib.sources.storyworld.tales import make_tale
from storylib.sources.storyworld.things import THINGS
from storylib.sources.storyworld.world import Dice, Settings
from tests.sources.random_worlds import worlds

DEFAULT = Settings()


@pytest.fixture(scope="module")
def tales():
    return [make_tale(DEFAULT, number) for number in range(300)]


@pytest.fixture(scope="module")
def texts(tales):
    """The texts of each tale."""
    return storyworld.write(tales)


def test_the_world_is_as_rich_as_promised():
    assert len(world.SPECIES) >= 8 and len(world.PLACES) >= 10 and len(world.COLOURS) == 8 and len(world.OBJECTS) == 14
    assert len(plots.PLOTS) >= 8


def test_every_name_has_a_drawing_and_a_phrase():
    assert set(BUILDS) == set(lexicon.SPECIES) == set(world.SPECIES)
    assert set(drawing.PLACES) == set(wildlife.FOREGROUND) == {*world.PLACES, "plain"}
    assert set(THINGS) == {*world.OBJECTS, "bundle"} and set(lexicon.OBJECTS) == set(world.OBJECTS)
    assert set(staging.STAGINGS) == set(lexicon.ACTIONS) == set(world.ACTIONS)
    assert set(lexicon.FEELINGS) == set(world.FEELINGS) and set(lexicon.TITLES) == set(plots.PLOTS)
    for stage in staging.STAGINGS.values():
        assert {stage.pose, stage.other_pose} <= set(POSES) and {stage.mood, stage.other_mood} <= set(MOODS)
    beats = {beat for path in plots.paths(0.1, 0.25) for beat in path.beats}
    assert {b.reason for b in beats} == set(lexicon.REASONS)
    assert {b.action for b in beats} == set(world.ACTIONS)
    assert {b.feeling for b in beats} == set(world.FEELINGS)
    # Where a verb implies the state of the object, the plots agree with it; where it needs a companion, there is one.
    assert all(b.state == lexicon.STATE_OF_ACTION.get(b.action, b.state) for b in beats)
    assert all(len(b.cast) == 2 for b in beats if any("{c}" in phrase for phrase in lexicon.ACTIONS[b.action]))


def test_no_phrase_stands_for_two_values():
    for table in (lexicon.PLACES, lexicon.TIMES, lexicon.REASONS, lexicon.FEELINGS, lexicon.STATES, lexicon.ACTIONS):
        owners = defaultdict(set)
        for value, phrases in table.items():
            for phrase in phrases:
                owners[phrase].add(value)
        assert all(len(values) == 1 for values in owners.values())
    phrases = itertools.chain(*lexicon.PLACES.values(), *lexicon.REASONS.values(), *lexicon.ACTIONS.values())
    words = set(" ".join(phrases).split())
    assert not words & set(lexicon.OBJECTS) and not words & set(itertools.chain(*lexicon.SPECIES.values()))


@settings(max_examples=60, deadline=None)
@given(world_settings=worlds, number=st.integers(0, 10**5))
def test_every_text_parses_back(world_settings, number):
    tale = make_tale(world_settings, number)
    assert tale == make_tale(world_settings, number)
    for scene in tale.scenes:
        text = grammar.write(scene, Dice(scene.seed))
        assert grammar.parse(text) == grammar.stated(scene), text
        assert text[0].isupper() and text[-1] in ".!" and not any(bad in text for bad in ("  ", " ,", ",,", ",.", "{"))


def test_texts_have_the_promised_length_and_variety(texts):
    texts = list(itertools.chain(*texts))
    lengths = np.array([len(text.split()) for text in texts])
    assert np.mean((lengths >= 15) & (lengths <= 25)) > 0.9 and lengths.min() >= 10 and lengths.max() <= 34
    assert len({word.strip(".,:!").lower() for text in texts for word in text.split()}) > 500
    assert len(set(texts)) == len(texts)


def test_texts_leave_out_what_they_do_not_state(tales, texts):
    """Weather and garments are never written; a species is written if and only if the story states it."""
    for tale, texts_of_tale in zip(tales, texts, strict=True):
        for scene, text in zip(tale.scenes, texts_of_tale, strict=True):
            assert not {*world.WEATHER, *world.COLOURS} & set(text.lower().split())
            assert any(word in text for word in lexicon.SPECIES[scene.who]) == ("who" in scene.in_text)


def test_a_parse_of_foreign_text_is_empty():
    assert grammar.parse("The quick brown dog jumps over nothing.") == {}
    assert grammar.parse("") == {}
    attributes = grammar.parse("the fox went for a walk in the forest at night. he felt happy.")
    assert attributes["who"] == "fox" and attributes["where"] == "forest" and attributes["feeling"] == "happy"


def test_a_smaller_world_is_the_beginning_of_a_larger_one(tales, texts):
    assert texts[:20] == storyworld.write(tales[:20])


def test_two_chapters_share_their_characters_their_places_and_their_object():
    for number in range(200):
        scenes = make_tale(Settings(chapters=2), number).scenes
        assert 9 <= len(scenes) <= 14 and [s.number for s in scenes] == list(range(1, len(scenes) + 1))
        assert len({s.plot for s in scenes}) == 2 and sum(s.reason == "new_day" for s in scenes) == 1
        assert len({s.who for s in scenes}) <= 2 and len({s.where for s in scenes}) <= 3
        assert len({s.object for s in scenes} - {None}) <= 1
        hours = [world.TIMES.index(s.time) for s in scenes]
        assert all((after - before) % 4 in (0, 1) for before, after in itertools.pairwise(hours))


def test_other_seeds_are_other_worlds():
    assert make_tale(Settings(seed=1), 0) != make_tale(DEFAULT, 0)


def test_no_word_is_repeated(texts):
    """Phrases are joined freely, so adjacent ones must not share a word ("walked along along the seashore")."""
    assert not [text for text in itertools.chain(*texts) if re.search(r"\b(\w+) \1\b", text.lower())]
