"""A checklist for any model that says what comes next: six flaws that make a score look like more than it is.

storylib.audit.check(predictor, windows)

A predictor is whatever has ``predict(images, texts)``, as a storylib run does: K pictures and their texts in, an
answer with a ``text`` (or the text itself) out. An evaluation that reads more than that is passed as a function of the
windows, ``f(windows) -> texts``, or an object with ``write(windows)``; it is then tested whether it reads what it must
not. More can be tested if the predictor also has

    targets(windows)            what its score is against, if not the text of the next frame
    inputs(windows)             the texts that it is given, if not those of the context; a list for each window
    write_freely(windows)       what it writes when its own words are all that it is fed with, if its score is not that
    token_nats(window, texts)   per text, minus the log-probability of each of its tokens, the closing one included
    trained_on                  the stories that it was trained on (or give them to ``check``)
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from storylib import metrics
from storylib.pictures import picture_digest
from storylib.statistics import Difference, paired_difference, story_sums
from storylib.stories import Story, Window, page_clusters

MARKS = {True: "pass", False: "FAIL", None: "not tested"}
COLOURS = {True: "#009E73", False: "#D55E00", None: "#767676"}


@dataclass(frozen=True)
class Item:
    """One question of the checklist and its answer. passed: None if it could not be tested."""

    question: str
    passed: bool | None
    number: float | None
    finding: str


@dataclass(frozen=True)
class Checklist:
    """The answers; shows itself as a table. ``list.table`` is a DataFrame, ``list.passed`` whether nothing failed."""

    items: tuple[Item, ...]
    windows: int

    @property
    def passed(self) -> bool:
        return all(item.passed is not False for item in self.items)

    @property
    def failed(self) -> list[str]:
        """The questions that were answered badly."""
        return [item.question for item in self.items if item.passed is False]

    @property
    def table(self) -> pd.DataFrame:
        rows = [{"question": i.question, "verdict": MARKS[i.passed], "number": i.number, "finding": i.finding}
                for i in self.items]  # fmt: skip
        return pd.DataFrame(rows).set_index("question")

    def __getitem__(self, question: str) -> Item:
        """An item by a word of its question."""
        found = [i for i in self.items if question.lower() in i.question.lower()]
        if len(found) != 1:
            raise KeyError(f"{question!r} is in {len(found)} questions: {', '.join(i.question for i in self.items)}")
        return found[0]

    def __repr__(self) -> str:
        lines = [f"{MARKS[i.passed]:>10}  {i.question}\n            {i.finding}" for i in self.items]
        return "\n".join([*lines, self.verdict])

    def _repr_html_(self) -> str:
        left = "text-align:left;white-space:normal"
        rows = [
            f'<tr><td style="{left};border-left:6px solid {COLOURS[i.passed]}">'
            f"<b>{MARKS[i.passed]}</b></td>"
            f'<td style="{left}">{html.escape(i.question)}</td><td style="{left}">{html.escape(i.finding)}</td></tr>'
            for i in self.items
        ]
        head = "<tr><th></th><th>question</th><th>finding</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table><p>{html.escape(self.verdict)}</p>"

    @property
    def verdict(self) -> str:
        failed, untested = (sum(i.passed is p for i in self.items) for p in (False, None))
        text = "No flaw found" if not failed else f"{failed} of {len(self.items)} checks failed"
        return f"{text} on {self.windows} windows{f'; {untested} not tested' if untested else ''}."


def check(
    predictor: Any,
    windows: Iterable[Window],
    trained_on: Sequence[Story] | None = None,
    limit: int = 100,
    seed: int = 0,
) -> Checklist:
    """Look for six flaws of evaluation in any predictor (see the module for what it may be).

    windows: held-out ones, of two stories or more. At most ``limit`` of them, drawn with ``seed``, are used.
    trained_on: the stories that the predictor was trained on. Raises ValueError for windows that cannot be used.
    """
    chosen = _draw(list(windows), limit, seed)
    asked = _Asked(predictor)
    trained_on = trained_on if trained_on is not None else getattr(predictor, "trained_on", None)
    others = _other_stories(chosen)
    stories, truth = [w.story.id for w in chosen], [w.target.text for w in chosen]
    targets = list(predictor.targets(chosen)) if hasattr(predictor, "targets") else truth
    written = asked.write(chosen)
    hidden = [_with_future(w, o) for w, o in zip(chosen, others, strict=True)]
    unseen = asked.write(hidden) if asked.sees_windows else written
    free = list(predictor.write_freely(chosen)) if hasattr(predictor, "write_freely") else unseen
    given = predictor.inputs(chosen) if hasattr(predictor, "inputs") else [[f.text for f in w.context] for w in chosen]
    # The context of another story, the future still its own.
    swapped = asked.write([_with_future(o, w) for w, o in zip(chosen, others, strict=True)])
    return Checklist(
        (
            _constant_target(targets),
            _uses_its_input(written, swapped, targets, stories),
            _free_running(written, free, targets, stories),
            _shifted(predictor, chosen),
            _target_in_input(given, targets, truth, written, unseen),
            _seen_in_training(chosen, trained_on),
        ),
        len(chosen),
    )


class _Asked:
    """One way to ask any predictor."""

    def __init__(self, predictor: Any) -> None:
        self.sees_windows = hasattr(predictor, "write") or not hasattr(predictor, "predict")
        if hasattr(predictor, "write"):
            self._write: Callable[..., Any] = predictor.write
        elif hasattr(predictor, "predict"):
            self._write = lambda windows: [self._one(predictor, w) for w in windows]
        elif callable(predictor):
            self._write = predictor
        else:
            raise TypeError(
                f"{type(predictor).__name__} cannot be asked: give it predict(images, texts) or write(windows), "
                "or pass a function of the windows that returns their texts"
            )

    @staticmethod
    def _one(predictor: Any, window: Window) -> str:
        answer = predictor.predict([f.image for f in window.context], [f.text for f in window.context])
        return answer if isinstance(answer, str) else answer.text or ""

    def write(self, windows: Sequence[Window]) -> list[str]:
        texts = list(self._write(windows))
        if len(texts) != len(windows) or not all(isinstance(t, str) for t in texts):
            raise ValueError(
                f"the predictor must answer {len(windows)} windows with as many texts; it gave {len(texts)}"
            )
        return texts


def _draw(windows: list[Window], limit: int, seed: int) -> list[Window]:
    if len({w.story.id for w in windows}) < 2:
        raise ValueError("a check needs windows of at least two stories: contexts are swapped between stories")
    picked = np.sort(np.random.default_rng(seed).permutation(len(windows))[:limit])
    chosen = [windows[i] for i in picked]
    if len({w.story.id for w in chosen}) < 2:
        raise ValueError(f"the {limit} windows that were drawn are all of one story: raise limit")
    return chosen


def _other_stories(windows: Sequence[Window]) -> list[Window]:
    """For each window one of another story, about half-way round."""
    size = len(windows)
    found = []
    for i, window in enumerate(windows):
        turns = (windows[(i + size // 2 + j) % size] for j in range(size))
        found.append(next(w for w in turns if w.story.id != window.story.id))
    return found


def _with_future(window: Window, other: Window) -> Window:
    """The window's story up to its context, then all that follows in another."""
    frames = window.story.frames[: window.start + window.length] + other.story.frames[other.start + other.length :]
    return replace(window, story=replace(window.story, frames=frames))


def _constant_target(targets: Sequence[str]) -> Item:
    text, count = Counter(targets).most_common(1)[0]
    share = count / len(targets)
    shown = text if len(text) <= 40 else text[:39] + "…"
    finding = f"the most common target ({shown!r}) is {share:.0%} of all; always saying it would score as much"
    return Item("Is the target constant?", share <= 0.5, share, finding)


def _fall(before: Sequence[str], after: Sequence[str], targets: Sequence[str], stories: Sequence[str]) -> Difference:
    """How much ROUGE-L falls from one set of answers to another, with its interval over stories."""
    scores = [metrics.rouge_l(texts, targets) for texts in (before, after)]
    sums = [story_sums(np.stack([s, np.ones_like(s)], 1), np.array(stories), np.zeros(len(s))) for s in scores]
    return paired_difference(sums[0], sums[1], lambda s: s[..., 0] / s[..., 1])


def _score(written: Sequence[str], targets: Sequence[str]) -> str:
    return f"{np.mean(metrics.rouge_l(written, targets)):.3f}"


def _uses_its_input(
    written: Sequence[str], swapped: Sequence[str], targets: Sequence[str], stories: Sequence[str]
) -> Item:
    fall = _fall(written, swapped, targets, stories)
    finding = (
        f"ROUGE-L {_score(written, targets)}; with the context of another story {_score(swapped, targets)}: "
        f"a fall of {fall.value:.3f} (95 % interval {fall.low:.3f} to {fall.high:.3f})"
    )
    return Item("Does the score fall when the input is shuffled?", fall.low > 0, fall.value, finding)


def _free_running(
    written: Sequence[str], freely: Sequence[str], targets: Sequence[str], stories: Sequence[str]
) -> Item:
    fall = _fall(written, freely, targets, stories)
    finding = f"ROUGE-L {_score(written, targets)} as scored; {_score(freely, targets)} without the true text at hand"
    return Item("Does the score survive free running?", fall.low <= 0, fall.value, finding)


def _target_in_input(
    given: Sequence[Sequence[str]],
    targets: Sequence[str],
    truth: Sequence[str],
    written: Sequence[str],
    unseen: Sequence[str],
) -> Item:
    """Two ways to find it: look for the words, and change the future and see whether the answer changes."""
    changed = float(np.mean([a != b for a, b in zip(written, unseen, strict=True)]))
    copied = float(np.mean([any(_holds(texts, t) for t in both)
                            for texts, *both in zip(given, targets, truth, strict=True)]))  # fmt: skip
    finding = f"its input holds the target's words in {copied:.0%} of windows; another future changes {changed:.0%}"
    question = "Is everything of the target kept out of the input?"
    return Item(question, changed == 0 and copied <= 0.05, max(changed, copied), f"{finding} of its answers")


def _holds(texts: Sequence[str], target: str, least: int = 12) -> bool:
    """Are the letters of a target, if it has a few, anywhere in some texts? Spaces, case and signs do not count."""
    letters = ["".join(c for c in t.lower() if c.isalnum()) for t in (" ".join(texts), target)]
    return len(letters[1]) >= least and letters[1] in letters[0]


def _shifted(predictor: Any, windows: Sequence[Window], most: int = 200) -> Item:
    """Texts that differ in their last word exclude each other, so their chances cannot add up to more than 1.

    A decoder that is given the very token that it is to say finds each of them nearly certain.
    """
    question = "Is the decoder shifted?"
    if not hasattr(predictor, "token_nats"):
        return Item(question, None, None, "give the predictor token_nats(window, texts) to have this tested")
    common = Counter(word for w in windows for f in (*w.context, w.target) for word in metrics.words(f.text))
    endings: list[str] = []
    for word, _ in common.most_common():
        if len(endings) < most and len(word) > 2 and not any(word.startswith(e) or e.startswith(word) for e in endings):
            endings.append(word)
    masses = []
    for window in windows[:4]:
        start = " ".join(window.target.text.split()[:3])
        begun, *ended = (
            np.asarray(row, float) for row in predictor.token_nats(window, [start, *(f"{start} {e}" for e in endings)])
        )
        # Without the last token, which may be the closing one: rather too likely a beginning than a false alarm.
        masses.append(sum(float(np.exp(begun[:-1].sum() - row.sum())) for row in ended))
    mass = max(masses)
    finding = f"the chances of {len(endings)} different next words add up to {mass:.2f}; more than 1 is impossible"
    return Item(question, mass <= 1.01, mass, finding)


def _seen_in_training(windows: Sequence[Window], trained_on: Sequence[Story] | None) -> Item:
    question = "Are the test pages absent from the training set?"
    if trained_on is None:
        return Item(question, None, None, "give check(..., trained_on=stories) to have this tested")
    tested = list({w.story.id: w.story for w in windows}.values())
    stories = [*(replace(s, id=f"train {s.id}") for s in trained_on), *tested]
    clusters = page_clusters(stories)
    start = sum(len(s.frames) for s in trained_on)
    seen = np.isin(clusters[start:], clusters[:start])
    digests = {picture_digest(f.image) for s in trained_on for f in s.frames}
    same = [picture_digest(f.image) in digests for s in tested for f in s.frames]
    share = float(np.mean(seen | np.array(same)))
    finding = f"{share:.1%} of the pages of the tested stories show or say almost the same as a training page"
    return Item(question, share == 0, share, finding)
