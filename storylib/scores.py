"""Per-window scores to a table in which every number stands beside its floors, with an interval and a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from storylib.evaluation import MODEL, ORACLE
from storylib.floors import FLOOR_TITLES
from storylib.protocol import METRICS, Metric
from storylib.statistics import DRAWS, LEVEL, Difference, holm, interval, paired_difference

Entry = dict[str, Any]


class ScoreError(ValueError):
    """A score that must not be printed."""


class Scores(Mapping[str, Entry]):
    """Metrics by name, each with its interval, its floors, and what it gains over the best of them.

    There is no way to put a metric without a floor into it, nor to add one later: a number without a floor means
    nothing. Raises ScoreError.
    """

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        for name, entry in entries.items():
            if not set(entry.get("floors", {})) - {ORACLE}:
                raise ScoreError(
                    f"The metric {name!r} has no floor, so its value would mean nothing. Give the predictors of "
                    "storylib.floors the columns that it needs."
                )
            if not np.isfinite([entry["value"], *entry["interval"], *entry["floors"].values()]).all():
                raise ScoreError(f"The metric {name!r} or one of its floors is not a number.")
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        return dict(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, Mapping) else other)

    def __hash__(self) -> int:
        return id(self)

    def frame(self) -> pd.DataFrame:
        """One row a metric: the model, its 95 % interval, what it gains over the best floor, and every floor."""
        rows = []
        for name, m in self.items():
            digits = METRICS[name].digits
            low, high, gain, gain_low, gain_high = (
                f"{v:.{digits}f}" for v in (*m["interval"], m["gain"], *m["gain_interval"])
            )
            row = {
                "group": m["group"],
                "metric": m["title"],
                "model": f"{m['value']:.{digits}f}",
                "95 % interval": f"{low} to {high}",
                "best floor": m["best_floor"],
                "model − best floor": f"{gain} ({gain_low} to {gain_high})",
                "p, Holm": f"{m['p_holm']:.3f}",
                "verdict": m["verdict"],
            }
            rows.append(row | {floor: f"{value:.{digits}f}" for floor, value in m["floors"].items()})
        return pd.DataFrame(rows).set_index(["group", "metric"]).fillna("")

    def __str__(self) -> str:
        return self.frame().to_string()

    def _repr_html_(self) -> str:
        return self.frame().to_html()


def summarise(per_window: pd.DataFrame, draws: int = DRAWS) -> Scores:
    """metrics.json: each metric of the model with its interval and every floor that can be scored.

    A metric for which no floor has a value is left out. Model and floors go through the same ``Metric.value``.
    """
    entries: dict[str, Entry] = {}
    groups = {str(name): rows for name, rows in per_window.groupby("predictor", sort=False)}
    model = groups.pop(MODEL)
    for name, metric in METRICS.items():
        values = {floor: metric.value(rows) for floor, rows in groups.items()}
        known = {floor: round(v, 6) for floor, v in values.items() if v is not None}
        if metric.value(model) is None or not set(known) - {ORACLE, *metric.limits}:
            continue
        estimate = interval(metric.sums(model), metric.reduce, draws)
        best = best_floor(known, metric)
        gain = paired_gain(metric, model, groups[best], draws)
        entries[name] = {
            "title": metric.title,
            "group": metric.group,
            "value": round(estimate.value, 6),
            "interval": [round(estimate.low, 6), round(estimate.high, 6)],
            "higher_is_better": metric.higher_is_better,
            "ideal": metric.ideal,
            "floors": known,
            "best_floor": best,
            "gain": round(gain.value, 6),
            "gain_interval": [round(gain.low, 6), round(gain.high, 6)],
            "p": round(gain.p, 6),
            "effect": rounded(gain.effect),
            "detectable": rounded(gain.detectable(len(METRICS))),
        }
    corrected = holm(np.array([entry["p"] for entry in entries.values()]))
    for (name, entry), p in zip(entries.items(), corrected, strict=True):
        entry["p_holm"] = round(float(p), 6)
        beside = entry["value"], entry["floors"][entry["best_floor"]], *entry["gain_interval"], entry["p_holm"]
        entry["verdict"] = verdict(METRICS[name], *beside)
    return Scores(entries)


def rounded(value: float) -> float | None:
    """Six digits for a record; None where it is infinite or unknown, which JSON cannot say."""
    return round(float(value), 6) if np.isfinite(value) else None


def best_floor(floors: Mapping[str, float], metric: Metric) -> str:
    """The floor that is hardest to beat; the oracle, which knows the answer, is none, nor is what nothing can beat."""
    honest = [name for name in floors if name != ORACLE and name not in metric.limits]
    return max(honest, key=lambda name: metric.merit(floors[name]))


def paired_gain(metric: Metric, model: pd.DataFrame, floor: pd.DataFrame, draws: int = DRAWS) -> Difference:
    """The model minus a floor on the same stories, with its interval."""
    stories = set(model["story"]) & set(floor["story"])
    ours, theirs = (metric.sums(rows[rows["story"].isin(stories)]) for rows in (model, floor))
    return paired_difference(ours, theirs, metric.reduce, draws)


def verdict(metric: Metric, ours: float, theirs: float, low: float, high: float, p_holm: float) -> str:
    """What may be said of a difference: "better" or "worse" only if interval and corrected test both say so."""
    if low <= 0 <= high or p_holm >= LEVEL:
        return "no difference"
    return "better" if metric.merit(ours) > metric.merit(theirs) else "worse"


def in_words(entry: Entry) -> str:
    """One entry as two sentences: the score, its best floor, and the difference; chosen by the interval."""
    low, high = entry["gain_interval"]
    title, floor = entry["title"].capitalize(), entry["best_floor"]
    said = {"better": "clearly better", "worse": "clearly worse", "no difference": "no difference"}[entry["verdict"]]
    least = entry["detectable"]
    could = f"; one of {least:.2f} would have been seen" if said == "no difference" and least else ""
    return (
        f"{title}: {entry['value']:.2f}; the best floor ({FLOOR_TITLES.get(floor, floor)}) reaches "
        f"{entry['floors'][floor]:.2f}. Paired by window that is {entry['gain']:+.2f} (95 % interval {low:+.2f} to "
        f"{high:+.2f}), {said}{could}."
    )
