"""The published systems and ours, each trained completely with every seed and set beside the baselines."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, experiments, seeds
from storylib.experiments.comparison import compare
from storylib.experiments.records import Run, pooled_metrics
from storylib.experiments.studies import PRESETS, run_arm, run_costs
from storylib.metrics.registry import METRICS, Metric

REFERENCE = "storyteller"  # the preset that the others are compared with
KEPT = ("value", "interval", "best_baseline", "baselines", "gain", "gain_interval", "p_holm", "verdict")


def publish_presets(source: str, profile: str) -> Path:
    """Train what is missing and write the record after each preset. Raises RunError if the code is not committed."""
    head = PRESETS.start(source, profile)
    presets: dict[str, Any] = {}
    reference: list[Run] = []
    for name in sorted(experiments()["presets"], key=lambda name: name != REFERENCE):
        runs = run_arm([configure(profile, preset=name, source=source, seed=seed) for seed in seeds(profile)])
        presets[name] = measured(runs)
        if name == REFERENCE:
            reference = runs
        else:
            presets[name][f"minus {REFERENCE}"] = difference(runs, reference)
        PRESETS.save(head | {"presets": presets})
        logging.info("%s is done", name)
    return PRESETS.to_publish(source, profile)


def measured(runs: Sequence[Run]) -> dict[str, Any]:
    """Every metric with its interval, its baselines and its gain over the best one; and the runs behind it."""
    data = runs[0].record["data"]
    metrics = {name: {key: entry[key] for key in KEPT} for name, entry in pooled_metrics(runs).items()}
    return {"runs": run_costs(runs), "encoders": data["encoders"], "windows": data["windows"], "metrics": metrics}


def difference(runs: Sequence[Run], reference: Sequence[Run]) -> dict[str, Any]:
    """A preset minus the reference by metric, paired by seed and window."""
    columns = ["metric", "difference", "low", "high", "p_holm", "verdict"]
    frame = compare(runs, reference).frame[columns].round(6).set_index("metric")
    by_metric: dict[str, Any] = json.loads(frame.to_json(orient="index"))
    return by_metric


def preset_table(record: Mapping[str, Any], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per metric: its best baseline, and each preset with its 95 % interval; a star marks "better"."""
    rows = []
    for name in metrics:
        entries = {preset: scores["metrics"].get(name) for preset, scores in record["presets"].items()}
        first = next(filter(None, entries.values()), None)
        if first is None:
            continue
        metric, best = METRICS[name], first["best_baseline"]
        row = {"metric": metric.title, "best baseline": f"{metric.text(first['baselines'][best])} ({best})"}
        rows.append(row | {preset: _cell(entry, metric) for preset, entry in entries.items()})
    return pd.DataFrame(rows).set_index("metric")


def _cell(entry: Mapping[str, Any] | None, metric: Metric) -> str:
    if entry is None:
        return "not predicted"  # such as the picture, by a system without an image decoder
    value, low, high = map(metric.text, (entry["value"], *entry["interval"]))
    star = " *" if entry["verdict"] == "better" else ""
    return f"{value} ({low} to {high}){star}"
