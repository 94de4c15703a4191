"""How much a random split leaks, and what the group split does about it: counts, examples, and the effect on scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from storylib.config import project_root
from storylib.data.duplicates import near_duplicate_pictures, near_duplicate_texts
from storylib.data.inspection import inspect
from storylib.data.splits import Splits, leakage, split_stories
from storylib.data.types import Frame, Story, windows

if TYPE_CHECKING:
    from torch import Tensor

    from storylib.data.features import Features

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
    """Test frames with a near-duplicate in training, each with one such frame; at most one per test story, in order."""
    frames = [(story, frame) for part in (splits.train, splits.test) for story in part for frame in story.frames]
    first_test = sum(len(story.frames) for story in splits.train)
    if kind == "picture":
        links = near_duplicate_pictures(inspect([frame.image for _, frame in frames]))
    else:
        links = near_duplicate_texts([frame.text for _, frame in frames])
    by_story: dict[str, Twin] = {}
    for a, b in sorted(links, key=lambda pair: pair[1]):
        if a < first_test <= b:
            by_story.setdefault(frames[b][0].id, Twin(kind, *frames[b], *frames[a]))
    return list(by_story.values())


def split_report(
    stories: Sequence[Story], features: Features | None = None, seeds: Sequence[int] = range(5), context: int = 4
) -> pd.DataFrame:
    """One row per way to split and seed: how many test frames and stories leak.

    With features also ``copy_last_*`` and ``nearest_*``, recall@10 in percent of two predictors that learned nothing.
    Copying the last frame cannot profit from a leak: where it changes, the test set itself became easier or harder. The
    frame that followed the most similar training window can.
    """
    rows = []
    for way, title in WAYS.items():
        for seed in seeds:
            splits = split_stories(stories, seed=seed, by=way)
            row = {"split": title, "seed": seed, **leakage(splits)}
            rows.append(row | (baseline_recall(splits, features, context) if features is not None else {}))
    return pd.DataFrame(rows)


def baseline_recall(splits: Splits, features: Features, context: int = 4, k: int = 10) -> dict[str, float]:
    """Recall@k in percent of copy-last and of the nearest training window, for the next picture and the next text.

    As in evaluation, vectors are centred on the training frames, and candidates are all test frames but the window's
    own context and exact copies of its target. Raises ValueError if there is no window.
    """
    import torch
    import torch.nn.functional as F

    from storylib.metrics.retrieval import Candidates

    train_rows, test_rows = features.rows(splits.train), features.rows(splits.test)
    train = features.window_rows(list(windows(splits.train, context)))  # (V, K + 1)
    test = features.window_rows(list(windows(splits.test, context)))  # (W, K + 1)
    if not len(train) or not len(test):
        raise ValueError(f"no test or training story has {context + 1} frames in a row, so there is nothing to score")
    sides = {"image": (features.image_vectors, features.image_of), "text": (features.text_vectors, features.text_of)}
    spaces = {side: _centred(vectors, index, train_rows) for side, (vectors, index) in sides.items()}
    similarity = torch.zeros(len(test), len(train))
    for space in spaces.values():
        test_mean, train_mean = (F.normalize(space[rows[:, :-1]].mean(1), dim=-1) for rows in (test, train))
        similarity += test_mean @ train_mean.T
    predictions = {"copy_last": test[:, -2], "nearest": train[similarity.argmax(1).numpy(), -1]}
    column = {row: i for i, row in enumerate(test_rows.tolist())}
    columns = [[column[row] for row in window] for window in test.tolist()]
    recall = {}
    for side, space in spaces.items():
        ids = sides[side][1][test_rows].tolist()
        candidates = Candidates.of([c[-1] for c in columns], ids, [c[:-1] for c in columns])
        for name, prediction in predictions.items():
            hits = candidates.ranks(space[prediction] @ space[test_rows].T) <= k
            recall[f"{name}_{side}"] = 100 * float(hits.float().mean())
    return recall


def _centred(vectors: np.ndarray, index: np.ndarray, train: np.ndarray) -> Tensor:
    """(F, D) unit vectors of all frames, centred on the training frames."""
    import torch.nn.functional as F

    from storylib.data.features import Rows

    frames = Rows(vectors, index)[:]
    return F.normalize(frames - frames[train].mean(0), dim=-1)


def trained_record() -> dict[str, Any] | None:
    """``results/leaks.json``, from ``benchmarks/leaks.py`` on real stories; None if only the library is installed."""
    path = project_root() / "results" / "leaks.json"
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
