"""Leak-free splits: stories that share near-duplicates stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from storylib.config import unknown
from storylib.data.duplicates import connected, frame_clusters, story_indices
from storylib.data.types import Story

HELD_OUT = 0.15  # share of the stories in the validation split, and in the test split
WAYS = ("group", "story", "source")
LARGEST = 0.05  # groups with more than this share of the stories go to training


@dataclass(frozen=True)
class Splits:
    """Three lists of whole stories, and the group of each story."""

    train: list[Story]
    validation: list[Story]
    test: list[Story]
    groups: dict[str, int]  # by story id
    left_out: list[Story] = field(default_factory=list)  # would leak into an official test or validation split

    def __iter__(self) -> Iterator[tuple[str, list[Story]]]:
        return iter((("train", self.train), ("validation", self.validation), ("test", self.test)))


def split_stories(stories: Sequence[Story], seed: int = 0, by: str = "group") -> Splits:
    """Split by connected groups of near-duplicate stories, so that no test picture or text was seen in training.

    by: "group" keeps every group whole; "story" splits at random, as most published systems do, and leaks; "source"
    tests on the stories of every source but the largest. With three groups or more no split is empty; with fewer, every
    story is for training. Official splits are kept, and only missing ones are drawn; but by "story", stories
    that repeat a frame of an official held-out story are left out. Raises ValueError for stories that cannot be split.
    """
    if by not in WAYS:
        raise ValueError(unknown("way to split", by, WAYS))
    owners = story_indices(stories)  # (frames,)
    clusters = owners if by == "story" else frame_clusters(stories)
    official = np.array([s.split if s.split in ("test", "validation") else "train" for s in stories], dtype=object)
    if by == "source":
        sources = Counter(s.source for s in stories).most_common()
        if len(sources) < 2:
            raise ValueError("split_by='source' needs stories of several sources, such as 'picture_books'")
        official = np.array(["train" if s.source == sources[0][0] else "test" for s in stories], dtype=object)
    leaking = _leaking(owners, clusters, official)
    kept = ~leaking[owners]
    links = np.stack([owners, clusters + len(stories)], axis=1)[kept]  # the clusters are nodes after the stories
    groups = connected(links, len(stories) + 1 + int(clusters.max(initial=0)))[: len(stories)]
    part = _draw(np.where(leaking, "left out", official), groups, seed)
    parts: dict[str, list[Story]] = {name: [] for name in ("train", "validation", "test", "left out")}
    for story, name in zip(stories, part.tolist(), strict=True):
        parts[name].append(story)
    by_id = {story.id: group for story, group in zip(stories, groups.tolist(), strict=True)}
    return Splits(parts["train"], parts["validation"], parts["test"], by_id, parts["left out"])


def _leaking(owners: np.ndarray, clusters: np.ndarray, official: np.ndarray) -> np.ndarray:
    """Which stories repeat a frame of an official split that they are not in, (stories,) bool.

    owners, clusters: story and cluster of each frame, (frames,). official: split of each story, (stories,).
    """
    leaking = np.zeros(len(official), dtype=bool)
    split = official[owners]  # (frames,)
    for held_out, others in (("test", ["validation", "train"]), ("validation", ["train"])):
        repeats = np.isin(clusters, clusters[split == held_out])
        leaking[owners[repeats & np.isin(split, others)]] = True
    return leaking


def _draw(part: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Move whole groups from training to the held-out parts that are empty, each up to its share; (stories,) names."""
    pool = part == "train"
    sizes = Counter(groups[pool].tolist())
    free = {name: 0 for name in ("test", "validation") if name not in part}
    if len(sizes) > len(free):
        free = dict.fromkeys(free, max(1, round(HELD_OUT * pool.sum())))
    largest = max(1, LARGEST * pool.sum())
    for group in np.random.default_rng(seed).permutation(sorted(sizes)):
        fitting = [name for name in free if sizes[group] <= min(largest, free[name])]
        if fitting:
            part[pool & (groups == group)] = fitting[0]
            free[fitting[0]] -= sizes[group]
    return part


def seen_frames(splits: Splits) -> pd.DataFrame:
    """Which test frames share a cluster with training: columns story, frame, picture, text, leaked (either)."""
    rows = [{"story": story.id, "frame": frame.number} for story in splits.test for frame in story.frames]
    first_test = sum(len(story.frames) for story in splits.train)
    seen = pd.DataFrame(rows, columns=["story", "frame"])
    for kind in ("picture", "text"):
        clusters = frame_clusters([*splits.train, *splits.test], [kind])
        seen[kind] = np.isin(clusters[first_test:], clusters[:first_test])
    return seen.assign(leaked=seen["picture"] | seen["text"])
