"""Leaks: twins and baselines of worked cases, and a report that tells leaking splits from clean ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from conftest import noise

from storylib.analysis.leaks import baseline_recall, split_report, twins
from storylib.data.features import Features
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


def features(stories: list[Story]) -> Features:
    """One-hot pictures and texts, so that every score is known."""
    keys = [(s.id, f.number) for s in stories for f in s.frames]
    vectors = np.zeros((len(keys), 40), np.float32)
    for row, frame in enumerate(f for s in stories for f in s.frames):
        vectors[row, next(i for i, image in enumerate(POOL) if image is frame.image)] = 1
    rows = np.arange(len(keys))
    return Features(vectors, vectors, vectors, rows, rows, [f.text for s in stories for f in s.frames], keys, "x")


def test_baselines_of_a_worked_case():
    """Both test stories begin like a training story; one continues like it, the other repeats its last picture."""
    train = [story("a", 1, 2, 3, 4, 5), story("b", 10, 11, 12, 13, 24)]
    test = [story("c", 1, 2, 3, 4, 5), story("d", 10, 11, 12, 13, 13)]
    scores = baseline_recall(Splits(train, [], test, {}), features(train + test), k=1)
    assert scores == {"copy_last_image": 50, "nearest_image": 50, "copy_last_text": 50, "nearest_text": 50}
    with pytest.raises(ValueError, match="5 frames in a row"):
        baseline_recall(Splits(train, [], [story("e", 1, 2)], {}), features([*train, story("e", 1, 2)]))


def test_the_report_of_a_leaking_set():
    shared = [story(f"s{i}", i, i + 1, i + 2, i + 3, i + 4) for i in range(0, 12, 2)]  # a chain: one group of six
    apart = [story(f"x{i}", 16 + i, 16 + i, 17 + i, 17 + i, 16 + i) for i in range(0, 20, 2)]
    report = split_report(shared + apart, features(shared + apart), seeds=range(3))
    assert list(report.groupby("split")["leaked_frames"].sum() > 0) == [False, True]
    assert {"copy_last_image", "nearest_text"} <= set(report.columns) and len(report) == 6
    assert "copy_last_image" not in split_report(shared + apart, seeds=[0]).columns
