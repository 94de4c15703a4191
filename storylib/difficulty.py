"""Which held-out stories are easy and which are hard, and what goes with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from storylib.evaluation import MODEL
from storylib.metrics import words
from storylib.protocol import METRICS
from storylib.runs import Data, Run
from storylib.statistics import DRAWS, LEVEL, resampled

EASE = "page_mrr"
REASONS = {
    "pages": "pages in the story",
    "likeness": "the next picture is like the last one",
    "words_likeness": "the next text is like the last one",
    "recurring": "share of its words that stood in the context",
    "length": "words of the next text",
    "spread": "seeds disagree about it",
}


def story_ease(runs: Sequence[Run], data: Data) -> pd.DataFrame:
    """One row a held-out story: mean reciprocal rank of its pages by the model and by the best floor, and its traits.

    ``attrs["floor"]`` names the floor. likeness, words_likeness: centred cosine of the target and the last frame, as
    the floor copy-last has it. recurring: share of the target's words that stood in the context.
    """
    table = pd.concat([r.per_window.assign(seed=r.config.train.seed) for r in runs], ignore_index=True)
    table = table[table["page_rank"].notna()].assign(ease=lambda t: 1 / t["page_rank"])
    ease = {str(who): rows.groupby("story")["ease"].mean() for who, rows in table.groupby("predictor")}
    floors = {who: values for who, values in ease.items() if who not in (MODEL, "best of context")}
    floor = max(floors, key=lambda who: METRICS[EASE].merit(floors[who].mean()))
    ours, last = (table[table["predictor"] == who] for who in (MODEL, "copy-last"))
    by_seed = ours.groupby(["story", "seed"])["ease"].mean().unstack()
    stories = pd.DataFrame({"model": ease[MODEL], "floor": floors[floor]})
    stories["likeness"] = last.groupby("story")["image_cosine"].mean()
    stories["words_likeness"] = last.groupby("story")["text_cosine"].mean()
    stories["spread"] = by_seed.std(axis=1, ddof=0)
    frames = {s.id: s.frames for s in data.splits.test}
    context = runs[0].config.data.context
    stories["pages"] = [len(frames[s]) for s in stories.index]
    targets = {s: frames[s][context:] for s in stories.index}
    stories["length"] = [float(np.mean([len(words(f.text)) for f in targets[s]])) for s in stories.index]
    stories["recurring"] = [_recurring([f.text for f in frames[s]], context) for s in stories.index]
    stories.attrs["floor"] = floor
    return stories.rename_axis("story")


def _recurring(texts: Sequence[str], context: int) -> float:
    """Mean over the windows of a story: share of the target's words that stand in one of the frames before it."""
    shares = []
    for i in range(context, len(texts)):
        target = words(texts[i])
        seen = {w for text in texts[i - context : i] for w in words(text)}
        if target:
            shares.append(np.mean([w in seen for w in target]))
    return float(np.mean(shares)) if shares else np.nan


def reasons(stories: pd.DataFrame, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Rank correlation (Spearman) of ease with each trait, and its bootstrap interval over stories, strongest first."""
    rows = []
    for column, reason in REASONS.items():
        part = stories[["model", column]].dropna()
        if len(part) < 4 or part[column].nunique() < 2:
            continue
        x, y = (rankdata(part[c]) for c in part)
        weights = resampled(len(part), draws, seed)
        low, high = np.nanpercentile(_weighted_correlation(x, y, weights), [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
        value = float(np.corrcoef(x, y)[0, 1])
        rows.append({"reason": reason, "correlation": value, "low": float(low), "high": float(high)})
    return pd.DataFrame(rows, columns=["reason", "correlation", "low", "high"]).sort_values(
        "correlation", key=lambda c: c.abs(), ascending=False, ignore_index=True
    )


def _weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(draws,) correlation of x and y (n,) under weights (draws, n)."""
    total = weights.sum(1)
    mean_x, mean_y = weights @ x / total, weights @ y / total
    covariance = weights @ (x * y) / total - mean_x * mean_y
    spread = (weights @ x**2 / total - mean_x**2) * (weights @ y**2 / total - mean_y**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / np.sqrt(spread)


def why(stories: pd.DataFrame, found: pd.DataFrame) -> str:
    """In words chosen by the intervals: how far apart stories are, and which traits go with easy ones and hard ones."""
    low, high = stories["model"].quantile([0.1, 0.9])
    clear = found[(found["low"] > 0) | (found["high"] < 0)]
    parts = [
        f"{row['reason']} ({'easier' if row['correlation'] > 0 else 'harder'}, {row['correlation']:+.2f}, "
        f"{row['low']:+.2f} to {row['high']:+.2f})"
        for row in clear.to_dict("records")
    ]
    said = (
        f"Of {len(stories)} held-out stories the easiest tenth reaches a mean reciprocal rank above {high:.2f}, the "
        f"hardest stays below {low:.2f}. "
    )
    if not parts:
        return said + "None of the traits looked at goes with it beyond chance."
    return said + f"What goes with it, by rank correlation and its 95 % interval: {'; '.join(parts)}."
