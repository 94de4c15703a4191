"""Published records of several sources at once, as tables."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from storylib.config import experiments
from storylib.experiments.comparison import Comparison
from storylib.experiments.provenance import RunError, origin
from storylib.experiments.studies import ABLATION, OURS, Study, ablation_factor, published
from storylib.experiments.sweeps import sweep_frame
from storylib.metrics.registry import METRICS, VERDICTS

SAID = ("change", "difference", "verdict", "detectable", "baseline")


def load_records(
    studies: Sequence[Study], sources: Sequence[str], *profiles: str, also: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """Published records by kind and source, and a list in Markdown of their origins and of what is missing of ours.

    The ablation of another preset is at "source, preset", if there is one. profiles: in order of preference; of each
    record the first that is published is taken. also: further profiles, whose records are at "source, profile".
    """
    records: dict[str, Any] = {study.kind: {} for study in studies}
    lines = []
    for study in studies:
        for source, preset in itertools.product(
            sources, experiments().get("presets", [OURS]) if study is ABLATION else [OURS]
        ):
            found = (profile for profile in profiles if published(study.name(source, profile, preset)))
            try:
                record = study.load(source, next(found, profiles[0]), preset)
                records[study.kind][source if preset == OURS else f"{source}, {preset}"] = record
                lines.append(f"- {study.kind}: {origin(record)}")
            except RunError as error:
                lines += [f"- {study.kind}: {error}"] if preset == OURS else []
        for source, profile in itertools.product(sources, also):
            if further := published(study.name(source, profile)):
                records[study.kind][f"{source}, {profile}"] = further
                lines.append(f"- {study.kind}: {origin(further)}")
    return records, "\n".join(lines)


def label(name: str) -> str:
    """A source, "source, preset" or "source, profile", as figures and tables call it: Picture books, System A."""
    source, _, variant = name.partition(", ")
    return ", ".join(filter(None, [source.replace("_", " ").capitalize(), variant.replace("_", " ").title()]))


def systems(records: Mapping[str, Mapping[str, Any]], source: str, metrics: Sequence[str]) -> pd.DataFrame:
    """A row per system and arm, and for chance and the best baseline; a column per metric. records: of ablations."""
    factor = ablation_factor()
    rows: dict[str, dict[str, str]] = {"chance": {}, "best baseline": {}}
    for name, record in records.items():
        preset = record.get("preset", OURS)
        if name not in (source, f"{source}, {preset}"):
            continue
        system = label(f", {preset}")
        for arm, words in zip(factor.arms, factor.labels, strict=True):
            scores = record.get("scores", {}).get(arm, {})
            row = rows[f"{system}, {words}"] = dict.fromkeys(metrics, "not predicted")
            for metric in (METRICS[metric] for metric in metrics if metric in scores):
                entry = scores[metric.name]
                best, baselines = entry["best_baseline"], entry["baselines"]
                row[metric.name] = metric.interval_text(entry["value"], *entry["interval"])
                rows["best baseline"][metric.name] = f"{metric.text(baselines[best])} ({best})"
                rows["chance"][metric.name] = metric.text(baselines["chance"]) if metric.task else ""
    return pd.DataFrame([*rows.values()], [*rows]).fillna("").rename(columns=lambda name: METRICS[name].title)


def shelves(record: Mapping[str, Any]) -> pd.DataFrame:
    """A row per source that is joined in a record's, and for the best baseline on it; a column per metric."""
    rows: dict[str, dict[str, str]] = {}
    for source, shelf in record.get("shelves", {}).items():
        title = source.replace("_", " ").title()
        name = f"{title}, {shelf['test_windows']} windows"
        for metric, entry in ((METRICS[name], entry) for name, entry in shelf["scores"].items()):
            best = entry["best_baseline"]
            rows.setdefault(name, {})[metric.title] = metric.interval_text(entry["value"], *entry["interval"])
            beside = f"{metric.text(entry['baselines'][best])} ({best})"
            rows.setdefault(f"{title}, best baseline", {})[metric.title] = beside
    return pd.DataFrame([*rows.values()], [*rows])


def sweep_rows(records: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The points of several sweep records, as by ``sweep_frame``, with the source of each. records: by source."""
    frames = [sweep_frame(record).assign(source=label(source)) for source, record in records.items()]
    columns = ["source", "sweep", "value", "metric", "verdict", "detectable"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def sentence(comparison: Comparison | None, metric: str) -> dict[str, str]:
    """What a sentence says of an endpoint: the parts of ``SAID`` as texts, "not measured" where there is no record."""
    frame = comparison.frame if comparison else pd.DataFrame(columns=["metric"])
    found = frame[frame["metric"] == metric].to_dict("records")
    if not found:
        return dict.fromkeys(SAID, "not measured")
    row, text = found[0], METRICS[metric].text
    finest = 1 - math.floor(math.log10(row.get("matters") or 1))  # a digit more than the margin has
    precise = replace(METRICS[metric], digits=max(METRICS[metric].digits, finest))
    digits = METRICS[metric].digits + bool(row["detectable"] < 10 ** -METRICS[metric].digits)  # not rounded to zero
    return {
        "change": f"{text(row['b'])} → {text(row['a'])}",
        "difference": precise.interval_text(row["difference"], row["low"], row["high"], "+"),
        "verdict": row["verdict"] or "not judged",
        "detectable": f"{row['detectable']:.{digits}f}",
        "baseline": f"{text(row['baseline_value'])} ({row['baseline']})",
    }


def verdict_counts(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """In how many settings an endpoint gets each verdict, and the median smallest detectable difference."""
    chosen = rows[rows["metric"].isin(metrics) & rows["verdict"].ne("")]
    index = [chosen["source"], chosen["metric"].map(lambda name: METRICS[name].title)]
    counts = pd.crosstab(index, chosen["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
    detectable = chosen.groupby(index)["detectable"].median().astype(float)  # of type object where there is no row
    return counts.assign(**{"smallest detectable (median)": detectable.round(3)})
