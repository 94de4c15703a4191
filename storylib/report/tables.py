"""Published records of several sources at once, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from storylib.experiments.provenance import RunError, origin
from storylib.experiments.studies import Factor, Study
from storylib.experiments.sweeps import sweep_frame
from storylib.metrics.registry import METRICS, VERDICTS

HEADLINE = ("off", "on", "difference", "low", "high")


def load_records(studies: Sequence[Study], sources: Sequence[str], profile: str) -> tuple[dict[str, Any], str]:
    """Published records by kind and source, and a list in Markdown of their origins and of what is missing."""
    records: dict[str, Any] = {study.kind: {} for study in studies}
    lines = []
    for study in studies:
        for source in sources:
            try:
                record = records[study.kind][source] = study.load(source, profile)
                lines.append(f"- {study.kind}: {origin(record)}")
            except RunError as error:
                lines.append(f"- {study.kind}: {error}")
    return records, "\n".join(lines)


def sweep_rows(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The points of several sweep records, as by ``sweep_frame``, with the source of each. records: by source."""
    frames = [sweep_frame(record).assign(source=source.replace("_", " ")) for source, record in records.items()]
    columns = ["source", "sweep", "value", "metric", "verdict", "detectable"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def point(rows: pd.DataFrame, source: str, metric: str, sweep: str, value: str) -> dict[str, Any]:
    """One point of ``sweep_rows``: both arms, their difference with its interval, and the verdict; NaN if missing."""
    here = (rows["source"] == source.replace("_", " ")) & (rows["metric"] == metric)
    matches = rows[here & (rows["sweep"] == sweep) & (rows["value"] == value)].to_dict("records")
    if not matches:
        return dict.fromkeys(HEADLINE, float("nan")) | {"verdict": "not measured"}
    return {key: matches[0][key] for key in (*HEADLINE, "verdict")}


def arms(rows: pd.DataFrame, metrics: Sequence[str], factor: Factor, sweep: str, value: str) -> pd.DataFrame:
    """One row per source and metric of a point: both arms, their difference, the best baseline, and the verdict."""
    here = rows[(rows["sweep"] == sweep) & (rows["value"] == value) & rows["metric"].isin(metrics)]
    cells = {}
    for row in here.to_dict("records"):
        metric = METRICS[row["metric"]]
        cells[row["source"], row["title"]] = {
            factor.words[1]: metric.text(row["off"]),
            factor.words[0]: metric.text(row["on"]),
            "difference (95 % interval)": metric.interval_text(row["difference"], row["low"], row["high"], "+"),
            "best baseline": f"{metric.text(row['baseline_value'])} ({row['baseline']})",
            "verdict": row["verdict"],
        }
    return pd.DataFrame.from_dict(cells, orient="index").rename_axis(["source", "metric"] if cells else None)


def verdict_counts(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """In how many settings of the sweeps a metric gets each verdict, and the median smallest detectable difference."""
    chosen = rows[rows["metric"].isin(metrics)]
    index = [chosen["source"], chosen["metric"].map(lambda name: METRICS[name].title)]
    counts = pd.crosstab(index, chosen["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    detectable = chosen.groupby(index)["detectable"].median().astype(float)  # of type object where there is no row
    return counts.assign(**{"smallest detectable (median)": detectable.round(3)})
