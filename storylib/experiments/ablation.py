"""The ablation: two arms that were trained elsewhere, compared. Nothing here trains or encodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, seeds
from storylib.experiments.comparison import Comparison, compare
from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run, describe
from storylib.experiments.studies import ABLATION, Factor, ablation_factor
from storylib.metrics.registry import METRICS

FACTS = ("source", "profile", "seeds", "arms", "test_stories", "test_windows")


@dataclass(frozen=True)
class Ablation:
    """The first arm against the second: the paired table, the runs behind it, and on what they were evaluated."""

    comparison: Comparison
    runs: pd.DataFrame  # as by ``describe``
    facts: dict[str, Any]  # source, profile, seeds, arms, test_stories, test_windows
    published: dict[str, Any] | None = None  # the published record; None if this was computed from runs of this code


def load_ablation(
    source: str = "storyworld", profile: str = "quick", on: str | None = None, off: str | None = None
) -> Ablation:
    """Arm ``on`` minus arm ``off``, from the runs of this code and these data if they are all here.

    Otherwise from the published record, which then stands in ``Ablation.published``; there is one of the arms that
    experiments.yml names under ``ablation``, the default. Raises RunError, which says how to make what is missing.
    """
    from storylib.data.encoders import EncoderError
    from storylib.sources import SourceError

    planned = ablation_factor()
    factor = ablation_factor((on or planned.arms[0], off or planned.arms[1]))
    try:
        return compute(source, profile, factor)
    except (RunError, SourceError, EncoderError):
        if factor != planned or not ABLATION.published(source, profile).exists():
            raise
    return from_record(ABLATION.load(source, profile))


def compute(source: str, profile: str, factor: Factor) -> Ablation:
    """The comparison of finished runs, found by their ids. Raises RunError, which names a run that is missing."""
    first, second = (_runs(source, profile, arm) for arm in factor.arms)
    data = first[0].record["data"]
    facts = {
        "source": source,
        "profile": profile,
        "seeds": seeds(profile),
        "arms": list(factor.arms),
        "test_stories": data["stories"]["test"],
        "test_windows": data["windows"]["test"],
    }
    return Ablation(compare(first, second, factor), describe([*first, *second]), facts)


def _runs(source: str, profile: str, arm: str) -> list[Run]:
    from storylib.experiments.runs import find_run

    return [find_run(configure(profile, arm, source=source, seed=seed)) for seed in seeds(profile)]


def from_record(record: Mapping[str, Any]) -> Ablation:
    """The ablation that a published record holds."""
    frame = pd.DataFrame(record["metrics"])
    frame[["effect", "effect_low", "effect_high"]] = frame[["effect", "effect_low", "effect_high"]].astype(float)
    frame["title"] = [METRICS[name].title for name in frame["metric"]]
    runs = pd.DataFrame(record["runs"]).set_index("run")
    comparison = Comparison(frame, ablation_factor(record["arms"]))
    return Ablation(comparison, runs, {key: record[key] for key in FACTS}, dict(record))


def publish_ablation(source: str, profile: str) -> Path:
    """Write the record of the planned arms, numbers only. Raises RunError if a run is missing or code uncommitted."""
    ablation = compute(source, profile, ablation_factor())
    record = ABLATION.start(source, profile) | ablation.facts
    record["runs"] = ablation.runs.reset_index().to_dict("records")
    record["metrics"] = json.loads(ablation.comparison.frame.round(6).to_json(orient="records"))
    return ABLATION.save(record)
