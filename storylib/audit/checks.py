"""A checklist for any model that writes the next text: six flaws that make a score look better than the model is. ::

    check(predictor, windows)

A predictor has ``predict(images, texts)``, as ``Storyteller`` does: K pictures and their texts in, a text or an object
with a ``text`` out. An evaluation that may read more is passed as a function ``f(windows) -> texts`` or an object with
``write(windows)``; whether it reads what it must not is then one of the checks. Optional members allow more checks::

    targets(windows)            the reference texts, if not the text of the next frame
    inputs(windows)             the texts that it reads, if not those of the context; a list for each window
    write_freely(windows)       its texts under free-running decoding, if its score uses another decoding
    token_nats(window, texts)   per text, minus the log-probability of each of its tokens, the closing one included
    trained_on                  its training stories (or pass them to ``check``)
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from storylib.data.duplicates import frame_clusters
from storylib.data.pictures import picture_digest
from storylib.data.types import Story, Window
from storylib.data.windows import other_story
from storylib.metrics.intervals import Difference, paired_difference, story_sums
from storylib.metrics.text import rouge_l, words

VERDICTS = {True: "pass", False: "FAIL", None: "not tested"}


@dataclass(frozen=True)
class Check:
    """One question of the checklist and its answer. passed: None if it could not be tested."""

    question: str
    passed: bool | None
    number: float | None
    finding: str


@dataclass(frozen=True)
class Checklist:
    """The answers; shown as a table in a notebook."""

    checks: tuple[Check, ...]
    windows: int

    @property
    def failed(self) -> list[str]:
        """The questions of the checks that failed."""
        return [check.question for check in self.checks if check.passed is False]

    @property
    def verdict(self) -> str:
        """The result in one line."""
        untested = sum(check.passed is None for check in self.checks)
        return f"{len(self.failed)} of {len(self.checks)} checks failed, {untested} not tested; {self.windows} windows"

    @property
    def table(self) -> pd.DataFrame:
        """One row per check, by question."""
        columns = ["question", "verdict", "number", "finding"]
        rows = [(check.question, VERDICTS[check.passed], check.number, check.finding) for check in self.checks]
        return pd.DataFrame(rows, columns=columns).set_index("question")

    def __repr__(self) -> str:
        return f"{self.table.to_string()}\n{self.verdict}"

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            table = self.table[["verdict", "finding"]].to_html(escape=True)
        return f"{table}<p>{html.escape(self.verdict)}</p>"


def check(
    predictor: Any,
    windows: Iterable[Window],
    trained_on: Sequence[Story] | None = None,
    limit: int = 100,
    seed: int = 0,
) -> Checklist:
    """Look for six flaws of evaluation in any predictor (see the module for what it may be).

    windows: held-out ones, of at least two stories; at most ``limit`` of them, drawn with ``seed``, are used.
    trained_on: the training stories of the predictor. Raises ValueError for windows that cannot be used.
    """
    windows = _sample(list(windows), limit, seed)
    write, reads_windows = _writer(predictor)
    if trained_on is None:
        trained_on = getattr(predictor, "trained_on", None)
    stories, next_texts = [w.story.id for w in windows], [w.target.text for w in windows]
    others = [windows[i] for i in other_story(torch.from_numpy(pd.factorize(np.array(stories))[0])).tolist()]
    targets = list(predictor.targets(windows)) if hasattr(predictor, "targets") else next_texts
    inputs = [[frame.text for frame in w.context] for w in windows]
    if hasattr(predictor, "inputs"):
        inputs = predictor.inputs(windows)
    texts = write(windows)
    other_future = texts  # a predictor that gets the context only cannot read the future
    if reads_windows:
        other_future = write([_joined(w, other) for w, other in zip(windows, others, strict=True)])
    free = list(predictor.write_freely(windows)) if hasattr(predictor, "write_freely") else other_future
    other_context = write([_joined(other, w) for w, other in zip(windows, others, strict=True)])
    checks = (
        _constant_target(targets),
        _reads_its_input(*_rouge_fall(texts, other_context, targets, stories)),
        _free_running(*_rouge_fall(texts, free, targets, stories)),
        _shifted(predictor, windows),
        _target_in_input(inputs, zip(targets, next_texts, strict=True), texts, other_future),
        _seen_in_training(windows, trained_on),
    )
    return Checklist(checks, len(windows))


def _writer(predictor: Any) -> tuple[Callable[[Sequence[Window]], list[str]], bool]:
    """A function from windows to texts, and whether the predictor gets whole windows rather than their contexts."""
    if not (hasattr(predictor, "write") or hasattr(predictor, "predict") or callable(predictor)):
        raise TypeError(
            f"{type(predictor).__name__} is not a predictor: give it predict(images, texts) or write(windows), "
            "or pass a function of the windows that returns their texts"
        )
    reads_windows = hasattr(predictor, "write") or not hasattr(predictor, "predict")

    def predict(window: Window) -> str:
        prediction = predictor.predict([f.image for f in window.context], [f.text for f in window.context])
        return prediction if isinstance(prediction, str) else prediction.text or ""

    def write(windows: Sequence[Window]) -> list[str]:
        if reads_windows:
            texts = list(getattr(predictor, "write", predictor)(windows))
        else:
            texts = [predict(window) for window in windows]
        if len(texts) != len(windows) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"the predictor must return as many texts as windows, {len(windows)}, not {len(texts)}")
        return texts

    return write, reads_windows


def _sample(windows: list[Window], limit: int, seed: int) -> list[Window]:
    sample = np.sort(np.random.default_rng(seed).permutation(len(windows))[:limit])
    selected = [windows[i] for i in sample]
    if len({w.story.id for w in selected}) < 2:
        raise ValueError(
            f"the {len(selected)} windows drawn are not of at least two stories, between which contexts are swapped; "
            "give windows of more stories or raise limit"
        )
    return selected


def _joined(past: Window, future: Window) -> Window:
    """A window's story up to its context, then the frames that follow the context of another window."""
    frames = past.story.frames[: past.start + past.length] + future.story.frames[future.start + future.length :]
    return replace(past, story=replace(past.story, frames=frames))


def _constant_target(targets: Sequence[str]) -> Check:
    text, count = Counter(targets).most_common(1)[0]
    share = count / len(targets)
    excerpt = text if len(text) <= 40 else text[:39] + "…"
    finding = f"the most common target ({excerpt!r}) is {share:.0%} of all, the score of always predicting it"
    return Check("Is the target constant?", share <= 0.5, share, finding)


def _rouge_fall(
    before: Sequence[str], after: Sequence[str], targets: Sequence[str], stories: Sequence[str]
) -> tuple[float, float, Difference]:
    """Mean ROUGE-L of two sets of texts of the same windows, and their difference with its interval over stories."""
    scores = [rouge_l(texts, targets) for texts in (before, after)]
    ids, one_seed = np.array(stories), np.zeros(len(stories))
    sums = [story_sums(np.stack([score, np.ones_like(score)], 1), ids, one_seed) for score in scores]
    difference = paired_difference(sums[0], sums[1], lambda s: s[..., 0] / s[..., 1])
    return float(np.mean(scores[0])), float(np.mean(scores[1])), difference


def _reads_its_input(before: float, after: float, fall: Difference) -> Check:
    finding = (
        f"ROUGE-L {before:.3f}; with the context of another story {after:.3f}: "
        f"a fall of {fall.value:.3f} (95 % interval {fall.low:.3f} to {fall.high:.3f})"
    )
    return Check("Does the score fall when the input is shuffled?", fall.low > 0, fall.value, finding)


def _free_running(before: float, after: float, fall: Difference) -> Check:
    finding = f"ROUGE-L {before:.3f} as scored; {after:.3f} when the true text cannot be read"
    return Check("Does the score survive free running?", fall.low <= 0, fall.value, finding)


def _target_in_input(
    inputs: Sequence[Sequence[str]],
    targets: Iterable[tuple[str, str]],
    texts: Sequence[str],
    other_future: Sequence[str],
) -> Check:
    """Two tests: look for the target's words in the input, and see whether another future changes the prediction."""
    contained = []
    for input_texts, pair in zip(inputs, targets, strict=True):
        contained.append(any(_contains(input_texts, target) for target in pair))
    copied = float(np.mean(contained))
    changed = float(np.mean([a != b for a, b in zip(texts, other_future, strict=True)]))
    finding = f"the input contains the target in {copied:.0%} of windows; another future changes {changed:.0%} of texts"
    question = "Is everything of the target kept out of the input?"
    return Check(question, changed == 0 and copied <= 0.05, max(changed, copied), finding)


def _contains(texts: Sequence[str], target: str, minimum: int = 12) -> bool:
    """Whether the letters and digits of a target, if it has at least ``minimum``, occur in some texts in order."""
    source, wanted = ("".join(c for c in text.lower() if c.isalnum()) for text in (" ".join(texts), target))
    return len(wanted) >= minimum and wanted in source


def _shifted(predictor: Any, windows: Sequence[Window], most: int = 200) -> Check:
    """Texts that differ in their last word exclude each other, so their probabilities add up to at most 1.

    A decoder that reads the very token that it predicts finds each of them nearly certain.
    """
    question = "Is the decoder shifted?"
    if not hasattr(predictor, "token_nats"):
        return Check(question, None, None, "give the predictor token_nats(window, texts) to have this tested")
    common = Counter(word for w in windows for frame in (*w.context, w.target) for word in words(frame.text))
    endings: list[str] = []
    for word, _ in common.most_common():
        is_new = not any(word.startswith(ending) or ending.startswith(word) for ending in endings)
        if len(endings) < most and len(word) > 2 and is_new:
            endings.append(word)
    totals = []
    for window in windows[:4]:
        start = " ".join(window.target.text.split()[:3])
        nats = predictor.token_nats(window, [start, *(f"{start} {ending}" for ending in endings)])
        # Without its last token, which may be the closing one: this may miss a flaw but raises no false alarm.
        prefix = np.asarray(nats[0], float)[:-1].sum()
        totals.append(sum(float(np.exp(prefix - np.asarray(row, float).sum())) for row in nats[1:]))
    total = max(totals)
    finding = f"the probabilities of {len(endings)} different next words add up to {total:.2f}; the maximum is 1"
    return Check(question, total <= 1.01, total, finding)


def _seen_in_training(windows: Sequence[Window], trained_on: Sequence[Story] | None) -> Check:
    question = "Are the test frames absent from the training set?"
    if trained_on is None:
        return Check(question, None, None, "give check(..., trained_on=stories) to have this tested")
    tested = list({w.story.id: w.story for w in windows}.values())
    clusters = frame_clusters([*(replace(story, id=f"train {story.id}") for story in trained_on), *tested])
    count = sum(len(story.frames) for story in trained_on)
    near = np.isin(clusters[count:], clusters[:count])
    train_pictures = {picture_digest(frame.image) for story in trained_on for frame in story.frames}
    same = [picture_digest(frame.image) in train_pictures for story in tested for frame in story.frames]
    share = float(np.mean(near | np.array(same)))
    finding = f"{share:.1%} of the frames of the tested stories have a near-duplicate among the training frames"
    return Check(question, share == 0, share, finding)
