"""Any two runs or arms, paired by seed and window: what differs, by how much, and what could not have been seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from storylib.evaluation import MODEL
from storylib.protocol import METRICS
from storylib.runs import Run, RunError
from storylib.scores import best_floor, verdict
from storylib.statistics import DRAWS, holm, paired_difference

KEYS = ["seed", "story", "page"]


@dataclass(frozen=True)
class Comparison:
    """The paired table of two arms. As text: ``str()``; as a data frame: ``frame``; for reading: ``table``.

    frame: one row a metric, in the report's order, with columns metric, title, group, a, b, difference (a - b), low,
    high, p, p_holm, effect, effect_low, effect_high, detectable, floor, floor_value, verdict. ``verdict`` is that on a:
    "better" or "worse" if the interval leaves zero out and the corrected p is below 0.05, otherwise "no difference".
    ``detectable`` is the least true difference that this sample would have shown four times in five.
    """

    frame: pd.DataFrame
    names: tuple[str, str] = ("a", "b")

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a metric, digits as the metric wants them."""
        a, b = self.names
        rows = []
        for row in self.frame.to_dict("records"):
            d = METRICS[row["metric"]].digits
            difference, low, high = (f"{row[c]:+.{d}f}" for c in ("difference", "low", "high"))
            effect, e_low, e_high = (f"{row[c]:+.2f}" for c in ("effect", "effect_low", "effect_high"))
            rows.append(
                {
                    "group": row["group"],
                    "metric": row["title"],
                    b: f"{row['b']:.{d}f}",
                    a: f"{row['a']:.{d}f}",
                    "difference (95 % interval)": f"{difference} ({low} to {high})",
                    "effect size (95 % interval)": f"{effect} ({e_low} to {e_high})",
                    "p, Holm": f"{row['p_holm']:.3f}",
                    "could be seen from": "identical" if identical(row) else f"{row['detectable']:.{d}f}",
                    "best floor": f"{row['floor_value']:.{d}f} ({row['floor']})",
                    "verdict": row["verdict"],
                }
            )
        return pd.DataFrame(rows).set_index(["group", "metric"])

    def __str__(self) -> str:
        return self.table.to_string()

    def _repr_html_(self) -> str:
        return self.table.to_html()

    def row(self, metric: str) -> dict[str, Any]:
        """What is known of one metric."""
        return dict(self.frame.set_index("metric").loc[metric])

    def of(self, *groups: str) -> Comparison:
        """Only the metrics of some groups."""
        return Comparison(self.frame[self.frame["group"].isin(groups)].reset_index(drop=True), self.names)

    def answer(self, what: str = "the contrastive loss") -> str:
        """In words, chosen by the numbers: in which groups of metrics something changed, and in which nothing did."""
        groups: dict[str, list[str]] = {}
        for group, found in zip(self.frame["group"], self.frame["verdict"], strict=True):
            groups.setdefault(group, []).append(found)
        changed = [
            " and ".join(f"{f.count(v)} of {len(f)} {g} metrics" for g, f in groups.items() if v in f) + f" get {v}"
            for v in ("better", "worse")
            if any(v in f for f in groups.values())
        ]
        same = [f"{g} ({len(f)})" for g, f in groups.items() if set(f) == {"no difference"}]
        said = f"With {what}, all else equal, {'; '.join(changed) or 'no metric changes measurably'}."
        return f"{said} No difference is seen in: {', '.join(same)}." if same and changed else said

    def sentences(self) -> list[str]:
        """One sentence a group of metrics, about the metric whose change is clearest there."""
        return [self._sentence(rows) for _, rows in self.frame.groupby("group", sort=False)]

    def _sentence(self, rows: pd.DataFrame) -> str:
        if all(identical(row) for row in rows.to_dict("records")):
            group = str(rows["group"].iloc[0]).capitalize()
            return f"{group}: both arms score exactly the same in every story."
        size = (rows["difference"] / rows["detectable"].where(rows["detectable"] > 0)).abs().fillna(0)
        clear = rows[rows["verdict"] != "no difference"]
        row = rows.loc[(size[clear.index] if len(clear) else size).idxmax()].to_dict()
        d = METRICS[row["metric"]].digits
        title, difference, low, high = row["title"], *(f"{row[c]:+.{d}f}" for c in ("difference", "low", "high"))
        counted = f"{len(clear)} of {len(rows)} metrics differ" if len(clear) else "no difference seen in any metric"
        head = f"{str(row['group']).capitalize()}: {counted}"
        if len(clear):
            text = f"{head}; clearest is {title}, {row['verdict']} by {difference} (95 % interval {low} to {high})"
        else:
            text = f"{head}; {title} comes nearest, with {difference} (95 % interval {low} to {high})"
            text += f", where {row['detectable']:.{d}f} would have been seen four times in five"
        metric = METRICS[row["metric"]]
        beats = metric.merit(row["a"]) > metric.merit(row["floor_value"])
        floor = f"{row['floor_value']:.{d}f}, {row['floor']}"
        return f"{text}. At {row['a']:.{d}f} it is {'' if beats else 'not '}better than its best floor ({floor})."


def identical(row: Mapping[Any, Any]) -> bool:
    """Whether the arms score the same in every story: then nothing can be said of what could have been seen."""
    return all(row[key] == 0 for key in ("difference", "low", "high", "detectable"))


def compare(
    a: Run | Sequence[Run], b: Run | Sequence[Run], names: tuple[str, str] = ("a", "b"), draws: int = DRAWS
) -> Comparison:
    """Run or arm ``a`` minus ``b`` on every metric that both have, paired by seed and window.

    Arms are paired by their seeds; two single runs are paired whatever their seeds are. Raises RunError where the
    windows differ: other stories, another split or other seeds.
    """
    tables = [_rows(arm) for arm in (a, b)]
    ours, theirs = (t[t["predictor"] == MODEL].sort_values(KEYS, ignore_index=True) for t in tables)
    if not ours[KEYS].equals(theirs[KEYS]):
        raise RunError("the two arms were not evaluated on the same seeds and windows, so they cannot be paired")
    rows = []
    for name, metric in METRICS.items():
        values = metric.value(ours), metric.value(theirs)
        floors = _floors(tables[1], name)
        if values[0] is None or values[1] is None or not floors:
            continue
        found = paired_difference(metric.sums(ours), metric.sums(theirs), metric.reduce, draws)
        floor = best_floor(floors, metric)
        rows.append(
            {
                "metric": name, "title": metric.title, "group": metric.group, "a": values[0], "b": values[1],
                "difference": found.value, "low": found.low, "high": found.high, "p": found.p, "effect": found.effect,
                "effect_low": found.effect_low, "effect_high": found.effect_high, "found": found,
                "floor": floor, "floor_value": floors[floor],
            }
        )  # fmt: skip
    if not rows:
        raise RunError("the two arms have no metric in common")
    frame = pd.DataFrame(rows)
    frame["detectable"] = [f.detectable(len(rows)) for f in frame.pop("found")]
    frame["p_holm"] = holm(frame["p"].to_numpy(float))
    said = ("a", "b", "low", "high", "p_holm")
    frame["verdict"] = [verdict(METRICS[r["metric"]], *(r[c] for c in said)) for r in frame.to_dict("records")]
    return Comparison(frame, names)


def _rows(arm: Run | Sequence[Run]) -> pd.DataFrame:
    if isinstance(arm, Run):
        return arm.per_window.assign(seed=0)
    return pd.concat([r.per_window.assign(seed=r.config.train.seed) for r in arm], ignore_index=True)


def _floors(rows: pd.DataFrame, metric: str) -> dict[str, float]:
    groups = rows[rows["predictor"] != MODEL].groupby("predictor", sort=False)
    values = {str(name): METRICS[metric].value(part) for name, part in groups}
    return {name: value for name, value in values.items() if value is not None}
