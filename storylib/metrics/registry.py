"""The metrics of the report: what each is called, which columns of the per-window table it needs, how they reduce.

Every metric is a function of summed columns, so that one bootstrap serves all: a mean is sum / count, corpus BLEU a
function of ten sums, the Fréchet distance one of sums and sums of products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from storylib.metrics.chance import chance_recall, chance_reciprocal_rank
from storylib.metrics.frechet import frechet_from_moments, moments
from storylib.metrics.intervals import LEVEL, Reduce, story_sums
from storylib.metrics.text import METEOR, METEOR_WITHOUT_WORDNET, bleu_from_counts

MODEL, ORACLE = "model", "best of context"  # predictors: the trained one, and one that knows the answer
BASELINE_TITLES = {
    "chance": "a random order, a random frame of a training story",
    "copy-last": "the last frame repeated",
    "context": "the four context pictures",
    "mean": "mean of the context",
    "recency": "mean of the context, weights 1 : 2 : 3 : 4",
    "nearest": "what followed the most similar training window",
    "median": "median training picture",
    "unigram": "word frequencies of the training texts, mixed with the context's words",
    "trigram": "a trigram model of the training texts; knows no story",
    "trigram and cache": "a trigram model of the training texts, mixed with the context's words",
    "linear map": "ridge regression from the frozen pictures to the frozen texts",
    "best of context": "the best of the four context frames, chosen by an oracle that knows the target",
}
VERDICTS = ("better", "worse", "no difference")
BLEU_COLUMNS = [f"bleu_{i}" for i in range(10)]
DIRECTIONS = 16  # principal directions of picture features in which the Fréchet distance is taken
MADE, TRUE = ([f"{kind}_feature_{i}" for i in range(DIRECTIONS)] for kind in ("made", "true"))

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

    def merit(self, value: float) -> float:
        """Larger is better, whatever the metric's own direction."""
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
        """(seeds, stories, C) sums for the statistics, of the stories that contribute to the metric.

        Rows without a ``seed`` column are one seed.
        """
        seeds = rows["seed"] if "seed" in rows else pd.Series(0, index=rows.index)
        sums = story_sums(self.columns(rows), rows["story"].to_numpy(), seeds.to_numpy())
        return sums[:, (sums != 0).any((0, 2))]

    def text(self, value: float, sign: str = "") -> str:
        """A value as tables show it. sign: "+" for differences."""
        return f"{value:{sign}.{self.digits}f}"

    def competes(self, baseline: str) -> bool:
        """Whether a baseline is there to be beaten: not the oracle, which knows the answer, nor one of the limits."""
        return baseline != ORACLE and baseline not in self.limits


def best_baseline(values: Mapping[str, float], metric: Metric) -> str:
    """The baseline that is hardest to beat, of those that compete. values: by baseline."""
    return max(filter(metric.competes, values), key=lambda name: metric.merit(values[name]))


def verdict(metric: Metric, a: float, b: float, low: float, high: float, p_holm: float) -> str:
    """The verdict on a, of an interval of a - b: "better" or "worse" only if interval and corrected test agree."""
    if low <= 0 <= high or p_holm >= LEVEL:
        return "no difference"
    return "better" if metric.merit(a) > metric.merit(b) else "worse"


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _log_ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(_ratio(sums))


def _mean_of(values: np.ndarray) -> np.ndarray:
    return np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1)


def _column(name: str, scale: float = 1.0) -> Columns:
    return lambda table: _mean_of(scale * table[name].to_numpy(float))


def _mean(column: str, title: str, group: str, scale: float = 1.0, higher: bool = True, digits: int = 3) -> Metric:
    return Metric(column, title, group, _column(column, scale), _ratio, higher, digits)


def _uniformity(side: str, title: str) -> Metric:
    column = _column(f"{side}_uniformity")
    return Metric(f"{side}_uniformity", title, "alignment", column, _log_ratio, False, 3, limits=("chance",))


def _recall(task: str, title: str, group: str, k: int) -> Metric:
    """Recall@k in percent; a predictor with candidates but without ranks is chance and gets its expectation."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{task}_{column}"].to_numpy(float) for column in ("rank", "candidates"))
        hit = np.where(np.isnan(rank), chance_recall(count, k), rank <= k)
        return _mean_of(np.where(np.isnan(count), np.nan, 100 * hit))

    return Metric(f"{task}_recall@{k}", f"{title}, recall@{k}", group, columns, _ratio)


def _reciprocal_rank(task: str, title: str, group: str) -> Metric:
    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{task}_{column}"].to_numpy(float) for column in ("rank", "candidates"))
        chance = chance_reciprocal_rank(np.nan_to_num(count).astype(int))
        return _mean_of(np.where(np.isnan(count), np.nan, np.where(np.isnan(rank), chance, 1 / rank)))

    return Metric(f"{task}_mrr", f"{title}, mean reciprocal rank", group, columns, _ratio, digits=3)


def _quotient(numerator: str, denominator: str, minus: str | None = None, scale: float = 1.0) -> Columns:
    """One column (minus another) and the one that its sum is divided by, of the rows that have the first."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        upper = scale * (table[numerator].to_numpy(float) - (table[minus].to_numpy(float) if minus else 0))
        lower = np.where(np.isnan(upper), 0, table[denominator].to_numpy(float))
        return np.stack([np.nan_to_num(upper), np.nan_to_num(lower)], axis=1)

    return columns


def _variety(n: int) -> Metric:
    names = [f"{whose}_{count}_{n}" for whose in ("made", "true") for count in ("kinds", "grams")]

    def columns(table: pd.DataFrame) -> np.ndarray:
        values = table[names].to_numpy(float)
        return np.where(np.isnan(values[:, :1]), 0.0, np.nan_to_num(values))

    def relative(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return 100 * sums[..., 0] / sums[..., 1] / (sums[..., 2] / sums[..., 3])

    return Metric(f"distinct_{n}", f"distinct-{n}, % of the true texts' own", "writing", columns, relative, ideal=100.0)


def _frechet_columns(table: pd.DataFrame) -> np.ndarray:
    made, true = (table[names].to_numpy(float) for names in (MADE, TRUE))
    complete = ~np.isnan(made).any(1, keepdims=True)
    return np.where(complete, np.concatenate([moments(made), moments(true)], axis=1), 0.0)


def _frechet(sums: np.ndarray) -> np.ndarray:
    half = sums.shape[-1] // 2
    enough = sums[..., :1] > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = np.where(enough, sums, 1.0)
        distance = frechet_from_moments(usable[..., :half], usable[..., half:])
    return np.where(enough[..., 0], distance, np.nan)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in [
        *(_recall("image", "next picture", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("image", "next picture", "next frame"),
        _mean("image_cosine", "next picture, centred cosine", "next frame"),
        *(_recall("text", "next text", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("text", "next text", "next frame"),
        _mean("text_cosine", "next text, centred cosine", "next frame"),
        _recall("frame", "next frame (picture and text)", "next frame", 10),
        _reciprocal_rank("frame", "next frame (picture and text)", "next frame"),
        _recall("image_in_story", "next picture, in-story", "in-story", 1),
        _recall("text_in_story", "next text, in-story", "in-story", 1),
        _recall("frame_in_story", "next frame, in-story", "in-story", 1),
        _recall("image_to_text", "picture to its text", "cross-modal", 10),
        _reciprocal_rank("image_to_text", "picture to its text", "cross-modal"),
        _recall("text_to_image", "text to its picture", "cross-modal", 10),
        _reciprocal_rank("text_to_image", "text to its picture", "cross-modal"),
        _recall("probe", "picture to its text through a linear probe", "alignment", 10),
        _mean("alignment", "alignment: squared distance of picture and text", "alignment", higher=False),
        _uniformity("image", "uniformity of pictures"),
        _uniformity("text", "uniformity of texts"),
        replace(_mean("modality_gap", "modality gap", "alignment", higher=False), limits=("chance",)),
        Metric("cross_entropy", "cross-entropy, nats per token", "text", _quotient("nll", "tokens"), _ratio, False, 3),
        Metric("perplexity", "perplexity", "text", _quotient("nll", "tokens"), lambda s: np.exp(_ratio(s)), False),
        Metric("top1", "next token guessed, %", "text", _quotient("top1", "tokens", scale=100), _ratio),
        Metric("top5", "next token among the first five, %", "text", _quotient("top5", "tokens", scale=100), _ratio),
        Metric("context_gap", "nats per token lost when the context is another story's", "text",
               _quotient("nll_shuffled", "tokens", "nll"), _ratio, True, 3),
        Metric("bleu", "BLEU-4", "writing", lambda t: np.nan_to_num(t[BLEU_COLUMNS].to_numpy(float)),
               bleu_from_counts, True, 2),
        _mean("chrf", "chrF", "writing", digits=1),
        _mean("rouge_l", "ROUGE-L", "writing", 100, digits=1),
        _mean("meteor", METEOR, "writing", 100, digits=1),
        _mean("meteor_exact_stem", METEOR_WITHOUT_WORDNET, "writing", 100, digits=1),
        _mean("cider_d", "CIDEr-D", "writing"),
        _mean("text_similarity", "similarity of meaning (centred cosine)", "writing"),
        *(_variety(n) for n in (1, 2)),
        Metric("length_ratio", "length, % of the true texts'", "writing",
               _quotient("words", "true_words", scale=100), _ratio, ideal=100.0),
        _mean("image_l1", "picture, mean absolute error", "picture", higher=False),
        _mean("image_ssim", "picture, structural similarity", "picture"),
        Metric("sharpness", "picture, sharpness, % of the true pictures'", "picture",
               _quotient("sharpness", "true_sharpness", scale=100), _ratio, ideal=100.0),
        Metric("frechet", "pictures, Fréchet distance", "picture", _frechet_columns, _frechet, False, 2),
        _mean("best_l1", "best of four pictures, mean absolute error", "picture", higher=False),
        _mean("sample_spread", "difference between four pictures of a window", "picture"),
    ]
}  # fmt: skip
