"""The metrics of the report: what each is called, which columns of the per-window table it needs, how they reduce.

Every metric is a function of summed columns, so that one bootstrap serves all: a mean is sum / count, corpus BLEU a
function of ten sums, the Fréchet distance one of sums and sums of products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from storylib import metrics
from storylib.statistics import story_sums

BLEU_COLUMNS = [f"bleu_{i}" for i in range(10)]
DIRECTIONS = 16  # principal directions of picture features in which the Fréchet distance is taken
MADE, TRUE = ([f"{kind}_feature_{i}" for i in range(DIRECTIONS)] for kind in ("made", "true"))


@dataclass(frozen=True)
class Metric:
    """How per-window columns become one number: ``columns`` (N, C) of a table are summed, then reduced.

    higher_is_better: ignored where there is an ``ideal``, the value that is best and from which both ways lead away.
    """

    name: str
    title: str
    group: str
    columns: Callable[[pd.DataFrame], np.ndarray]
    reduce: Callable[[np.ndarray], np.ndarray]
    higher_is_better: bool = True
    digits: int = 1
    ideal: float | None = None
    limits: tuple[str, ...] = ()  # predictors that mark the best there can be, not what no learning gives

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

    def sums(self, rows: pd.DataFrame) -> np.ndarray:
        """(seeds, stories, C) sums for the statistics, of the stories that say something of the metric.

        Rows without a ``seed`` column are one seed.
        """
        seeds = rows["seed"] if "seed" in rows else pd.Series(0, index=rows.index)
        sums = story_sums(self.columns(rows), rows["story"].to_numpy(), seeds.to_numpy())
        return sums[:, (sums != 0).any((0, 2))]


def _ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1]


def _log_ratio(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.log(_ratio(sums))


def _exp_ratio(sums: np.ndarray) -> np.ndarray:
    return np.exp(_ratio(sums))


def _mean_of(values: np.ndarray) -> np.ndarray:
    return np.stack([np.nan_to_num(values), ~np.isnan(values)], axis=1)


def _mean(
    column: str, title: str, group: str, scale: float = 1.0, higher: bool = True, digits: int = 3, name: str = ""
) -> Metric:
    return Metric(
        name or column, title, group, lambda t: _mean_of(scale * t[column].to_numpy(float)), _ratio, higher, digits
    )


def _recall(what: str, title: str, group: str, k: int) -> Metric:
    """Recall@k in percent; a predictor without ranks but with candidates is chance, and gets its expectation."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{what}_{c}"].to_numpy(float) for c in ("rank", "candidates"))
        hit = np.where(np.isnan(rank), metrics.chance_recall(count, k), rank <= k)
        return _mean_of(np.where(np.isnan(count), np.nan, 100 * hit))

    return Metric(f"{what}_recall@{k}", f"{title}, recall@{k}", group, columns, _ratio)


def _reciprocal_rank(what: str, title: str, group: str) -> Metric:
    def columns(table: pd.DataFrame) -> np.ndarray:
        rank, count = (table[f"{what}_{c}"].to_numpy(float) for c in ("rank", "candidates"))
        chance = metrics.chance_reciprocal_rank(np.nan_to_num(count).astype(int))
        return _mean_of(np.where(np.isnan(count), np.nan, np.where(np.isnan(rank), chance, 1 / rank)))

    return Metric(f"{what}_mrr", f"{title}, mean reciprocal rank", group, columns, _ratio, digits=3)


def _quotient(above: str, below: str, less: str | None = None, scale: float = 1.0) -> Callable[..., np.ndarray]:
    """Sum of one column (less another), over the sum of the one below, of the rows that have it."""

    def columns(table: pd.DataFrame) -> np.ndarray:
        upper = scale * (table[above].to_numpy(float) - (table[less].to_numpy(float) if less else 0))
        lower = np.where(np.isnan(upper), 0, table[below].to_numpy(float))
        return np.stack([np.nan_to_num(upper), np.nan_to_num(lower)], axis=1)

    return columns


def _variety(n: int) -> Callable[[pd.DataFrame], np.ndarray]:
    names = [f"{whose}_{what}_{n}" for whose in ("made", "true") for what in ("kinds", "grams")]

    def columns(table: pd.DataFrame) -> np.ndarray:
        values = table[names].to_numpy(float)
        return np.where(np.isnan(values[:, :1]), 0.0, np.nan_to_num(values))

    return columns


def _relative_variety(sums: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * sums[..., 0] / sums[..., 1] / (sums[..., 2] / sums[..., 3])


def _frechet_columns(table: pd.DataFrame) -> np.ndarray:
    made, true = (table[names].to_numpy(float) for names in (MADE, TRUE))
    there = ~np.isnan(made).any(1, keepdims=True)
    return np.where(there, np.concatenate([metrics.moments(made), metrics.moments(true)], axis=1), 0.0)


def _frechet(sums: np.ndarray) -> np.ndarray:
    half = sums.shape[-1] // 2
    enough = sums[..., :1] > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.where(enough, sums, 1.0)
        found = metrics.frechet_from_moments(known[..., :half], known[..., half:])
    return np.where(enough[..., 0], found, np.nan)


METRICS: dict[str, Metric] = {
    m.name: m
    for m in [
        *(_recall("image", "next picture", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("image", "next picture", "next frame"),
        _mean("image_cosine", "next picture, centred cosine", "next frame"),
        *(_recall("text", "next text", "next frame", k) for k in (1, 5, 10)),
        _reciprocal_rank("text", "next text", "next frame"),
        _mean("text_cosine", "next text, centred cosine", "next frame"),
        _recall("page", "next page (picture and text)", "next frame", 10),
        _reciprocal_rank("page", "next page (picture and text)", "next frame"),
        _recall("image_story", "next picture within its story", "in story", 1),
        _recall("text_story", "next text within its story", "in story", 1),
        _recall("page_story", "next page within its story", "in story", 1),
        _recall("image_to_text", "picture to its text", "cross-modal", 10),
        _reciprocal_rank("image_to_text", "picture to its text", "cross-modal"),
        _recall("text_to_image", "text to its picture", "cross-modal", 10),
        _reciprocal_rank("text_to_image", "text to its picture", "cross-modal"),
        _recall("probe", "picture to its text through a linear probe", "alignment", 10),
        _mean("alignment", "alignment: squared distance of picture and text", "alignment", higher=False),
        Metric("image_uniformity", "uniformity of pictures", "alignment",
               lambda t: _mean_of(t["image_uniformity"].to_numpy(float)), _log_ratio, False, 3, limits=("chance",)),
        Metric("text_uniformity", "uniformity of texts", "alignment",
               lambda t: _mean_of(t["text_uniformity"].to_numpy(float)), _log_ratio, False, 3, limits=("chance",)),
        replace(_mean("modality_gap", "modality gap", "alignment", higher=False), limits=("chance",)),
        Metric("cross_entropy", "cross-entropy, nats a token", "text", _quotient("nll", "tokens"), _ratio, False, 3),
        Metric("perplexity", "perplexity", "text", _quotient("nll", "tokens"), _exp_ratio, False, 1),
        Metric("top1", "next token guessed, %", "text", _quotient("top1", "tokens", scale=100), _ratio),
        Metric("top5", "next token among the first five, %", "text", _quotient("top5", "tokens", scale=100), _ratio),
        Metric("context_gap", "nats a token lost when the context is another story's", "text",
               _quotient("nll_shuffled", "tokens", "nll"), _ratio, True, 3),
        Metric("bleu", "BLEU-4", "writing", lambda t: np.nan_to_num(t[BLEU_COLUMNS].to_numpy(float)),
               metrics.bleu_from_counts, True, 2),
        _mean("chrf", "chrF", "writing", digits=1),
        _mean("rouge_l", "ROUGE-L", "writing", 100, digits=1),
        _mean("meteor", metrics.METEOR, "writing", 100, digits=1),
        _mean("meteor_exact_stem", metrics.METEOR_WITHOUT_WORDNET, "writing", 100, digits=1),
        _mean("cider_d", "CIDEr-D", "writing"),
        _mean("text_similarity", "similarity of meaning (centred cosine)", "writing"),
        *(Metric(f"distinct_{n}", f"distinct-{n}, % of the true texts' own", "writing", _variety(n), _relative_variety,
                 ideal=100.0) for n in (1, 2)),
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
