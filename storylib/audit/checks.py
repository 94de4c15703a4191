"""A checklist for any model that writes the next text: flaws that make a score look better than the model is. ::

    check(predictor, windows)

A predictor has ``predict(images, texts)``, as ``Storyteller`` does: K pictures and their texts in, a text or an object
with a ``text`` out. An evaluation that may read more is a function of windows that returns their texts. It may have
``targets(windows)``, the reference texts where they are not the next frames' own, and ``inputs(windows)``, a list
of the texts that it reads for each window. The score is ROUGE-L, 0 to 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import nan, prod
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from storylib.data.splits import Splits, seen_frames
from storylib.data.types import Story, Window
from storylib.data.types import windows as windows_of
from storylib.data.windows import other_story
from storylib.metrics.intervals import UNBOUNDED, interval, story_sums
from storylib.metrics.text import rouge_l

NEAR_PERFECT = 0.99  # a higher mean score asks for an explanation


class Answer(NamedTuple):
    """The answer to one question, with the number that it rests on and that number's 95 % interval over stories."""

    question: str
    verdict: str  # "pass", "FAIL" or "not tested"
    number: float = nan
    low: float = nan
    high: float = nan
    measures: str = ""
    to_test: str = ""  # what to pass where the question was not tested


def check(
    predictor: Any, windows: Iterable[Window], trained_on: Sequence[Story] = (), ceiling: float | None = None
) -> pd.DataFrame:
    """Look for flaws of evaluation in any predictor: one row per question, the fields of ``Answer``.

    windows: held-out ones; all are used. trained_on: training stories of the predictor. ceiling: the highest mean score
    that is possible on these windows, if it is known. ``to_test`` says what to pass where a question could not be
    tested. Raises ValueError if the predictor leaves out a text.
    """
    windows = list(windows)
    stories = np.array([window.story.id for window in windows])
    texts, targets = _write(predictor, windows), _targets(predictor, windows)
    shuffled, other_future = _swapped(predictor, windows, texts)
    score, changed = rouge_l(texts, targets), np.array(texts) != np.array(other_future)
    constant = np.array(targets) == Counter(targets).most_common(1)[0][0]
    several = "" if len(set(stories)) > 1 else "windows of two or more stories"
    inputs = "" if hasattr(predictor, "predict") or hasattr(predictor, "inputs") else "a predictor with inputs(windows)"

    fall, question = score - rouge_l(shuffled, targets), "Does the score need the context?"
    answers = [
        _answer("Is the target more than a constant?", constant, stories, "share of the most common target", 0.5),
        _answer(question, fall, stories, "fall of ROUGE-L when shuffled", to_test=several),
    ]
    for name, baseline in _simple_baselines(predictor, windows, trained_on).items():
        gain = score - rouge_l(baseline, targets)
        answers.append(_answer(f"Does it beat {name}?", gain, stories, "gain of ROUGE-L", to_test=several))
    copied, question = _copied(predictor, windows, targets), "Is the target kept out of the input?"
    answers += [
        _possible(score, stories, ceiling),
        _answer("Is the next frame hidden?", changed, stories, "share of texts that another one changes", 0, several),
        _answer(question, copied, stories, "share of inputs that contain it", 0.05, inputs),
        _new_frames(windows, trained_on),
    ]
    return pd.DataFrame(answers).set_index("question")


def check_reported(scores: Mapping[str, float]) -> pd.DataFrame:
    """Two checks on reported scores (0 to 1) for which no texts are available: one row each, like ``check``.

    Where METEOR is 1, texts differ only by synonyms and inflections in place, and ROUGE-L is the share of words that
    agree. One other word breaks at most n n-grams of length n: BLEU-4 is as high, unless ROUGE-L ignores inflections.
    """
    highest, name = max((score, name) for name, score in scores.items())
    verdict = "FAIL" if highest > NEAR_PERFECT else "pass"
    perfect = Answer("Is every score short of perfect?", verdict, highest, measures=f"the highest, {name}")
    agree = Answer("Do the scores agree?", "not tested", to_test="the texts, to check(predictor, windows)")
    if scores.get("meteor", 0) > NEAR_PERFECT:
        least = prod(max(0.0, 1 - n * (1 - scores["rouge_l"])) for n in range(1, 5)) ** 0.25
        verdict, measures = "FAIL" if scores["bleu"] < least else "pass", f"BLEU, at least {least:.2f} by the others"
        agree = Answer(agree.question, verdict, scores["bleu"], measures=measures)
    return pd.DataFrame([perfect, agree]).set_index("question")


def _answer(
    question: str, values: np.ndarray, stories: np.ndarray, measures: str, most: float | None = None, to_test: str = ""
) -> Answer:
    """Whether a mean is at most ``most``; without it, whether a mean gain is above zero, and not by chance."""
    if to_test:
        return Answer(question, "not tested", measures=measures, to_test=to_test)
    sums = story_sums(np.stack([values, np.ones(len(values))], 1), stories, np.zeros(len(values)))
    bounds = UNBOUNDED if most is None else (0.0, 1.0)
    value, low, high = interval(sums, lambda s: s[..., 0] / s[..., 1], bounds)
    passes = low > 0 if most is None else value <= most
    return Answer(question, "pass" if passes else "FAIL", value, max(-1.0, low), min(1.0, high), measures)


def _possible(score: np.ndarray, stories: np.ndarray, ceiling: float | None) -> Answer:
    """Whether the score is within the ceiling; without one, a nearly perfect score fails and no other passes."""
    most = NEAR_PERFECT if ceiling is None else ceiling
    answer = _answer("Is the score possible?", score, stories, f"ROUGE-L, at most {most:.2f}", most)
    if ceiling is not None or answer.verdict == "FAIL":
        return answer
    return answer._replace(verdict="not tested", to_test="ceiling, the highest possible ROUGE-L")


def _new_frames(windows: Sequence[Window], trained_on: Sequence[Story]) -> Answer:
    seen = seen_frames(Splits([*trained_on], [], [*{w.story.id: w.story for w in windows}.values()], groups={}))
    flags, stories = seen["leaked"].to_numpy(), seen["story"].to_numpy()
    to_test = "" if trained_on else "trained_on, the training stories"
    return _answer("Are the frames new?", flags, stories, "share with a near-duplicate in training", 0, to_test)


def _write(predictor: Any, windows: Sequence[Window]) -> list[str]:
    """The predictor's text for each window."""
    if hasattr(predictor, "predict"):
        predictions = [predictor.predict([f.image for f in w.context], [f.text for f in w.context]) for w in windows]
        texts = [getattr(prediction, "text", prediction) or "" for prediction in predictions]
    else:
        texts = list(predictor(windows))
    if len(texts) != len(windows):
        raise ValueError(f"the predictor must return as many texts as windows, {len(windows)}, not {len(texts)}")
    return texts


def _targets(predictor: Any, windows: Sequence[Window]) -> list[str]:
    return list(predictor.targets(windows)) if hasattr(predictor, "targets") else [w.target.text for w in windows]


def _swapped(predictor: Any, windows: Sequence[Window], texts: list[str]) -> tuple[list[str], list[str]]:
    """What the predictor writes after the context of another story, and where the frames that follow are another's."""
    other = other_story(torch.from_numpy(pd.factorize(np.array([window.story.id for window in windows]))[0])).tolist()
    if hasattr(predictor, "predict"):  # then a text depends on the context alone
        return [texts[i] for i in other], texts
    pairs = [(window, windows[i]) for window, i in zip(windows, other, strict=True)]
    return _write(predictor, [_joined(b, a) for a, b in pairs]), _write(predictor, [_joined(a, b) for a, b in pairs])


def _joined(past: Window, future: Window) -> Window:
    """The window of a story up to its context, then the frames that follow the context of another window."""
    frames = past.story.frames[: past.start + past.length] + future.story.frames[future.start + future.length :]
    return replace(past, story=replace(past.story, frames=frames))


def _simple_baselines(predictor: Any, windows: Sequence[Window], trained_on: Sequence[Story]) -> dict[str, list[str]]:
    """The texts of baselines that learned nothing, in the form of the predictor's targets."""
    # A window whose target is the last frame of the context; its first frame stands twice.
    stories = [replace(window.story, frames=(window.context[0], *window.context)) for window in windows]
    last = _targets(predictor, [Window(story, 0, len(story.frames) - 1) for story in stories])
    training = list(windows_of(trained_on, windows[0].length))
    constant = Counter(_targets(predictor, training or windows)).most_common(1)[0][0]
    return {
        "copying the last text": last,
        "the last text in reverse": [" ".join(reversed(text.split())) for text in last],
        "a constant text": [constant] * len(windows),
    }


def _copied(predictor: Any, windows: Sequence[Window], targets: Sequence[str]) -> np.ndarray:
    """(W,) whether the target or the text of the next frame is in the input: its letters and digits, if 12 or more."""
    inputs = (
        predictor.inputs(windows) if hasattr(predictor, "inputs") else [[f.text for f in w.context] for w in windows]
    )
    copied = []
    for window, target, texts in zip(windows, targets, inputs, strict=True):
        parts = [" ".join(texts).lower(), target.lower(), window.target.text.lower()]
        source, *wanted = ("".join(filter(str.isalnum, part)) for part in parts)
        copied.append(any(len(text) >= 12 and text in source for text in wanted))
    return np.array(copied)
