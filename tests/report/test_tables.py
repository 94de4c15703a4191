"""Tables of published records say what the records hold, and what is missing."""

from __future__ import annotations

import math

import pytest

from storylib.experiments.studies import SWEEPS, Factor
from storylib.report import tables

METRIC = "image_to_text_recall@10"
ENTRY = {
    "off": {"value": 2.6, "interval": [2, 3]},
    "on": {"value": 9.4, "interval": [7, 12]},
    "baselines": {"chance": 2.3, "linear map": 9.9},
} | {"difference": 6.8, "low": 4.0, "high": 9.7, "p_holm": 0.01, "detectable": 3.0}


def record(*verdicts):
    points = [{"sweep": "weight", "value": str(i), "metrics": {METRIC: ENTRY | {"verdict": verdict}}}
              for i, verdict in enumerate(verdicts)]  # fmt: skip
    return {"points": points}


@pytest.fixture
def rows():
    return tables.sweep_rows({"real_ones": record("no difference", "better"), "drawn": record("better", "better")})


def test_a_row_holds_both_arms_the_interval_the_baseline_and_the_verdict(rows):
    table = tables.arms(rows, [METRIC], Factor("dropout", ("a", "b")), "weight", "1")
    row = table.loc[("real ones", "picture to its text, recall@10")]
    assert row.to_dict() == {
        "without": "2.6",
        "with": "9.4",
        "difference (95 % interval)": "+6.8 (+4.0 to +9.7)",
        "best baseline": "9.9 (linear map)",
        "verdict": "better",
    }
    assert len(table) == 2 and tables.arms(rows, [METRIC], Factor("", ("a", "b")), "weight", "9").empty


def test_verdicts_are_counted_per_source(rows):
    counts = tables.verdict_counts(rows, [METRIC])
    real, drawn = (counts.loc[(source, "picture to its text, recall@10")] for source in ("real ones", "drawn"))
    assert (real["better"], real["no difference"], drawn["better"]) == (1, 1, 2)
    assert real["smallest detectable (median)"] == 3


def test_a_point_can_be_glued_and_a_missing_one_is_marked(rows):
    assert tables.point(rows, "real_ones", METRIC, "weight", "1") == {
        "off": 2.6, "on": 9.4, "difference": 6.8, "low": 4.0, "high": 9.7, "verdict": "better",
    }  # fmt: skip
    missing = tables.point(rows, "real_ones", METRIC, "weight", "9")
    assert math.isnan(missing["on"]) and missing["verdict"] == "not measured"


def test_missing_records_are_named_with_the_command_and_give_empty_tables():
    records, origins = tables.load_records([SWEEPS], ["folder", "storyworld"], "full")
    assert "`storylib sweep --source folder --profile full` makes it" in origins and "sweeps: ○" in origins
    assert list(records["sweeps"]) == ["storyworld"]
    empty = tables.sweep_rows({})
    assert tables.verdict_counts(empty, [METRIC]).empty
