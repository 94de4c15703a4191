"""Which held-out stories are easy and which are hard, and what correlates with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.runs import Data
from storylib.metrics.intervals import DRAWS, LEVEL, resampled
from storylib.metrics.registry import METRICS, MODEL, best_baseline
from storylib.metrics.text import words

EASE = METRICS["frame_mrr"]
REASONS = {
    "frames": "frames in the story",
    "picture_similarity": "similarity of the next picture to the last one",
    "text_similarity": "similarity of the next text to the last one",
    "recurring": "share of its words that occur in the context",
    "length": "words of the next text",
    "spread": "disagreement between seeds",
}
VERDICTS = {1: "easier", -1: "harder", 0: "no relation"}  # by the side of zero that the interval is on


def story_ease(runs: Sequence[Run], data: Data) -> pd.DataFrame:
    """One row per held-out story: mean reciprocal rank by the model and by the best baseline, and the REASONS.

    ``attrs["baseline"]`` names the baseline.
    """
    table = pooled_rows(runs)
    table = table[table["frame_rank"].notna()].assign(ease=lambda t: 1 / t["frame_rank"])
    groups = {str(predictor): rows for predictor, rows in table.groupby("predictor")}
    model = groups.pop(MODEL)
    ease = {predictor: rows.groupby("story")["ease"].mean() for predictor, rows in groups.items()}
    baseline = best_baseline({predictor: float(values.mean()) for predictor, values in ease.items()}, EASE)
    stories = pd.DataFrame({"model": model.groupby("story")["ease"].mean(), "baseline": ease[baseline]})
    stories["picture_similarity"] = groups["copy-last"].groupby("story")["image_cosine"].mean()
    stories["text_similarity"] = groups["copy-last"].groupby("story")["text_cosine"].mean()
    stories["spread"] = model.groupby(["story", "seed"])["ease"].mean().unstack().std(axis=1, ddof=0)
    context = runs[0].config.data.context
    texts = {story.id: [frame.text for frame in story.frames] for story in data.splits.test}
    targets = {story: texts[story][context:] for story in stories.index}
    stories["frames"] = [len(texts[story]) for story in stories.index]
    stories["length"] = [float(np.mean([len(words(text)) for text in targets[story]])) for story in stories.index]
    stories["recurring"] = [_recurring(texts[story], context) for story in stories.index]
    stories.attrs["baseline"] = baseline
    return stories.rename_axis("story")


def _recurring(texts: Sequence[str], context: int) -> float:
    """Mean over the windows of a story: share of the target's words that occur in one of the frames before it."""
    shares = []
    for i in range(context, len(texts)):
        target = words(texts[i])
        earlier = {word for text in texts[i - context : i] for word in words(text)}
        if target:
            shares.append(np.mean([word in earlier for word in target]))
    return float(np.mean(shares)) if shares else np.nan


def reasons(stories: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation (Spearman) of ease with each trait, strongest first.

    Columns reason, correlation, low, high (bootstrap interval over stories) and verdict: whether stories with more of
    the trait are "easier" or "harder", or "no relation" if the interval includes zero.
    """
    rows = []
    for column, reason in REASONS.items():
        part = stories[["model", column]].dropna()
        if len(part) < 4 or part[column].nunique() < 2:
            continue
        x, y = (part[name].rank().to_numpy() for name in part)
        weights = resampled(len(part), DRAWS, seed=0)
        low, high = np.nanpercentile(_weighted_correlation(x, y, weights), [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
        verdict = VERDICTS[int(low > 0) - int(high < 0)]
        rows.append((reason, np.corrcoef(x, y)[0, 1], low, high, verdict))
    table = pd.DataFrame(rows, columns=["reason", "correlation", "low", "high", "verdict"])
    return table.sort_values("correlation", key=np.abs, ascending=False, ignore_index=True)


def _weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draws,) correlation of x and y (n,) under weights (draws, n)."""
    total = weights.sum(1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    spread = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(spread)
