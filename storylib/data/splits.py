"""Leak-free splits: stories that share near-duplicates stay together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from storylib.config import unknown
from storylib.data.duplicates import (
    connected,
    frame_clusters,
    near_duplicate_pictures,
    near_duplicate_texts,
    story_indices,
)
from storylib.data.inspection import inspect
from storylib.data.types import Story

HELD_OUT = 0.15  # share of the stories in the validation split, and in the test split
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

    by: "group" keeps every group whole; "story" splits at random, as most published systems do, and leaks. With three
    groups or more no split is empty; with fewer, every story is for training.

    Stories with an official ``split`` stay there, and only a split that has none is drawn from the rest. By "group", a
    story that repeats a frame of an official test story is left out; by "story" it stays.
    """
    if by not in ("group", "story"):
        raise ValueError(unknown("way to split", by, ("group", "story")))
    if not stories:
        raise ValueError("there are no stories to split: the source has none")
    repeated = [name for name, count in Counter(s.id for s in stories).items() if count > 1]
    if repeated:
        raise ValueError(f"two stories have the same id {repeated[0]!r}; every story needs its own")
    owners = story_indices(stories)  # (frames,)
    clusters = frame_clusters(stories) if by == "group" else owners
    official = np.array([s.split if s.split in ("test", "validation") else "train" for s in stories])  # (stories,)
    leaking = _leaking(owners, clusters, official)
    kept = ~leaking[owners]
    groups = _story_groups(stories, owners[kept], clusters[kept])

    parts: dict[str, list[Story]] = {"test": [], "validation": [], "train": []}
    for story, name, leaks in zip(stories, official, leaking, strict=True):
        if not leaks:
            parts[name].append(story)
    missing = [name for name in ("test", "validation") if not parts[name]]
    parts |= _draw(parts["train"], groups, missing, seed)
    position = {s.id: i for i, s in enumerate(stories)}
    ordered = {name: sorted(part, key=lambda s: position[s.id]) for name, part in parts.items()}
    left_out = [story for story, leaks in zip(stories, leaking, strict=True) if leaks]
    return Splits(ordered["train"], ordered["validation"], ordered["test"], groups, left_out)


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


def _draw(pool: list[Story], groups: dict[str, int], names: Sequence[str], seed: int) -> dict[str, list[Story]]:
    """Deal whole groups out to the named splits, each up to its share, and the rest to training."""
    members: dict[int, list[Story]] = defaultdict(list)
    for story in pool:
        members[groups[story.id]].append(story)
    parts: dict[str, list[Story]] = {"train": [], **{name: [] for name in names}}
    wanted = max(1, round(HELD_OUT * len(pool))) if len(members) > len(names) else 0
    largest = max(1, LARGEST * len(pool))
    for group in np.random.default_rng(seed).permutation(sorted(members)):
        size = len(members[group])
        fitting = [name for name in names if size <= largest and len(parts[name]) + size <= wanted]
        parts[fitting[0] if fitting else "train"].extend(members[group])
    return parts


def _story_groups(stories: Sequence[Story], owners: np.ndarray, clusters: np.ndarray) -> dict[str, int]:
    """Group of each story by id: stories with frames in one cluster are one group. owners, clusters: (frames,)."""
    size = len(stories) + 1 + int(clusters.max(initial=0))
    labels = connected(np.stack([owners, clusters + len(stories)], axis=1), size)
    return {story.id: int(label) for story, label in zip(stories, labels, strict=False)}


def reused_frames(stories: Sequence[Story]) -> int:
    """Number of frames with a near-duplicate of their picture in another story."""
    owners = story_indices(stories)  # (frames,)
    clusters = connected(near_duplicate_pictures(inspect([f.image for s in stories for f in s.frames])), len(owners))
    cluster_and_owner = np.unique(np.stack([clusters, owners]), axis=1)
    stories_of_cluster = np.bincount(cluster_and_owner[0])
    return int((stories_of_cluster[clusters] > 1).sum())


def seen_frames(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Which test frames have a near-duplicate picture in training, and which a text, (test frames,) bool each."""
    frames = [f for s in splits.train for f in s.frames]
    start = len(frames)  # frames from here on are test frames
    frames += [f for s in splits.test for f in s.frames]
    pictures = connected(near_duplicate_pictures(inspect([f.image for f in frames])), len(frames))
    texts = connected(near_duplicate_texts([f.text for f in frames]), len(frames))
    return np.isin(pictures[start:], pictures[:start]), np.isin(texts[start:], texts[:start])


def leakage(splits: Splits) -> dict[str, int]:
    """How many test stories and frames there are, and how many repeat a picture or a text of a training frame."""
    owners = story_indices(splits.test)
    by_picture, by_text = seen_frames(splits)
    leaked = by_picture | by_text
    return {
        "stories": len(splits.test),
        "frames": len(owners),
        "picture_frames": int(by_picture.sum()),
        "text_frames": int(by_text.sum()),
        "leaked_frames": int(leaked.sum()),
        "leaked_stories": len(set(owners[leaked].tolist())),
    }
