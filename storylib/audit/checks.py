"""A checklist for any model that writes the next text: five flaws that make a score look better than the model is. ::

    check(predictor, windows)

A predictor has ``predict(images, texts)``, as ``Storyteller`` does: K pictures and their texts in, a text or an object
with a ``text`` out. An evaluation that may read more is a function of windows that returns their texts. It may have
``targets(windows)``, the reference texts where they are not those of the next frames, and ``inputs(windows)``, a list
of the texts read for each window where they are not those of the context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from storylib.data.duplicates import frame_clusters
from storylib.data.pictures import picture_digest
from storylib.data.types import Story, Window
from storylib.data.windows import other_story
from storylib.metrics.intervals import Difference, paired_difference, story_sums
from storylib.metrics.text import rouge_l


def check(
    predictor: Any, windows: Iterable[Window], trained_on: Sequence[Story] = (), limit: int = 100
) -> pd.DataFrame:
    """Look for five flaws of evaluation in any predictor: one row per question, with its verdict and a number.

    windows: held-out ones; at most ``limit``, drawn at random, are used. Windows of one story leave two questions
    untested, which swap stories. trained_on: training stories of the predictor; without them their check is left out.
    """
    windows = _sample(list(windows), limit)
    stories = np.array([window.story.id for window in windows])
    other = other_story(torch.from_numpy(pd.factorize(stories)[0])).tolist()
    others, texts = [windows[i] for i in other], _write(predictor, windows)
    if hasattr(predictor, "predict"):  # then a text depends on the context alone
        shuffled, other_future = [texts[i] for i in other], texts
    else:
        shuffled, other_future = (_write(predictor, _joined(*pair)) for pair in ((others, windows), (windows, others)))
    next_texts = [window.target.text for window in windows]
    targets = predictor.targets(windows) if hasattr(predictor, "targets") else next_texts
    inputs = [[frame.text for frame in window.context] for window in windows]
    if hasattr(predictor, "inputs"):
        inputs = predictor.inputs(windows)

    constant = Counter(targets).most_common(1)[0][1] / len(targets)
    fall = _rouge_fall(targets, texts, shuffled, stories)
    interval = f"({fall.low:.3f} to {fall.high:.3f})"
    changed = np.mean([text != other for text, other in zip(texts, other_future, strict=True)])
    several = len(set(stories)) > 1
    copied = np.mean([_contained(*row) for row in zip(inputs, targets, next_texts, strict=True)])
    rows = [
        ("Is the target more than a constant?", constant <= 0.5, constant, "share of the most common target"),
        (
            "Does the score need the context?",
            fall.low > 0 if several else None,
            fall.value,
            f"fall of ROUGE-L when shuffled {interval}",
        ),
        (
            "Is the next frame hidden?",
            changed == 0 if several else None,
            changed,
            "share of texts that another next frame changes",
        ),
        ("Is the target kept out of the input?", copied <= 0.05, copied, "share of inputs that contain the target"),
    ]
    if trained_on:
        seen = _share_seen(windows, trained_on)
        rows.append(("Are the frames new?", seen == 0, seen, "share of frames with a near-duplicate in training"))
    table = pd.DataFrame(rows, columns=["question", "verdict", "number", "measures"]).set_index("question")
    names = {True: "pass", False: "FAIL", None: "not tested: one story"}
    return table.assign(verdict=[names[None if verdict is None else bool(verdict)] for verdict in table["verdict"]])


def _sample(windows: list[Window], limit: int) -> list[Window]:
    sample = np.sort(np.random.default_rng(0).permutation(len(windows))[:limit])
    return [windows[i] for i in sample]


def _write(predictor: Any, windows: Sequence[Window]) -> list[str]:
    """The predictor's text for each window."""
    if hasattr(predictor, "predict"):
        contexts = [window.context for window in windows]
        predictions = [predictor.predict([f.image for f in c], [f.text for f in c]) for c in contexts]
        texts = [getattr(prediction, "text", prediction) or "" for prediction in predictions]
    else:
        texts = list(predictor(windows))
    if len(texts) != len(windows):
        raise ValueError(f"the predictor must return as many texts as windows, {len(windows)}, not {len(texts)}")
    return texts


def _joined(pasts: Sequence[Window], futures: Sequence[Window]) -> list[Window]:
    """Windows of stories up to their context, then the frames that follow the context of another window."""
    joined = []
    for past, future in zip(pasts, futures, strict=True):
        frames = past.story.frames[: past.start + past.length] + future.story.frames[future.start + future.length :]
        joined.append(replace(past, story=replace(past.story, frames=frames)))
    return joined


def _rouge_fall(targets: Sequence[str], before: Sequence[str], after: Sequence[str], stories: np.ndarray) -> Difference:
    """By how much mean ROUGE-L falls from one set of texts to another, with its interval over stories."""
    counts, seeds = np.ones(len(stories)), np.zeros(len(stories))
    columns = (np.stack([rouge_l(texts, targets), counts], 1) for texts in (before, after))
    first, second = (story_sums(c, stories, seeds) for c in columns)
    return paired_difference(first, second, lambda s: s[..., 0] / s[..., 1])


def _contained(input_texts: Sequence[str], *targets: str) -> bool:
    """Whether the letters and digits of any target, if 12 or more, occur in the input in order."""
    source, *wanted = ("".join(filter(str.isalnum, text.lower())) for text in (" ".join(input_texts), *targets))
    return any(len(text) >= 12 and text in source for text in wanted)


def _share_seen(windows: Sequence[Window], trained_on: Sequence[Story]) -> float:
    """The share of the frames of the tested stories that have a near-duplicate among the training frames."""
    tested = list({window.story.id: window.story for window in windows}.values())
    clusters = frame_clusters([*(replace(story, id=f"train {story.id}") for story in trained_on), *tested])
    train_pictures = {picture_digest(frame.image) for story in trained_on for frame in story.frames}
    same = [picture_digest(frame.image) in train_pictures for story in tested for frame in story.frames]
    train_clusters, test_clusters = np.split(clusters, [-len(same)])
    return float(np.mean(np.isin(test_clusters, train_clusters) | same))
