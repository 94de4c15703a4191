"""The published systems and ours, each trained completely with every seed and set beside the baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, experiments, seeds
from storylib.experiments.records import Run, describe, pooled_metrics
from storylib.experiments.studies import PRESETS, run_arm
from storylib.metrics.registry import METRICS

KEPT = ("value", "interval", "candidates", "best_baseline", "baselines", "gain", "gain_interval")


def publish_presets(source: str, profile: str) -> Path:
    """Train what is missing and write the record after each preset. Raises RunError if the code is not committed."""
    head = PRESETS.start(source, profile)
    presets: dict[str, Any] = {}
    for name in experiments()["presets"]:
        runs = run_arm([configure(profile, preset=name, source=source, seed=seed) for seed in seeds(profile)])
        presets[name] = measured(runs)
        PRESETS.save(head | {"presets": presets})
        logging.info("%s is done", name)
    return PRESETS.path(source, profile)


def measured(runs: Sequence[Run]) -> dict[str, Any]:
    """Every metric with its interval, its baselines and its gain over the best one; and the runs behind it."""
    data, costs = runs[0].record["data"], describe(runs).reset_index().to_dict("records")
    metrics = {name: {key: entry[key] for key in KEPT} for name, entry in pooled_metrics(runs).items()}
    return {"runs": costs, "encoders": data["encoders"], "windows": data["windows"], "metrics": metrics}


def preset_table(record: Mapping[str, Any], metrics: Sequence[str]) -> pd.DataFrame:
    """One row per metric: chance, the best baseline, and each preset: its value, and by how much it exceeds its own
    best baseline, with the 95 % interval of this difference."""
    rows = []
    for name in metrics:
        metric, row = METRICS[name], {"metric": METRICS[name].title, "chance": "", "best baseline": ""}
        for preset, scores in record["presets"].items():
            row[preset] = "not predicted"  # such as the picture, by a system without an image decoder
            if entry := scores["metrics"].get(name):
                best, baselines, (low, high) = entry["best_baseline"], entry["baselines"], entry["gain_interval"]
                row["metric"] = metric.label(entry.get("candidates"))
                row["chance"] = metric.text(baselines["chance"]) if metric.task else ""
                row["best baseline"] = row["best baseline"] or f"{metric.text(baselines[best])} ({best})"
                gain = metric.interval_text(entry["gain"], low, high, "+")
                row[preset] = f"{metric.text(entry['value'])}, {gain}"
        rows.append(row)
    return pd.DataFrame(rows).set_index("metric")
