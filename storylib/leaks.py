"""What a random split gives away, and what the group split does about it: counts, examples, and a score that moves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.config import project_root
from storylib.features import Features, Rows
from storylib.metrics import ranks
from storylib.pictures import inspect
from storylib.stories import (
    Frame,
    Splits,
    Story,
    leakage,
    near_duplicate_pictures,
    near_duplicate_texts,
    split_stories,
    windows,
)

WAYS = {"story": "random by story", "group": "leak-free groups"}
DIFFERENCES = {
    "random less leak-free": "Under a random split rather than a leak-free one",
    "seen less not seen": "Within the random split, on windows that leaked rather than on the others",
}
SCORES = {"copy_last": "copy-last", "model": "trained model", "gain": "gain of the model"}
WINDOWS = ("page seen in training", "page not seen", "all")  # the page that is to be predicted, in picture or text


@dataclass(frozen=True)
class Twin:
    """A test page and a training page that show or say nearly the same."""

    kind: str  # "picture" or "text"
    test_story: Story
    test_frame: Frame
    train_story: Story
    train_frame: Frame


def twins(splits: Splits, kind: str = "picture") -> list[Twin]:
    """Each test page that has a near-duplicate in training, with one such page; at most one a test story, in order."""
    pages = [(story, frame) for part in (splits.train, splits.test) for story in part for frame in story.frames]
    start = sum(len(story.frames) for story in splits.train)
    if kind == "picture":
        links = near_duplicate_pictures(inspect([frame.image for _, frame in pages]))
    else:
        links = near_duplicate_texts([frame.text for _, frame in pages])
    found: dict[str, Twin] = {}
    for a, b in sorted(links, key=lambda pair: pair[1]):
        if a < start <= b:
            (train_story, train_frame), (test_story, test_frame) = pages[a], pages[b]
            found.setdefault(test_story.id, Twin(kind, test_story, test_frame, train_story, train_frame))
    return list(found.values())


def split_report(
    stories: Sequence[Story], features: Features | None = None, seeds: Sequence[int] = range(5), context: int = 4
) -> pd.DataFrame:
    """One row for each way to split and seed: how many test pages and stories leak, in counts.

    With features also ``copy_last_*`` and ``nearest_*``, recall@10 in percent of two predictors that learned nothing.
    Copying the last frame cannot profit from a leak: where it moves, the test set itself became easier or harder. What
    followed the most similar training window can.
    """
    found = []
    for way, title in WAYS.items():
        for seed in seeds:
            splits = split_stories(stories, seed=seed, by=way)
            row = {"split": title, "seed": seed, **dataclasses.asdict(leakage(splits))}
            found.append(row | (floor_recall(splits, features, context) if features is not None else {}))
    return pd.DataFrame(found)


def floor_recall(splits: Splits, features: Features, context: int = 4, k: int = 10) -> dict[str, float]:
    """Recall@k in percent of copy-last and of the nearest training window, for the next picture and the next text.

    As in evaluation: vectors are centred on the training pages; candidates are all test pages but the window's own
    context and exact copies of its target.
    """
    rows = {name: features.rows(part) for name, part in (("train", splits.train), ("test", splits.test))}
    held = features.window_rows(list(windows(splits.test, context)))  # (W, K + 1)
    seen = features.window_rows(list(windows(splits.train, context)))
    if not len(held) or not len(seen):
        raise ValueError(f"no test or training story has {context + 1} pages in a row, so there is nothing to score")
    column = {row: i for i, row in enumerate(rows["test"].tolist())}
    target = torch.tensor([column[row] for row in held[:, -1].tolist()])  # (W,)
    own = torch.zeros(len(held), len(column), dtype=torch.bool)
    own.scatter_(1, torch.tensor([[column[row] for row in window] for window in held[:, :-1].tolist()]), True)
    sides = (("image", features.image_vectors, features.image_of), ("text", features.text_vectors, features.text_of))
    spaces = {side: _centred(vectors, of, rows["train"]) for side, vectors, of in sides}
    key = {name: [F.normalize(s[w[:, :-1]].mean(1), dim=-1) for s in spaces.values()] for name, w in
           (("held", held), ("seen", seen))}  # fmt: skip
    similarity = sum(a @ b.T for a, b in zip(key["held"], key["seen"], strict=True))
    assert isinstance(similarity, Tensor)
    nearest = seen[similarity.argmax(1).numpy(), -1]  # (W,)
    result = {}
    for side, _, of in sides:
        same = torch.from_numpy(of[held[:, -1]][:, None] == of[rows["test"]])
        for name, guess in (("copy_last", held[:, -2]), ("nearest", nearest)):
            scores = spaces[side][guess] @ spaces[side][rows["test"]].T  # (W, P)
            hit = ranks(scores, target, ~(own | same)) <= k
            result[f"{name}_{side}"] = 100 * float(hit.float().mean())
    return result


def _centred(vectors: np.ndarray, of: np.ndarray, train: np.ndarray) -> Tensor:
    """Unit vectors of all frames, (frames, D), after the training pages' mean was taken off."""
    every = Rows(vectors, of)[:]
    return F.normalize(every - every[train].mean(0), dim=-1)


def trained_effect(record: Mapping[str, Any]) -> pd.DataFrame:
    """Recall@10 with 95 % intervals of copy-last and of a trained model, under both kinds of split.

    record: what ``benchmarks/leaks.py`` found, see ``trained_record``.
    """
    rows = []
    for row in record["rows"]:
        texts = {column: "{:.1f} ({:.1f} to {:.1f})".format(*row[column]) for column in SCORES}
        key = {"next": row["side"], "split": WAYS[row["split"]], "windows whose": row["windows_of"]}
        rows.append(key | {"windows": row["windows"]} | {SCORES[column]: text for column, text in texts.items()})
    return pd.DataFrame(rows).sort_values("next", kind="stable").set_index(["next", "split", "windows whose"])


def trained_record() -> dict[str, Any] | None:
    """``results/leaks.json``, measured once on the real stories; None where only the library is installed."""
    path = project_root() / "results" / "leaks.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def effect_in_words(record: Mapping[str, Any]) -> str:
    """What the differences of the record say, one sentence for each, with its verdict."""
    said = []
    for row in record["differences"]:
        gain, low, high = row["gain"]
        verdict = "no measurable difference" if low <= 0 <= high else "more" if gain > 0 else "less"
        said.append(
            f"{DIFFERENCES[row['difference']]}, a trained model gains {gain:+.1f} points ({low:+.1f} to {high:+.1f}) "
            f"over copy-last for the next {row['side']}: {verdict}."
        )
    return " ".join(said)
