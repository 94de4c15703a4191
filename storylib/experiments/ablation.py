"""The ablation: two arms of a preset, compared. Only ``publish_ablation`` trains what is missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, seeds
from storylib.experiments.comparison import COLUMNS, Comparison, compare
from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run, describe, pooled_metrics, pooled_rows
from storylib.experiments.studies import ABLATION, OURS, Factor, ablation_factor, check_selection, run_arm
from storylib.metrics.summary import summarise

SCORED = ("value", "interval", "candidates", "best_baseline", "baselines", "gain", "gain_interval")  # of each arm
ON_SHELVES = ("nats_per_word", "context_gap_per_word", "bleu", "meteor", "distinct_2")  # of the words


def load_ablation(
    source: str = "storyworld", profile: str = "quick", on: str | None = None, off: str | None = None
) -> dict[str, Any]:
    """The record of arm ``on`` minus arm ``off``: from the runs of this code and these data, or else the published one.

    Only a published record has a ``commit``, and only the arms of the ablation, the default, have one. Raises RunError.
    """
    from storylib.data.encoders import EncoderError
    from storylib.experiments.runs import find_run
    from storylib.sources import SourceError

    planned = ablation_factor()
    factor = ablation_factor((on or planned.arms[0], off or planned.arms[1]))
    check_selection(*(configure(profile, arm) for arm in factor.arms))
    try:
        first, second = (
            [find_run(configure(profile, arm, source=source, seed=seed)) for seed in seeds(profile)]
            for arm in factor.arms
        )
    except (RunError, SourceError, EncoderError):
        if factor != planned:
            raise
        return ABLATION.load(source, profile)
    return {"source": source, "profile": profile, "seeds": seeds(profile)} | measured(first, second, factor)


def publish_ablation(source: str, profile: str, preset: str = OURS) -> Path:
    """Train what is missing of the planned arms and write the record. Raises RunError if the code is not committed."""
    head, factor = ABLATION.start(source, profile, preset), ablation_factor()
    check_selection(*(configure(profile, arm, preset) for arm in factor.arms))
    arms = [
        [configure(profile, arm, preset, source=source, seed=seed) for seed in seeds(profile)] for arm in factor.arms
    ]
    first, second = map(run_arm, arms)
    return ABLATION.save(head | measured(first, second, factor) | {"shelves": by_shelf(first)})


def measured(first: Sequence[Run], second: Sequence[Run], factor: Factor) -> dict[str, Any]:
    """The comparison of two arms, and the scores of each with its intervals and baselines."""
    data = first[0].record["data"]
    scores = {arm: pooled_metrics(runs) for arm, runs in zip(factor.arms, (first, second), strict=True)}
    return {
        "arms": list(factor.arms),
        "encoders": data["encoders"],
        "test_stories": data["stories"]["test"],
        "test_windows": data["windows"]["test"],
        "runs": describe([*first, *second]).reset_index().to_dict("records"),
        "metrics": json.loads(compare(first, second, factor).frame.round(6).to_json(orient="records")),
        "scores": {
            arm: {name: {key: entry[key] for key in SCORED} for name, entry in metrics.items()}
            for arm, metrics in scores.items()
        },
    }


def by_shelf(runs: Sequence[Run]) -> dict[str, Any]:
    """Scores of an arm's words on the test stories of each source that is joined in its own; {} if there is but one."""
    from storylib.experiments.runs import stories_of

    source_of = {story.id: story.source for story in stories_of(runs[0].config.data)[0]}
    rows = pooled_rows(runs)
    shelves = {}
    for source, own in rows.groupby(rows["story"].map(source_of)) if len({*source_of.values()}) > 1 else ():
        scores, windows = summarise(own), own[own["tokens"].notna()][["story", "frame"]].drop_duplicates()
        kept = {name: {key: scores[name][key] for key in SCORED} for name in ON_SHELVES if name in scores}
        shelves[str(source)] = {"test_windows": len(windows), "scores": kept}
    return shelves


def comparison_of(record: Mapping[str, Any]) -> Comparison:
    """The paired table that a record holds. Verdicts from before there were primary endpoints are left out."""
    frame = pd.DataFrame(record["metrics"]).reindex(columns=COLUMNS)
    frame.loc[frame["matters"].isna(), "verdict"] = ""
    return Comparison(frame, ablation_factor(record["arms"]))
