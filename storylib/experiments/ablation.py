"""The ablation: two arms that were trained elsewhere, compared. Nothing here trains or encodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, seeds
from storylib.experiments.comparison import COLUMNS, Comparison, compare
from storylib.experiments.provenance import RunError
from storylib.experiments.records import describe
from storylib.experiments.studies import ABLATION, Factor, ablation_factor, check_selection


def load_ablation(
    source: str = "storyworld", profile: str = "quick", on: str | None = None, off: str | None = None
) -> dict[str, Any]:
    """The record of arm ``on`` minus arm ``off``: from the runs of this code and these data, or else the published one.

    Only a published record has a ``commit``, and only the arms of the ablation, the default, have one. Raises RunError.
    """
    from storylib.data.encoders import EncoderError
    from storylib.sources import SourceError

    planned = ablation_factor()
    factor = ablation_factor((on or planned.arms[0], off or planned.arms[1]))
    check_selection(*(configure(profile, arm) for arm in factor.arms))
    try:
        return measured(source, profile, factor)
    except (RunError, SourceError, EncoderError):
        if factor != planned:
            raise
        return ABLATION.load(source, profile)


def measured(source: str, profile: str, factor: Factor) -> dict[str, Any]:
    """The comparison of finished runs, found by their ids. Raises RunError, which names a run that is missing."""
    from storylib.experiments.runs import find_run

    first, second = (
        [find_run(configure(profile, arm, source=source, seed=seed)) for seed in seeds(profile)] for arm in factor.arms
    )
    data = first[0].record["data"]
    return {
        "source": source,
        "profile": profile,
        "seeds": seeds(profile),
        "arms": list(factor.arms),
        "test_stories": data["stories"]["test"],
        "test_windows": data["windows"]["test"],
        "runs": describe([*first, *second]).reset_index().to_dict("records"),
        "metrics": json.loads(compare(first, second, factor).frame.round(6).to_json(orient="records")),
    }


def comparison_of(record: Mapping[str, Any]) -> Comparison:
    """The paired table that a record holds. Verdicts from before there were primary endpoints are left out."""
    frame = pd.DataFrame(record["metrics"]).reindex(columns=COLUMNS)
    frame.loc[frame["matters"].isna(), "verdict"] = ""
    return Comparison(frame, ablation_factor(record["arms"]))


def publish_ablation(source: str, profile: str) -> Path:
    """Write the record of the planned arms. Raises RunError if a run is missing or code uncommitted."""
    factor = ablation_factor()
    check_selection(*(configure(profile, arm) for arm in factor.arms))
    return ABLATION.save(ABLATION.start(source, profile) | measured(source, profile, factor))
