"""Per-window scores to a table in which every number stands beside its baselines, with an interval."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from storylib.metrics.intervals import interval, paired_difference
from storylib.metrics.registry import METRICS, MODEL, ORACLE, Metric, best_baseline
from storylib.metrics.text import BLEU_COLUMNS

Entry = dict[str, Any]


class ScoreError(ValueError):
    """A score that must not be reported."""


class Scores(UserDict[str, Entry]):
    """Metrics by name, each with its interval, its baselines, and its gain over the best of them.

    A metric without a baseline cannot be put in. Raises ScoreError.
    """

    def __setitem__(self, name: str, entry: Entry) -> None:
        if not set(entry.get("baselines", {})) - {ORACLE}:
            raise ScoreError(f"The metric {name!r} has no baseline. Give storylib.baselines the columns that it needs.")
        if not np.isfinite([entry["value"], *entry["interval"], *entry["baselines"].values()]).all():
            raise ScoreError(f"The metric {name!r} or one of its baselines is not a number.")
        super().__setitem__(name, entry)

    def frame(self) -> pd.DataFrame:
        """One row per metric: the model, its 95 % interval, its gain over the best baseline, and every baseline."""
        rows = []
        for name, entry in self.items():
            metric, (low, high) = METRICS[name], map(METRICS[name].text, entry["interval"])
            row = {
                "group": entry["group"],
                "metric": entry["title"],
                "model": metric.text(entry["value"]),
                "95 % interval": f"{low} to {high}",
                "best baseline": entry["best_baseline"],
                "model − best baseline": metric.interval_text(entry["gain"], *entry["gain_interval"]),
            }
            rows.append(row | {baseline: metric.text(v) for baseline, v in entry["baselines"].items()})
        return pd.DataFrame(rows).set_index(["group", "metric"]).fillna("")

    def __str__(self) -> str:
        return self.frame().to_string()


def summarise(per_window: pd.DataFrame) -> Scores:
    """Each metric of the model that has a baseline, with its interval and every baseline that has it."""
    tables = {str(name): rows for name, rows in per_window.groupby("predictor", sort=False)}
    scores = Scores()
    for name, metric in METRICS.items():
        baselines = {predictor: round(value, 6) for predictor, value in metric.values(tables).items()}
        if baselines.pop(MODEL, None) is not None and any(map(metric.competes, baselines)):
            scores[name] = _entry(metric, tables, baselines)
    return scores


def _entry(metric: Metric, tables: Mapping[str, pd.DataFrame], baselines: dict[str, float]) -> Entry:
    best, candidates = best_baseline(baselines, metric), metric.candidates(tables[MODEL])
    model, baseline = metric.sums(tables[MODEL]), metric.sums(tables[best])
    value, low, high = interval(model, metric.reduce, metric.bounds)
    gain = paired_difference(model, baseline, metric.reduce)
    return {
        "title": metric.label(candidates),
        "group": metric.group,
        "value": round(value, 6),
        "interval": [round(low, 6), round(high, 6)],
        "candidates": candidates,
        "baselines": baselines,
        "best_baseline": best,
        "gain": round(gain.value, 6),
        "gain_interval": [round(gain.low, 6), round(gain.high, 6)],
    }


def best_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The best of several predictions, metric by metric and window by window, for metrics of single windows."""
    best = tables[0][["story", "frame", "tokens"]].copy()
    for column in map(str, tables[0].columns):
        values = [table[column].to_numpy() for table in tables]
        metric = METRICS.get(column)
        if column.endswith("_rank"):
            best[column] = np.fmin.reduce(values)
        elif column.endswith("_candidates"):
            best[column] = values[0]
        elif metric is not None and metric.ideal is None and not np.isnan(values).all():
            best[column] = (np.fmax if metric.higher_is_better else np.fmin).reduce(values)
    if "bleu_0" in tables[0]:
        precision = [table["bleu_0"] / table["bleu_4"].clip(lower=1) for table in tables]
        choice = np.argmax(precision, axis=0)
        counts = np.stack([table[BLEU_COLUMNS].to_numpy() for table in tables])
        best[BLEU_COLUMNS] = counts[choice, np.arange(len(best))]
    return best
