"""Tables of published records say what the records hold, and what is missing."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from storylib.experiments.comparison import Comparison
from storylib.experiments.studies import Factor
from storylib.report import tables

METRIC, TITLE = "cross_modal_recall@10", "cross-modal retrieval, recall@10"
ENTRY = {
    "off": {"value": 2.6, "interval": [2, 3]},
    "on": {"value": 9.4, "interval": [7, 12]},
    "baselines": {"chance": 2.3, "linear map": 9.9},
    "candidates": 433.2,
} | {"difference": 6.8, "low": 4.0, "high": 9.7, "low90": 4.4, "high90": 9.2, "matters": 5, "p_holm": 0.01}


def record(*verdicts):
    entries = [ENTRY | {"verdict": verdict, "detectable": 3.0} for verdict in verdicts]
    points = [{"sweep": "weight", "value": str(i), "metrics": {METRIC: entry}} for i, entry in enumerate(entries)]
    return {"points": points}


@pytest.fixture
def rows():
    return tables.sweep_rows({"real_ones": record("undetermined", "better"), "drawn": record("better", "better")})


def test_verdicts_are_counted_per_source(rows):
    counts = tables.verdict_counts(rows, [METRIC])
    real, drawn = (counts.loc[(source, TITLE)] for source in ("Real ones", "Drawn"))
    assert (real["better"], real["undetermined"], real["worse"], drawn["better"]) == (1, 1, 0, 2)
    assert tables.verdict_counts(rows.assign(verdict=""), [METRIC]).empty  # exploratory
    assert real["smallest detectable (median)"] == 3


def test_a_system_has_a_row_per_arm_below_chance_and_the_best_baseline():
    def arm(value):
        entry = ENTRY["on"] | {"value": value, "baselines": ENTRY["baselines"], "best_baseline": "linear map"}
        return {METRIC: entry}

    record = {"preset": "system_b", "scores": {"contrastive-on": arm(9.4), "contrastive-off": arm(2.6)}}
    records = {
        "books, system_b": record,
        "tales": record | {"preset": "storyteller"},
        "books": {"preset": "storyteller"},
    }
    table = tables.systems(records, "books", [METRIC, "meteor"])
    assert table[TITLE].to_dict() == {
        "chance": "2.3",
        "best baseline": "9.9 (linear map)",
        "System B, with the contrastive loss": "9.4 (7.0 to 12.0)",
        "System B, without the contrastive loss": "2.6 (7.0 to 12.0)",
        "Storyteller, with the contrastive loss": "not predicted",
        "Storyteller, without the contrastive loss": "not predicted",
    }
    assert (
        tables.label("picture_books, system_a") == "Picture books, System A"
        and tables.label("storyworld") == "Storyworld"
    )


def test_a_sentence_says_what_changed_or_that_it_was_not_measured():
    row = {"metric": METRIC, "a": 9.4, "b": 2.6, "baseline_value": 9.9, "baseline": "linear map"}
    row |= {key: ENTRY[key] for key in ("difference", "low", "high")} | {"verdict": "better", "detectable": 3.0}
    comparison = Comparison(pd.DataFrame([row]), Factor("dropout", ("a", "b")))
    assert tables.sentence(comparison, METRIC) == {
        "change": "2.6 → 9.4",
        "difference": "+6.8 (+4.0 to +9.7)",
        "verdict": "better",
        "detectable": "3.0",
        "baseline": "9.9 (linear map)",
    }
    assert (
        set(tables.sentence(comparison, "meteor").values())
        == {"not measured"}
        == set(tables.sentence(None, METRIC).values())
    )


def test_records_of_further_profiles_have_names_of_their_own(monkeypatch):
    def found(source, profile, preset=""):
        return {"source": source, "profile": profile}

    study = SimpleNamespace(kind="sweeps", name=lambda source, profile, *_: f"{source}-{profile}", load=found)
    published = {"drawn-quick": found("drawn", "quick"), "drawn-small": found("drawn", "small")}
    monkeypatch.setattr(tables, "published", published.get)
    records, origins = tables.load_records([study], ["drawn"], "full", "quick", also=["small", "large"])
    assert records == {"sweeps": {"drawn": published["drawn-quick"], "drawn, small": published["drawn-small"]}}
    assert [line.split(": ")[0] for line in origins.splitlines()] == ["- sweeps"] * 2 and "drawn, small" in origins
