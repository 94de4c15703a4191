"""Any two runs or arms, paired by seed and window: the difference, its interval, and the smallest detectable one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.studies import Factor
from storylib.metrics.intervals import DRAWS, holm, paired_difference
from storylib.metrics.registry import METRICS, MODEL, VERDICTS, best_baseline, verdict

KEYS = ["seed", "story", "frame"]
TWO_RUNS = Factor("", ("a", "b"), ("a", "b"))


@dataclass(frozen=True)
class Comparison:
    """The paired table of two arms. As text: ``str()``; as a data frame: ``frame``; for reading: ``table``.

    frame: one row per metric, in the report's order, with columns metric, title, group, a, b, difference (a - b), low,
    high, p, p_holm, effect, effect_low, effect_high, detectable, baseline, baseline_value and verdict. The verdict is
    on a: "better" or "worse" if the interval excludes zero and the corrected p is below 0.05, otherwise
    "no difference". detectable: the smallest true difference that this sample would have shown with 80 % power.
    factor: what the arms differ in and what they are called, for tables, captions and legends.
    """

    frame: pd.DataFrame
    factor: Factor = TWO_RUNS

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per metric, with as many digits as the metric has; the columns of values are the arms' words."""
        rows = [table_row(row, self.factor.words) for row in self.frame.to_dict("records")]
        return pd.DataFrame(rows).set_index(["group", "metric"])

    def __str__(self) -> str:
        return self.table.to_string()

    def _repr_html_(self) -> str:
        return self.table.to_html()

    def row(self, metric: str) -> dict[str, Any]:
        """The row of one metric."""
        return dict(self.frame.set_index("metric").loc[metric])

    def of(self, *groups: str) -> Comparison:
        """Only the metrics of some groups."""
        return replace(self, frame=self.frame[self.frame["group"].isin(groups)].reset_index(drop=True))

    def verdicts(self) -> pd.DataFrame:
        """How many metrics get each verdict: one row per group, in the report's order, and a column per verdict."""
        counts = pd.crosstab(self.frame["group"], self.frame["verdict"])
        return counts.reindex(index=self.frame["group"].unique(), columns=list(VERDICTS), fill_value=0)


def table_row(row: Mapping[Any, Any], words: tuple[str, str]) -> dict[str, str]:
    """A row of ``Comparison.frame`` as text. words: the columns of arm a and arm b."""
    metric = METRICS[row["metric"]]
    difference, low, high = (metric.text(row[column], "+") for column in ("difference", "low", "high"))
    effect, effect_low, effect_high = (f"{row[column]:+.2f}" for column in ("effect", "effect_low", "effect_high"))
    return {
        "group": row["group"],
        "metric": row["title"],
        words[1]: metric.text(row["b"]),
        words[0]: metric.text(row["a"]),
        "difference (95 % interval)": f"{difference} ({low} to {high})",
        "effect size (95 % interval)": f"{effect} ({effect_low} to {effect_high})",
        "p, Holm": f"{row['p_holm']:.3f}",
        "smallest detectable": "identical" if identical(row) else metric.text(row["detectable"]),
        "best baseline": f"{metric.text(row['baseline_value'])} ({row['baseline']})",
        "verdict": row["verdict"],
    }


def identical(row: Mapping[Any, Any]) -> bool:
    """Whether both arms have the same score in every story, so that no detectable difference can be estimated."""
    return all(row[key] == 0 for key in ("difference", "low", "high", "detectable"))


def compare(
    a: Run | Sequence[Run], b: Run | Sequence[Run], factor: Factor = TWO_RUNS, draws: int = DRAWS
) -> Comparison:
    """Run or arm ``a`` minus ``b`` on every metric that both have, paired by seed and window.

    Arms are paired by their seeds; two single runs are paired whatever their seeds are. Raises RunError where the
    windows differ: other stories, another split or other seeds.
    """
    tables = [arm.per_window.assign(seed=0) if isinstance(arm, Run) else pooled_rows(arm) for arm in (a, b)]
    model_a, model_b = (t[t["predictor"] == MODEL].sort_values(KEYS, ignore_index=True) for t in tables)
    if not model_a[KEYS].equals(model_b[KEYS]):
        raise RunError("The two arms were not evaluated on the same seeds and windows, so they cannot be paired.")
    groups = {str(name): rows for name, rows in tables[1].groupby("predictor", sort=False) if name != MODEL}
    rows, detectable = [], []
    for name, metric in METRICS.items():
        values = metric.value(model_a), metric.value(model_b)
        baselines = metric.values(groups)
        if None in values or not any(map(metric.competes, baselines)):
            continue
        gap = paired_difference(metric.sums(model_a), metric.sums(model_b), metric.reduce, draws)
        baseline = best_baseline(baselines, metric)
        rows.append(
            {
                "metric": name, "title": metric.title, "group": metric.group, "a": values[0], "b": values[1],
                "difference": gap.value, "low": gap.low, "high": gap.high, "p": gap.p, "effect": gap.effect,
                "effect_low": gap.effect_low, "effect_high": gap.effect_high,
                "baseline": baseline, "baseline_value": baselines[baseline],
            }
        )  # fmt: skip
        detectable.append(gap.detectable)
    if not rows:
        raise RunError("The two arms have no metric in common.")
    frame = pd.DataFrame(rows).assign(detectable=[smallest(len(rows)) for smallest in detectable])
    frame["p_holm"] = holm(frame["p"].to_numpy(float))
    frame["verdict"] = [
        verdict(METRICS[row["metric"]], *(row[key] for key in ("a", "b", "low", "high", "p_holm")))
        for row in frame.to_dict("records")
    ]
    return Comparison(frame, factor)
