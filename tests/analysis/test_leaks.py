"""Leaks: near-duplicates between test and training."""

from __future__ import annotations

import dataclasses

from conftest import noise

from storylib.analysis.leaks import twins
from storylib.data.splits import Splits
from storylib.data.types import Frame, Story

POOL = [noise(i, (32, 32)) for i in range(40)]
LONG = "one day the old goat walked over the high hill to see the wide {} sea"


def story(name: str, *images: int, text: str = "") -> Story:
    frames = tuple(
        Frame(POOL[i], text.format(number) or f"{name} {number}", number) for number, i in enumerate(images, 1)
    )
    return Story(name, name, frames)


def test_twins_are_a_test_and_a_training_frame():
    train = [story("a", 1, 2, 3), story("b", 4, 5, text=LONG)]
    test = [story("c", 2, 2, 6), story("d", 7, 8), Story("e", "e", (Frame(POOL[9], LONG.format("blue")),))]
    splits = Splits(train, [], test, {})
    (pair,) = twins(splits)
    numbers = (pair.test_frame.number, pair.train_frame.number)
    assert (pair.test_story.id, pair.train_story.id, *numbers) == ("c", "a", 1, 2)
    (pair,) = twins(splits, "text")
    assert pair.kind == "text" and (pair.test_story.id, pair.train_story.id) == ("e", "b")
    assert twins(dataclasses.replace(splits, test=[])) == []
