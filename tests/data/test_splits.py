from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter

import pytest
from conftest import noise
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storylib.data.splits import seen_frames, split_stories
from storylib.data.types import Frame, Story, windows

POOL = [noise(i, (32, 32)) for i in range(60)]


def story(name: str, *images: int, group: str | None = None) -> Story:
    """One frame per picture of the pool; texts so short that only pictures can link."""
    frames = tuple(Frame(POOL[i % len(POOL)], f"{name} {i}", number) for number, i in enumerate(images, 1))
    return Story(name, name, frames, group=group)


@given(st.sets(st.integers(1, 30)), st.integers(1, 6))
def test_windows_never_cross_a_gap_and_miss_none(numbers, context):
    frames = tuple(Frame(POOL[0], str(n), n) for n in sorted(numbers))
    spans = [[f.number for f in (*w.context, w.target)] for w in windows([Story("s", "s", frames)], context)]
    runs = [list(range(n, n + context + 1)) for n in sorted(numbers)]
    assert spans == [run for run in runs if set(run) <= numbers]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 59), min_size=1, max_size=4), st.sampled_from([None, None, "x", "y"])),
             min_size=1, max_size=30),
    st.integers(0, 3),
)  # fmt: skip
def test_no_group_crosses_a_split_and_every_story_is_there_once(plan, seed):
    stories = [story(f"s{n}", *images, group=group) for n, (images, group) in enumerate(plan)]
    splits = split_stories(stories, seed=seed)
    assert sorted(s.id for _, part in splits for s in part) == sorted(s.id for s in stories)
    where = {s.id: name for name, part in splits for s in part}
    for a, b in itertools.combinations(stories, 2):
        same_source_group = a.group is not None and a.group == b.group
        both_open = a.group is None and b.group is None
        shared = both_open and {id(f.image) for f in a.frames} & {id(f.image) for f in b.frames}
        if same_source_group or shared:
            assert where[a.id] == where[b.id] and splits.groups[a.id] == splits.groups[b.id]
    again = split_stories(stories, seed=seed)
    assert [s.id for s in again.test] == [s.id for s in splits.test]
    order = {s.id: n for n, s in enumerate(stories)}
    for _, part in splits:
        assert [order[s.id] for s in part] == sorted(order[s.id] for s in part)
    groups = set(splits.groups.values())
    sizes = [list(splits.groups.values()).count(g) for g in groups]
    if len(groups) >= 3 and max(sizes) == 1:
        assert splits.train and splits.validation and splits.test


def test_split_shares_and_large_groups():
    stories = [story(f"s{n}", n % 60, group="giant" if n < 30 else f"g{n}") for n in range(100)]
    splits = split_stories(stories, seed=1)
    assert len(splits.test) == len(splits.validation) == 15
    assert {f"s{n}" for n in range(30)} <= {s.id for s in splits.train}
    assert {s.id for s in splits.test} != {s.id for s in split_stories(stories, seed=2).test}
    tens = [story(f"s{n}", n % 60, group="pair" if n < 2 else "ten" if n < 12 else f"g{n}") for n in range(100)]
    parts = [split_stories(tens, seed=seed) for seed in range(10)]
    assert all({f"s{n}" for n in range(2, 12)} <= {s.id for s in part.train} for part in parts)  # 10 of 100 is too many
    assert any("s0" in {s.id for s in part.test} for part in parts)  # 2 of 100 is not


def official(name: str, split: str | None, *images: int) -> Story:
    return dataclasses.replace(story(name, *images), split=split)


def test_an_official_test_part_stays_and_what_would_leak_into_it_is_left_out():
    stories = [official(f"t{n}", "test", n) for n in range(10)]
    stories += [official(f"r{n}", "train", n + 10) for n in range(20)]
    stories += [official("leak", "train", 3, 40), official("chain", "train", 40, 41)]
    splits = split_stories(stories)
    assert [s.id for s in splits.test] == [f"t{n}" for n in range(10)]
    assert [s.id for s in splits.left_out] == ["leak"] and "chain" in {s.id for s in splits.train + splits.validation}
    assert len(splits.validation) == 3 and not seen_frames(splits)["leaked"].any()
    assert splits.groups["chain"] != splits.groups["t3"]
    random = split_stories(stories, by="story")
    assert [s.id for s in random.test] == [s.id for s in splits.test] and not random.left_out
    assert sorted(s.id for _, part in random for s in part) == sorted(s.id for s in stories)


def test_an_official_validation_part_stays_too():
    stories = [official(f"t{n}", "test", n) for n in range(3)] + [
        official(f"v{n}", "validation", n + 2) for n in range(3)
    ]
    stories += [official(f"r{n}", "train", n + 4) for n in range(4)]
    splits = split_stories(stories)
    assert [[s.id for s in part] for _, part in splits] == [["r1", "r2", "r3"], ["v1", "v2"], ["t0", "t1", "t2"]]
    assert [s.id for s in splits.left_out] == ["v0", "r0"]  # v0 shows a picture of t2, r0 one of v2
    only = [official(f"v{n}", "validation", n) for n in range(2)] + [
        official(f"r{n}", "train", n + 4) for n in range(20)
    ]
    assert len(split_stories(only).validation) == 2 and len(split_stories(only).test) == 3


def test_split_errors_and_tiny_sets():
    with pytest.raises(ValueError, match="'group'"):
        split_stories([story("a", 1)], by="grop")
    assert [len(part) for _, part in split_stories([story("a", 1), story("b", 2)])] == [2, 0, 0]
    assert [len(part) for _, part in split_stories([story("a", 1), story("b", 2), story("c", 3)])] == [1, 1, 1]


def test_groups_by_picture_text_and_source():
    long = "one day the old goat walked over the high hill to see the wide sea"
    stories = [
        story("a", 1, 2),
        story("b", 2, 3),
        story("c", 4),
        Story("d", "d", (Frame(POOL[5], long),)),
        Story("e", "e", (Frame(POOL[6], long.upper()),)),
        story("f", 1, group="own"),  # a source that names its groups is trusted, whatever the pictures show
        story("g", 7, group="own"),
    ]
    groups = split_stories(stories).groups
    same = {(a, b) for a, b in itertools.combinations(groups, 2) if groups[a] == groups[b]}
    assert same == {("a", "b"), ("d", "e"), ("f", "g")}


def test_the_leakage_of_a_worked_case():
    stories = [story("a", 1, 2, 2), story("b", 2, 3), story("c", 4), story("d", 4, 5)]
    splits = split_stories(stories)
    by_hand = dataclasses.replace(splits, train=[stories[0]], validation=[], test=[stories[1], stories[2]])
    seen = seen_frames(by_hand)
    assert seen["story"].tolist() == ["b", "b", "c"] and seen["frame"].tolist() == [1, 2, 1]
    assert seen["leaked"].tolist() == seen["picture"].tolist() == [True, False, False] and not seen["text"].any()
    assert seen_frames(dataclasses.replace(splits, test=[])).empty


def test_the_group_split_never_leaks_and_a_random_one_does(real_stories_folder, caplog):
    from storylib.sources import load_stories

    stories = load_stories("african_storybook", root=real_stories_folder)
    for seed in range(3):
        assert not seen_frames(split_stories(stories, seed=seed))["leaked"].any()
        assert seen_frames(split_stories(stories, seed=seed, by="story"))["leaked"].sum() > 50
    sizes = Counter(split_stories(stories).groups.values())
    assert 95 <= len(sizes) <= 115 and 180 <= max(sizes.values()) <= 205
    assert all(re.search(r"\S", f.text) for s in stories for f in s.frames)
