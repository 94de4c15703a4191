"""Near-duplicates that a random split leaks, and what they are worth to a trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from storylib.data.duplicates import near_duplicates
from storylib.data.splits import Splits, seen_frames, split_stories
from storylib.data.types import Frame, Story

WAYS = {"story": "random by story", "group": "leak-free groups"}
SCORES = {"copy_last": "copy-last", "model": "trained model", "gain": "gain of the model"}
TITLES = SCORES | {"side": "next", "windows_of": "windows whose"}
WINDOWS = ("frame seen in training", "frame not seen", "all")  # of which the target, its picture or text, leaked


@dataclass(frozen=True)
class Twin:
    """A test frame and a training frame with nearly the same picture or text."""

    kind: str  # "picture" or "text"
    test_story: Story
    test_frame: Frame
    train_story: Story
    train_frame: Frame


def twins(splits: Splits, kind: str = "picture") -> list[Twin]:
    """Test frames with a near-duplicate in training, each with one such frame; at most one per test story, in order.

    Stories whose source names their groups are not compared.
    """
    parts = [[story for story in part if story.group is None] for part in (splits.train, splits.test)]
    frames = [(story, frame) for part in parts for story in part for frame in story.frames]
    first_test = sum(len(story.frames) for story in parts[0])
    links = near_duplicates([frame for _, frame in frames], kind)
    by_story: dict[str, Twin] = {}
    for a, b in sorted(links, key=lambda pair: pair[1]):
        if a < first_test <= b:
            by_story.setdefault(frames[b][0].id, Twin(kind, *frames[b], *frames[a]))
    return list(by_story.values())


def leak_shares(stories: Sequence[Story], seed: int = 0) -> list[dict[str, Any]]:
    """What a random split and a leak-free one leak, in percent of the test set: rows of split, what and share."""
    rows = []
    for way, split in WAYS.items():
        seen = seen_frames(split_stories(stories, seed, way))
        shares = {f"frames whose {kind} was seen": seen[kind].mean() for kind in ("picture", "text")}
        shares["stories with such a frame"] = seen.groupby("story")["leaked"].any().mean()
        rows += [
            {"split": split, "what": what, "share": round(100 * float(share), 2)} for what, share in shares.items()
        ]
    return rows


def trained(record: Mapping[str, Any], part: str) -> pd.DataFrame:
    """Recall@10 of copy-last and of a trained model with 95 % intervals, from the record of ``benchmarks/leaks.py``.

    part: "rows", under both kinds of split, or "differences" between two of these rows.
    """
    table = pd.DataFrame(record[part]).replace({"split": WAYS}).sort_values("side", kind="stable")
    for score in SCORES:
        table[score] = table[score].map("{0[0]:.1f} ({0[1]:.1f} to {0[2]:.1f})".format)
    return table.rename(columns=TITLES).set_index("next")
