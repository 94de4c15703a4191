"""Two arms, paired by seed and window: differences with intervals, and verdicts on the primary endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.studies import Factor
from storylib.metrics.intervals import Difference, holm, paired_difference
from storylib.metrics.registry import METRICS, MODEL, best_baseline, smallest_change, verdict

KEYS = ["seed", "story", "frame"]
JUDGED = ("low90", "high90", "matters", "p_holm", "detectable", "verdict")  # of a primary endpoint only
COLUMNS = ["metric", "group", "a", "b", "difference", "low", "high", "candidates", "chance", "baseline",
           "baseline_value", *JUDGED]  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """The paired table of two arms.

    frame: one row per metric, in the report's order. difference: a - b, with low and high; candidates and chance: of
    retrieval; baseline and baseline_value: the best one. Only primary endpoints have a verdict on a (others: ""), the
    smallest change that matters, the ends of the 90 % interval, p_holm, and detectable: the smallest true difference
    that this sample would have shown with 80 % power.
    """

    frame: pd.DataFrame
    factor: Factor

    @property
    def primary(self) -> Comparison:
        """The primary endpoints alone. Records from before there were any have none."""
        return replace(self, frame=self.frame[self.frame["matters"].notna()])

    @property
    def table(self) -> pd.DataFrame:
        """One row per metric as text; the columns of values are the arms' words."""
        rows = [{"group": row["group"]} | cells(row, self.factor) for row in self.frame.to_dict("records")]
        return pd.DataFrame(rows).set_index(["group", "metric"]) if rows else pd.DataFrame()


def cells(row: Mapping[Any, Any], factor: Factor) -> dict[str, str]:
    """A row of a comparison as a table shows it, values in the words of the factor."""
    metric, judgement = METRICS[row["metric"]], row["verdict"]
    if judgement == "undetermined":
        judgement += f" (smallest detectable: {metric.text(row['detectable'])})"
    return {
        "metric": metric.label(row["candidates"]),
        factor.words[1]: metric.text(row["b"]),
        factor.words[0]: metric.text(row["a"]),
        "difference (95 % interval)": metric.interval_text(row["difference"], row["low"], row["high"], "+"),
        "verdict": judgement,
        "matters from": metric.text(row["matters"]) if judgement else "",
        "best baseline": f"{metric.text(row['baseline_value'])} ({row['baseline']})",
        "chance": metric.text(row["chance"]) if metric.task and pd.notna(row["chance"]) else "",
    }


def compare(a: Sequence[Run], b: Sequence[Run], factor: Factor) -> Comparison:
    """Arm ``a`` minus arm ``b`` on every metric that both have, paired by seed and window.

    Raises RunError where the windows differ: other stories, another split or other seeds.
    """
    return compare_rows(pooled_rows(a), pooled_rows(b), factor)


def compare_rows(a: pd.DataFrame, b: pd.DataFrame, factor: Factor) -> Comparison:
    """``compare`` of scored windows, as by ``pooled_rows``; the baselines are taken from ``b``."""
    model_a, model_b = (t[t["predictor"] == MODEL].sort_values(KEYS, ignore_index=True) for t in (a, b))
    if not model_a[KEYS].equals(model_b[KEYS]):
        raise RunError("The two arms were not evaluated on the same seeds and windows, so they cannot be paired.")
    groups = {str(name): rows for name, rows in b.groupby("predictor", sort=False) if name != MODEL}
    rows: dict[str, dict[str, Any]] = {}
    primary: dict[str, Difference] = {}
    for name, metric in METRICS.items():
        values = metric.value(model_a), metric.value(model_b)
        baselines = metric.values(groups)
        if None in values or not any(map(metric.competes, baselines)):
            continue
        gap = paired_difference(metric.sums(model_a), metric.sums(model_b), metric.reduce)
        best = best_baseline(baselines, metric)
        row = {"metric": name, "group": metric.group, "a": values[0], "b": values[1], "verdict": ""}
        row |= {"difference": gap.value, "low": gap.low, "high": gap.high}
        row |= {"candidates": metric.candidates(model_b), "chance": baselines.get("chance")}
        row |= {"baseline": best, "baseline_value": baselines[best]}
        if name in factor.endpoints:
            matters = smallest_change(factor.endpoints[name], baselines)
            row |= {"low90": gap.low90, "high90": gap.high90, "matters": matters}
            primary[name] = gap
        rows[name] = row
    if not rows:
        raise RunError("The two arms have no metric in common.")
    for (name, gap), p in zip(primary.items(), holm(np.array([gap.p for gap in primary.values()])), strict=True):
        judgement = verdict(METRICS[name], gap, p, rows[name]["matters"])
        rows[name] |= {"p_holm": p, "detectable": gap.detectable(len(primary)), "verdict": judgement}
    return Comparison(pd.DataFrame([*rows.values()]).reindex(columns=COLUMNS), factor)
