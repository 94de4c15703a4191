from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import noise

from storylib.features import Features
from storylib.leaks import floor_recall, split_report, twins
from storylib.stories import Frame, Splits, Story

POOL = [noise(i, (32, 32)) for i in range(40)]
LONG = "one day the old goat walked over the high hill to see the wide {} sea"


def story(name: str, *images: int, text: str = "") -> Story:
    frames = tuple(Frame(POOL[i], text.format(page) or f"{name} {page}", page) for page, i in enumerate(images, 1))
    return Story(name, name, frames)


def test_twins_are_a_test_and_a_training_page():
    train = [story("a", 1, 2, 3), story("b", 4, 5, text=LONG)]
    test = [story("c", 2, 2, 6), story("d", 7, 8), Story("e", "e", (Frame(POOL[9], LONG.format("blue")),))]
    splits = Splits(train, [], test, {})
    (pair,) = twins(splits)
    assert (pair.test_story.id, pair.test_frame.page, pair.train_story.id, pair.train_frame.page) == ("c", 1, "a", 2)
    (pair,) = twins(splits, "text")
    assert pair.kind == "text" and (pair.test_story.id, pair.train_story.id) == ("e", "b")
    assert twins(dataclasses.replace(splits, test=[])) == []


def features(stories: list[Story]) -> Features:
    """Pictures and texts of a story are one-hot in the number of their page, so that every score is known."""
    keys = [(s.id, f.page) for s in stories for f in s.frames]
    vectors = np.zeros((len(keys), 40), np.float32)
    for row, frame in enumerate(f for s in stories for f in s.frames):
        vectors[row, next(i for i, image in enumerate(POOL) if image is frame.image)] = 1
    rows = np.arange(len(keys))
    return Features(vectors, vectors, vectors, rows, rows, [f.text for s in stories for f in s.frames], keys, "x")


def test_floors_of_a_worked_case():
    """Both test stories begin like a training story; one goes on like it, the other repeats its last picture."""
    train = [story("a", 1, 2, 3, 4, 5), story("b", 10, 11, 12, 13, 24)]
    test = [story("c", 1, 2, 3, 4, 5), story("d", 10, 11, 12, 13, 13)]
    scores = floor_recall(Splits(train, [], test, {}), features(train + test), k=1)
    assert scores == {"copy_last_image": 50, "nearest_image": 50, "copy_last_text": 50, "nearest_text": 50}
    with pytest.raises(ValueError, match="5 pages in a row"):
        floor_recall(Splits(train, [], [story("e", 1, 2)], {}), features([*train, story("e", 1, 2)]))


def test_the_report_of_a_leaking_set():
    shared = [story(f"s{i}", i, i + 1, i + 2, i + 3, i + 4) for i in range(0, 12, 2)]  # a chain: one group of six
    apart = [story(f"x{i}", 16 + i, 16 + i, 17 + i, 17 + i, 16 + i) for i in range(0, 20, 2)]
    report = split_report(shared + apart, features(shared + apart), seeds=range(3))
    assert list(report.groupby("split")["leaked_pages"].sum() > 0) == [False, True]
    assert {"copy_last_image", "nearest_text"} <= set(report.columns) and len(report) == 6
    assert "copy_last_image" not in split_report(shared + apart, seeds=[0]).columns
