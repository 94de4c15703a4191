"""Per-window scores to a table in which every number stands beside its baselines, with an interval and a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from storylib.metrics.intervals import DRAWS, Difference, holm, interval, paired_difference
from storylib.metrics.registry import METRICS, MODEL, ORACLE, Metric, best_baseline, verdict

Entry = dict[str, Any]


class ScoreError(ValueError):
    """A score that must not be reported."""


class Scores(Mapping[str, Entry]):
    """Metrics by name, each with its interval, its baselines, and its gain over the best of them.

    Read-only: a metric without a baseline can neither be put in nor be added later. Raises ScoreError.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        for name, entry in entries.items():
            if not set(entry.get("baselines", {})) - {ORACLE}:
                raise ScoreError(
                    f"The metric {name!r} has no baseline, so its value would mean nothing. Give the predictors of "
                    "storylib.baselines the columns that it needs."
                )
            if not np.isfinite([entry["value"], *entry["interval"], *entry["baselines"].values()]).all():
                raise ScoreError(f"The metric {name!r} or one of its baselines is not a number.")
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return dict(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def frame(self) -> pd.DataFrame:
        """One row per metric: the model, its 95 % interval, its gain over the best baseline, and every baseline."""
        rows = []
        for name, entry in self.items():
            numbers = (entry["value"], *entry["interval"], entry["gain"], *entry["gain_interval"])
            value, low, high, gain, gain_low, gain_high = (METRICS[name].text(number) for number in numbers)
            row = {
                "group": entry["group"],
                "metric": entry["title"],
                "model": value,
                "95 % interval": f"{low} to {high}",
                "best baseline": entry["best_baseline"],
                "model − best baseline": f"{gain} ({gain_low} to {gain_high})",
                "p, Holm": f"{entry['p_holm']:.3f}",
                "verdict": entry["verdict"],
            }
            rows.append(row | {baseline: METRICS[name].text(v) for baseline, v in entry["baselines"].items()})
        return pd.DataFrame(rows).set_index(["group", "metric"]).fillna("")

    def __str__(self) -> str:
        return self.frame().to_string()

    def _repr_html_(self) -> str:
        return self.frame().to_html()


def summarise(per_window: pd.DataFrame, draws: int = DRAWS) -> Scores:
    """The content of metrics.json: each metric of the model with its interval and every baseline that has it.

    A metric without a baseline is left out. Model and baselines go through the same ``Metric.value``.
    """
    groups = {str(name): rows for name, rows in per_window.groupby("predictor", sort=False)}
    model = groups.pop(MODEL)
    entries: dict[str, Entry] = {}
    for name, metric in METRICS.items():
        baselines = {baseline: round(value, 6) for baseline, value in metric.values(groups).items()}
        if metric.value(model) is not None and any(map(metric.competes, baselines)):
            entries[name] = _entry(metric, model, groups, baselines, draws)
    corrected = holm(np.array([entry["p"] for entry in entries.values()]))
    for (name, entry), p in zip(entries.items(), corrected, strict=True):
        entry["p_holm"] = round(float(p), 6)
        (low, high), best = entry["gain_interval"], entry["baselines"][entry["best_baseline"]]
        entry["verdict"] = verdict(METRICS[name], entry["value"], best, low, high, entry["p_holm"])
    return Scores(entries)


def _entry(
    metric: Metric, model: pd.DataFrame, groups: Mapping[str, pd.DataFrame], baselines: dict[str, float], draws: int
) -> Entry:
    """One metric of the table; the corrected p and the verdict need all metrics and are added later."""
    estimate = interval(metric.sums(model), metric.reduce, draws)
    best = best_baseline(baselines, metric)
    gain = paired_gain(metric, model, groups[best], draws)
    return {
        "title": metric.title,
        "group": metric.group,
        "value": round(estimate.value, 6),
        "interval": [round(estimate.low, 6), round(estimate.high, 6)],
        "higher_is_better": metric.higher_is_better,
        "ideal": metric.ideal,
        "baselines": baselines,
        "best_baseline": best,
        "gain": round(gain.value, 6),
        "gain_interval": [round(gain.low, 6), round(gain.high, 6)],
        "p": round(gain.p, 6),
        "effect": _rounded(gain.effect),
        "detectable": _rounded(gain.detectable(len(METRICS))),
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None  # JSON has no infinity


def paired_gain(metric: Metric, model: pd.DataFrame, baseline: pd.DataFrame, draws: int = DRAWS) -> Difference:
    """The model minus a baseline on the stories that both have, with its interval."""
    stories = set(model["story"]) & set(baseline["story"])
    a, b = (metric.sums(rows[rows["story"].isin(stories)]) for rows in (model, baseline))
    return paired_difference(a, b, metric.reduce, draws)
