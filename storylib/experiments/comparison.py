"""Two arms, paired by seed and window: the difference, its interval, and the smallest detectable one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.studies import Factor
from storylib.metrics.intervals import DRAWS, holm, paired_difference
from storylib.metrics.registry import METRICS, MODEL, VERDICTS, best_baseline, verdict

KEYS = ["seed", "story", "frame"]
ESTIMATES = ("low", "high", "p", "effect", "effect_low", "effect_high")
EFFECT = "{effect:+.2f} ({effect_low:+.2f} to {effect_high:+.2f})"


@dataclass(frozen=True)
class Comparison:
    """The paired table of two arms.

    frame: one row per metric, in the report's order, with columns metric, title, group, a, b, difference (a - b), low,
    high, p, p_holm, effect, effect_low, effect_high, detectable, baseline, baseline_value and verdict (on a).
    detectable: the smallest true difference that this sample would have shown with 80 % power.
    """

    frame: pd.DataFrame
    factor: Factor

    @property
    def table(self) -> pd.DataFrame:
        """One row per metric as text; the columns of values are the arms' words."""
        rows = []
        for row in self.frame.to_dict("records"):
            metric = METRICS[row["metric"]]
            # Both arms have the same score in every story, so that no detectable difference can be estimated.
            identical = not any(row[key] for key in ("difference", "low", "high", "detectable"))
            text = {
                "group": row["group"],
                "metric": row["title"],
                self.factor.words[1]: metric.text(row["b"]),
                self.factor.words[0]: metric.text(row["a"]),
                "difference (95 % interval)": metric.interval_text(row["difference"], row["low"], row["high"], "+"),
                "effect size (95 % interval)": EFFECT.format_map(row),
                "p, Holm": f"{row['p_holm']:.3f}",
                "smallest detectable": "identical" if identical else metric.text(row["detectable"]),
                "best baseline": f"{metric.text(row['baseline_value'])} ({row['baseline']})",
                "verdict": row["verdict"],
            }
            rows.append(text)
        return pd.DataFrame(rows).set_index(["group", "metric"])

    def of(self, *groups: str) -> Comparison:
        """Only the metrics of some groups."""
        return replace(self, frame=self.frame[self.frame["group"].isin(groups)].reset_index(drop=True))

    def verdicts(self) -> pd.DataFrame:
        """How many metrics get each verdict: one row per group, in the report's order, and a column per verdict."""
        counts = pd.crosstab(self.frame["group"], self.frame["verdict"])
        return counts.reindex(index=self.frame["group"].unique(), columns=list(VERDICTS), fill_value=0)


def compare(a: Sequence[Run], b: Sequence[Run], factor: Factor, draws: int = DRAWS) -> Comparison:
    """Arm ``a`` minus arm ``b`` on every metric that both have, paired by seed and window.

    Raises RunError where the windows differ: other stories, another split or other seeds.
    """
    tables = [pooled_rows(arm) for arm in (a, b)]
    model_a, model_b = (t[t["predictor"] == MODEL].sort_values(KEYS, ignore_index=True) for t in tables)
    if not model_a[KEYS].equals(model_b[KEYS]):
        raise RunError("The two arms were not evaluated on the same seeds and windows, so they cannot be paired.")
    groups = {str(name): rows for name, rows in tables[1].groupby("predictor", sort=False) if name != MODEL}
    rows, gaps = [], []
    for name, metric in METRICS.items():
        values = metric.value(model_a), metric.value(model_b)
        baselines = metric.values(groups)
        if None in values or not any(map(metric.competes, baselines)):
            continue
        gaps.append(paired_difference(metric.sums(model_a), metric.sums(model_b), metric.reduce, draws))
        row = {"metric": name, "title": metric.title, "group": metric.group, "a": values[0], "b": values[1]}
        row |= {"difference": gaps[-1].value} | {key: getattr(gaps[-1], key) for key in ESTIMATES}
        baseline = best_baseline(baselines, metric)
        rows.append(row | {"baseline": baseline, "baseline_value": baselines[baseline]})
    if not rows:
        raise RunError("The two arms have no metric in common.")
    frame = pd.DataFrame(rows).assign(detectable=[gap.detectable(len(rows)) for gap in gaps])
    frame["p_holm"] = holm(frame["p"].to_numpy(float))
    columns = (frame[key] for key in ("metric", "a", "b", "low", "high", "p_holm"))
    frame["verdict"] = [verdict(METRICS[name], *numbers) for name, *numbers in zip(*columns, strict=True)]
    return Comparison(frame, factor)
