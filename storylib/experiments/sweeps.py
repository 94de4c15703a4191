"""Where the factor of the ablation matters: one thing changed at a time in both arms."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from storylib.config import Config, configure, experiments, seeds
from storylib.experiments.comparison import JUDGED, compare
from storylib.experiments.records import Run, describe, pooled_metrics
from storylib.experiments.studies import SWEEPS, ablation_factor, check_selection, run_arm
from storylib.metrics.registry import METRICS, best_baseline

WITHOUT_DECODERS: dict[str, Any] = {"text_weight": 0.0, "image_weight": 0.0, "text_decoder": "gpt2-tiny"}
SHOWN = ("cross_modal_recall@10", "image_to_text_recall@10", "image_to_text_mrr", "image_recall@10", "text_recall@10",
         "frame_mrr", "frame_recall@10", "frame_in_story_mrr", "frame_in_story_recall@1", "alignment",
         "modality_gap")  # fmt: skip
DIFFERENCE = ("difference", "low", "high")
ARMS = ("on", "off")  # keys of the record: the factor's first arm and its second


def points(source: str, profile: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(sweep, value, diff) of each point of ``experiments.yml``. Raises ConfigError or RunError for a wrong point."""
    plan = experiments()
    for sweep, values in (plan.get("sweeps", {}) | plan.get("sweeps_of", {}).get(source, {})).items():
        for value, diff in values.items():
            check_selection(*(configs[0] for configs in arm_configs(source, profile, diff)))
            yield sweep, str(value), dict(diff)


def arm_configs(source: str, profile: str, diff: Mapping[str, Any]) -> list[list[Config]]:
    """The two arms, with the factor and without it: one configuration per seed.

    Without it, the fields that only shape the factor are left out, so that points which change nothing else share runs.
    """
    plan = experiments()
    first, second = (plan["arms"][arm] for arm in ablation_factor().arms)
    shared = {name: value for name, value in diff.items() if name not in plan["ablation"]["only_with"]}
    changes = (first | dict(diff), shared | second)
    configs = [configure(profile, source=source, **WITHOUT_DECODERS | arm) for arm in changes]
    return [[config.replace(seed=seed) for seed in seeds(profile)] for config in configs]


def publish_sweeps(source: str, profile: str, only: Sequence[str] = ()) -> Path:
    """Train what is missing and write the record after each point. Raises RunError if the code is not committed.

    Commands with different sweeps in ``only`` may run side by side: they share runs and the record.
    """
    head = SWEEPS.start(source, profile)
    plan = list(points(source, profile))
    for sweep, value, diff in plan:
        if only and sweep not in only:
            continue
        on, off = (run_arm(configs) for configs in arm_configs(source, profile, diff))
        entry = {"sweep": sweep, "value": value, "diff": diff} | measured(on, off)
        _save_point(head, entry, [(sweep, value) for sweep, value, _ in plan])
        logging.info("%s = %s is done", sweep, value)
    return SWEEPS.path(source, profile)


def _save_point(head: Mapping[str, Any], entry: dict[str, Any], order: Sequence[tuple[str, str]]) -> None:
    """Put one point into the record, in the plan's order; points that are not in the plan any more are dropped."""
    path = SWEEPS.path(head["source"], head["profile"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        earlier = json.loads(path.read_text(encoding="utf-8"))["points"] if path.exists() else []
        by_place = {(point["sweep"], point["value"]): point for point in [*earlier, entry]}
        SWEEPS.save({**head, "points": [by_place[place] for place in order if place in by_place]})


def measured(on: Sequence[Run], off: Sequence[Run]) -> dict[str, Any]:
    """The shown metrics of both arms with intervals and baselines, their paired difference, and a primary's verdict."""
    scores = dict(zip(ARMS, (pooled_metrics(on), pooled_metrics(off)), strict=True))
    compared = compare(on, off, ablation_factor()).frame.set_index("metric")
    entries: dict[str, Any] = {}
    for metric in (name for name in SHOWN if name in compared.index):
        row = compared.loc[metric]
        entry: dict[str, Any] = {arm: {k: scores[arm][metric][k] for k in ("value", "interval")} for arm in ARMS}
        entry["baselines"] = scores["on"][metric]["baselines"]
        entry |= json.loads(row[[*DIFFERENCE, "candidates", *JUDGED]].dropna().to_json(double_precision=6))
        entries[metric] = entry
    costs = {arm: describe(runs).reset_index().to_dict("records") for arm, runs in zip(ARMS, (on, off), strict=True)}
    return {"runs": costs, "metrics": entries}


def sweep_frame(record: Mapping[str, Any]) -> pd.DataFrame:
    """One row per point and metric of a record.

    Columns: sweep, value, metric; on, on_low, on_high, off, off_low, off_high; of on - off difference, low, high;
    candidates and chance (None if it has none); baseline and baseline_value (the best one); JUDGED of an endpoint.
    """
    rows = []
    for point in record["points"]:
        for name, entry in point["metrics"].items():
            metric, baselines = METRICS[name], entry["baselines"]
            row = {"sweep": point["sweep"], "value": point["value"], "metric": name}
            for arm in ARMS:
                row[arm] = entry[arm]["value"]
                row[f"{arm}_low"], row[f"{arm}_high"] = entry[arm]["interval"]
            best = best_baseline(baselines, metric)
            row |= {key: entry[key] for key in DIFFERENCE} | {"candidates": entry.get("candidates", np.nan)}
            judged = entry if "matters" in entry else {"verdict": ""}  # before there were endpoints, every metric was
            row |= {key: judged.get(key, np.nan) for key in JUDGED}
            row |= {"chance": baselines.get("chance"), "baseline": best, "baseline_value": baselines[best]}
            rows.append(row)
    return pd.DataFrame(rows)
