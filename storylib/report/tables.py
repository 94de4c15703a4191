"""Published records of several sources at once, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from storylib.experiments.comparison import cells
from storylib.experiments.provenance import RunError, origin
from storylib.experiments.studies import Factor, Study
from storylib.experiments.sweeps import sweep_frame
from storylib.metrics.registry import METRICS, VERDICTS

FACTS = ["off", "on", "difference", "low", "high", "verdict", "matters", "detectable", "chance", "candidates"]


def load_records(studies: Sequence[Study], sources: Sequence[str], *profiles: str) -> tuple[dict[str, Any], str]:
    """Published records by kind and source, and a list in Markdown of their origins and of what is missing.

    profiles: in order of preference; of a source and kind the first that is published is taken.
    """
    records: dict[str, Any] = {study.kind: {} for study in studies}
    lines = []
    for study in studies:
        for source in sources:
            published = (profile for profile in profiles if study.path(source, profile).exists())
            try:
                record = records[study.kind][source] = study.load(source, next(published, profiles[0]))
                lines.append(f"- {study.kind}: {origin(record)}")
            except RunError as error:
                lines.append(f"- {study.kind}: {error}")
    return records, "\n".join(lines)


def sweep_rows(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The points of several sweep records, as by ``sweep_frame``, with the source of each. records: by source."""
    frames = [sweep_frame(record).assign(source=source.replace("_", " ")) for source, record in records.items()]
    columns = ["source", "sweep", "value", "metric", "verdict", "detectable"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def facts(rows: pd.DataFrame, **place: str) -> dict[str, Any]:
    """FACTS of the first row at a place, such as ``metric="image_mrr"``; NaN and "not measured" where there is none."""
    for column, value in place.items():
        rows = rows[rows[column] == value]
    found = rows.rename(columns={"a": "on", "b": "off"}).reindex(columns=FACTS).to_dict("records")
    row = found[0] if found else dict.fromkeys(FACTS, float("nan"))
    return row if isinstance(row["verdict"], str) and row["verdict"] else row | {"verdict": "not measured"}


def arms(rows: pd.DataFrame, metrics: Sequence[str], factor: Factor, sweep: str, value: str) -> pd.DataFrame:
    """One row per source and metric of a point: both arms, their difference, baselines, and a primary's verdict."""
    here = rows[(rows["sweep"] == sweep) & (rows["value"] == value) & rows["metric"].isin(metrics)]
    renamed = here.rename(columns={"on": "a", "off": "b"}).to_dict("records")
    shown = [{"source": row["source"]} | cells(row, factor) for row in renamed]
    return pd.DataFrame(shown).set_index(["source", "metric"]) if shown else pd.DataFrame()


def verdict_counts(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """In how many settings an endpoint gets each verdict, and the median smallest detectable difference."""
    chosen = rows[rows["metric"].isin(metrics) & rows["verdict"].ne("")]
    index = [chosen["source"], chosen["metric"].map(lambda name: METRICS[name].title)]
    counts = pd.crosstab(index, chosen["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    detectable = chosen.groupby(index)["detectable"].median().astype(float)  # of type object where there is no row
    return counts.assign(**{"smallest detectable (median)": detectable.round(3)})
