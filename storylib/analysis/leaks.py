"""Near-duplicates that a random split leaks, and what they are worth to a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from storylib.config import project_root
from storylib.data.duplicates import near_duplicates
from storylib.data.splits import Splits, seen_frames, split_stories
from storylib.data.types import Frame, Story

WAYS = {"story": "random by story", "group": "leak-free groups"}
DIFFERENCES = {
    "random less leak-free": "random split minus leak-free split",
    "seen less not seen": "random split: leaked windows minus the others",
}
VERDICTS = {1: "more", -1: "less", 0: "no difference"}  # by the side of zero that the interval is on
SCORES = {"copy_last": "copy-last", "model": "trained model", "gain": "gain of the model"}
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


def published(name: str) -> dict[str, Any] | None:
    """``results/<name>.json``, from ``benchmarks/<name>.py`` on real stories; None if only the library is installed."""
    path = project_root() / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def trained_effect(record: Mapping[str, Any]) -> pd.DataFrame:
    """Recall@10 with 95 % intervals of copy-last and of a trained model, under both kinds of split."""
    rows = []
    for row in record["rows"]:
        key = {"next": row["side"], "split": WAYS[row["split"]], "windows whose": row["windows_of"]}
        texts = {title: "{:.1f} ({:.1f} to {:.1f})".format(*row[score]) for score, title in SCORES.items()}
        rows.append({**key, "windows": row["windows"], **texts})
    return pd.DataFrame(rows).sort_values("next", kind="stable").set_index(["next", "split", "windows whose"])


def trained_differences(record: Mapping[str, Any]) -> pd.DataFrame:
    """What a leak is worth: the change of the model's gain over copy-last, in points of recall@10.

    One row per next picture or text and comparison: difference, low, high, and the verdict "more", "less" or
    "no difference".
    """
    rows = []
    for row in record["differences"]:
        gain, low, high = row["gain"]
        verdict = VERDICTS[int(low > 0) - int(high < 0)]
        key = {"next": row["side"], "gain over copy-last": DIFFERENCES[row["difference"]]}
        rows.append(key | {"difference": gain, "low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(rows).sort_values("next", kind="stable").set_index(["next", "gain over copy-last"])
