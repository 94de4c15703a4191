"""The metrics of the report, each a function of summed columns, so that one kind of interval serves all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from storylib.metrics.frechet import DIRECTIONS, frechet_distance, moments
from storylib.metrics.intervals import LEVEL, UNBOUNDED, Bounds, Difference, Reduce, story_sums
from storylib.metrics.text import BLEU_COLUMNS, METEOR, bleu_from_counts

MODEL, ORACLE = "model", "best of context"  # predictors: the trained one, and one that knows the answer
VERDICTS = ("better", "worse", "equivalent", "undetermined")
PERCENT, COSINE, POSITIVE = (0.0, 100.0), (-1.0, 1.0), (0.0, np.inf)
PREDICTED, TRUE = ([f"{kind}_feature_{i}" for i in range(DIRECTIONS)] for kind in ("predicted", "true"))

Columns = Callable[[pd.DataFrame], np.ndarray]  # a per-window table to (N, C) columns, which are then summed


@dataclass(frozen=True)
class Metric:
    """How per-window columns become one number: ``columns`` (N, C) of a table are summed, then reduced."""

    name: str
    title: str
    group: str
    columns: Columns
    reduce: Reduce
    higher_is_better: bool = True  # has no meaning where there is an ideal
    digits: int = 1
    ideal: float | None = None  # the best value, if values on both sides of it are worse
    limits: tuple[str, ...] = ()  # predictors that mark the best possible value and so are not there to be beaten
    bounds: Bounds = POSITIVE  # of possible values
    task: str = ""  # of retrieval: what chooses among candidates

    def merit(self, value: float) -> float:
        """Larger is better, for every metric."""
        if self.ideal is not None:
            return -abs(value - self.ideal)
        return value if self.higher_is_better else -value

    def value(self, rows: pd.DataFrame) -> float | None:
        """The metric over some rows; None where the predictor does not have it."""
        try:
            value = float(self.reduce(self.columns(rows).sum(0)))
        except KeyError:
            return None
        return value if np.isfinite(value) else None

    def values(self, groups: Mapping[str, pd.DataFrame]) -> dict[str, float]:
        """The metric of each predictor that has it. groups: the rows of each predictor."""
        values = {name: self.value(rows) for name, rows in groups.items()}
        return {name: value for name, value in values.items() if value is not None}

    def sums(self, rows: pd.DataFrame) -> np.ndarray:
        """(seeds, stories, C) sums of the stories that contribute; rows without a ``seed`` column are one seed."""
        seeds = rows["seed"] if "seed" in rows else pd.Series(0, index=rows.index)
        sums = story_sums(self.columns(rows), rows["story"].to_numpy(), seeds.to_numpy())
        return sums[:, (sums != 0).any((0, 2))]

    def candidates(self, rows: pd.DataFrame) -> float | None:
        """The mean number of candidates of a retrieval; None for other metrics."""
        return round(float(rows[f"{self.task}_candidates"].mean()), 1) if self.task else None

    def label(self, candidates: float | None) -> str:
        """The title, of a retrieval with what it chooses among: its score means nothing without."""
        digits = 0 if candidates and candidates >= 10 else 1
        return self.title if pd.isna(candidates) else f"{self.title}, among {candidates:.{digits}f}"

    def text(self, value: float, sign: str = "") -> str:
        """A value as tables show it. sign: "+" for differences."""
        return f"{value:{sign}.{self.digits}f}"

    def interval_text(self, value: float, low: float, high: float, sign: str = "") -> str:
        """A value with its interval as tables show it; one digit more where the interval would be rounded away."""
        narrow = high - low < 2 * 10**-self.digits
        text = replace(self, digits=self.digits + narrow).text
        return f"{text(value, sign)} ({text(low, sign)} to {text(high, sign)})"

    def competes(self, baseline: str) -> bool:
        """Whether a baseline is there to be beaten: neither the oracle nor one of the limits."""
        return baseline != ORACLE and baseline not in self.limits


def best_baseline(values: Mapping[str, float], metric: Metric) -> str:
    """The baseline that is hardest to beat, of all that compete. values: by baseline."""
    return max(filter(metric.competes, values), key=lambda name: metric.merit(values[name]))


def verdict(metric: Metric, difference: Difference, p_holm: float, matters: float) -> str:
    """The verdict on a primary endpoint, one of VERDICTS, for the first arm of a difference.

    "equivalent": the change is smaller than the smallest that would matter, whether or not it is zero. "better" and
    "worse" need the interval and the test corrected among the primary endpoints. "undetermined": none of these.
    """
    if -matters < difference.low90 and difference.high90 < matters:
        return "equivalent"
    if difference.low <= 0 <= difference.high or p_holm >= LEVEL:
        return "undetermined"
    return "better" if (difference.value > 0) == metric.higher_is_better else "worse"


def smallest_change(change: float | str, baselines: Mapping[str, float]) -> float:
    """The smallest change that matters, in units of the metric. change: a number, or such as "2 % of copy-last"."""
    if not isinstance(change, str):
        return change
    share, baseline = change.split(" % of ")
    return float(share) / 100 * baselines[baseline]


def chance_recall(counts: np.ndarray, k: int) -> np.ndarray:
    """Expected recall@k of a random order of ``counts`` candidates."""
    return np.minimum(k / np.maximum(counts, 1), 1.0)


def chance_reciprocal_rank(counts: np.ndarray) -> np.ndarray:
    """Expected reciprocal rank of a random order: the n-th harmonic number over n; NaN without candidates."""
    harmonic = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, max(int(counts.max()), 1) + 1))])
    return harmonic[counts] / np.maximum(counts, 1)


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return a / b


def _ratio(sums: np.ndarray) -> np.ndarray:
    return _divide(sums[..., 0], sums[..., 1])


def _mean_of(values: np.ndarray) -> np.ndarray:
    return np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1)


def _mean(column: str, title: str, group: str, scale: float = 1.0, higher: bool = True, **fields: Any) -> Metric:
    def columns(table: pd.DataFrame) -> np.ndarray:
        return _mean_of(scale * table[column].to_numpy(float))

    return Metric(column, title, group, columns, _ratio, higher, **{"digits": 3} | fields)


def _uniformity(column: str, title: str) -> Metric:
    def log_ratio(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(_ratio(sums))

    mean = _mean(column, title, "alignment", higher=False, limits=("chance",), bounds=(-np.inf, 0.0))
    return replace(mean, reduce=log_ratio)


def _ranking(task: str, of_rank: Reduce, of_chance: Reduce) -> Columns:
    """A score of each rank. A predictor with candidates but without ranks is chance and gets its expectation."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{task}_{column}"].to_numpy(float) for column in ("rank", "candidates"))
        scores = np.where(np.isnan(rank), of_chance(np.nan_to_num(count).astype(int)), of_rank(rank))
        return _mean_of(np.where(np.isnan(count), np.nan, scores))

    return columns


def _recall(task: str, title: str, group: str, k: int) -> Metric:
    columns = _ranking(task, lambda rank: 100.0 * (rank <= k), lambda count: 100 * chance_recall(count, k))
    return Metric(f"{task}_recall@{k}", f"{title}, recall@{k}", group, columns, _ratio, bounds=PERCENT, task=task)


def _retrieval(task: str, title: str, group: str, *ks: int) -> list[Metric]:
    columns = _ranking(task, lambda rank: 1 / rank, chance_reciprocal_rank)
    mean = Metric(f"{task}_mrr", f"{title}, mean reciprocal rank", group, columns, _ratio, digits=3, task=task)
    return [*(_recall(task, title, group, k) for k in ks), replace(mean, bounds=(0.0, 1.0))]


def _cross_modal(k: int) -> Metric:
    """Recall averaged over both directions, which ask equally often."""
    tasks, title = ("image_to_text", "text_to_image"), "cross-modal retrieval"
    one, two = (_recall(task, title, "cross-modal", k) for task in tasks)
    return replace(one, name=f"cross_modal_recall@{k}", columns=lambda table: one.columns(table) + two.columns(table))


def _quotient(numerator: str, denominator: str, minus: str | None = None, scale: float = 1.0) -> Columns:
    """One column (minus another) and the one that its sum is divided by, of the rows that have the first."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        upper = scale * (table[numerator].to_numpy(float) - (table[minus].to_numpy(float) if minus else 0))
        lower = np.where(np.isnan(upper), 0, table[denominator].to_numpy(float))
        return np.stack([np.nan_to_num(upper), np.nan_to_num(lower)], axis=1)

    return columns


def _variety(n: int) -> Metric:
    names = [f"{whose}_{count}_{n}" for whose in ("predicted", "true") for count in ("kinds", "grams")]

    def columns(table: pd.DataFrame) -> np.ndarray:
        values = table[names].to_numpy(float)
        return np.where(np.isnan(values[:, :1]), 0.0, np.nan_to_num(values))

    def relative(sums: np.ndarray) -> np.ndarray:
        predicted, true = _divide(100 * sums[..., 0], sums[..., 1]), _divide(sums[..., 2], sums[..., 3])
        return _divide(predicted, true)

    return Metric(f"distinct_{n}", f"distinct-{n}, % of the true texts' own", "writing", columns, relative, ideal=100.0)


def _frechet_columns(table: pd.DataFrame) -> np.ndarray:
    predicted, true = (table[names].to_numpy(float) for names in (PREDICTED, TRUE))
    complete = ~np.isnan(predicted).any(1, keepdims=True)
    return np.where(complete, np.concatenate([moments(predicted), moments(true)], axis=1), 0.0)


def _frechet(sums: np.ndarray) -> np.ndarray:
    enough = sums[..., :1] > 1
    predicted, true = np.split(np.where(enough, sums, 1.0), 2, axis=-1)
    return np.where(enough[..., 0], frechet_distance(predicted, true), np.nan)


_METRICS = [
    *_retrieval("image", "next picture", "next frame", 1, 5, 10),
    _mean("image_cosine", "next picture, centred cosine", "next frame", bounds=COSINE),
    *_retrieval("text", "next text", "next frame", 1, 5, 10),
    _mean("text_cosine", "next text, centred cosine", "next frame", bounds=COSINE),
    *_retrieval("frame", "next frame (picture and text)", "next frame", 10),
    *_retrieval("image_in_story", "next picture, in-story", "in-story", 1),
    *_retrieval("text_in_story", "next text, in-story", "in-story", 1),
    *_retrieval("frame_in_story", "next frame, in-story", "in-story", 1),
    _cross_modal(10),
    *_retrieval("image_to_text", "picture to its text", "cross-modal", 10),
    *_retrieval("text_to_image", "text to its picture", "cross-modal", 10),
    *_retrieval("image_to_description", "picture to its description", "cross-modal", 10),
    *_retrieval("described_image_to_text", "described picture to its text", "cross-modal", 10),
    _recall("probe", "picture to its text through a linear probe", "alignment", 10),
    _mean("alignment", "alignment: squared distance of picture and text", "alignment", higher=False),
    _uniformity("image_uniformity", "uniformity of pictures"),
    _uniformity("text_uniformity", "uniformity of texts"),
    _mean("modality_gap", "modality gap", "alignment", higher=False, limits=("chance",)),
    Metric("nats_per_word", "nats per word of the true text", "text",
           _quotient("nll", "scored_words"), _ratio, False, 2),
    Metric("bits_per_character", "bits per character of the true text", "text",
           _quotient("nll", "scored_letters", scale=1 / np.log(2)), _ratio, False, 2),
    Metric("context_gap_per_word", "extra nats per word when the context is another story's", "text",
           _quotient("nll_shuffled", "scored_words", "nll"), _ratio, True, 2, bounds=UNBOUNDED),
    Metric("cross_entropy", "cross-entropy, nats per token", "text", _quotient("nll", "tokens"), _ratio, False, 3),
    Metric("perplexity", "perplexity", "text", _quotient("nll", "tokens"), lambda s: np.exp(_ratio(s)), False),
    Metric("top1", "next-token accuracy, %", "text", _quotient("top1", "tokens", scale=100), _ratio, bounds=PERCENT),
    Metric("top5", "next token among the first five, %", "text",
           _quotient("top5", "tokens", scale=100), _ratio, bounds=PERCENT),
    Metric("context_gap", "extra nats per token when the context is another story's", "text",
           _quotient("nll_shuffled", "tokens", "nll"), _ratio, True, 3, bounds=UNBOUNDED),
    Metric("bleu", "BLEU-4", "writing", lambda t: np.nan_to_num(t[BLEU_COLUMNS].to_numpy(float)),
           bleu_from_counts, True, 2, bounds=PERCENT),
    _mean("chrf", "chrF", "writing", digits=1, bounds=PERCENT),
    _mean("rouge_l", "ROUGE-L", "writing", 100, digits=1, bounds=PERCENT),
    _mean("meteor", METEOR, "writing", 100, digits=1, bounds=PERCENT),
    _mean("cider_d", "CIDEr-D", "writing"),
    _mean("text_similarity", "similarity of meaning (centred cosine)", "writing", bounds=COSINE),
    *(_variety(n) for n in (1, 2)),
    Metric("length_ratio", "length, % of the true texts'", "writing",
           _quotient("words", "true_words", scale=100), _ratio, ideal=100.0),
    _mean("image_l1", "picture, mean absolute error", "picture", higher=False),
    _mean("image_ssim", "picture, structural similarity", "picture", bounds=COSINE),
    _mean("picture_distance", "picture, perceptual distance", "picture", higher=False),
    Metric("sharpness", "picture, sharpness, % of the true pictures'", "picture",
           _quotient("sharpness", "true_sharpness", scale=100), _ratio, ideal=100.0),
    Metric("frechet", "pictures, Fréchet distance", "picture", _frechet_columns, _frechet, False, 2),
    _mean("best_l1", "best of four pictures, mean absolute error", "picture", higher=False),
    _mean("sample_spread", "difference between four pictures of a window", "picture"),
]  # fmt: skip
METRICS = {metric.name: metric for metric in _METRICS}
