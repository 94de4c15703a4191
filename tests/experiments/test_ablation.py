"""The ablation from records: found by id, never trained, named by experiments.yml, and read again as published."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from conftest import TINY

from storylib.experiments import runs as runs_module
from storylib.experiments.ablation import by_shelf, comparison_of, load_ablation, publish_ablation
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import ABLATION, ablation_factor
from storylib.report.tables import shelves as shelves_table

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **{k: v for k, v in TINY.items() if k != "device"}}},
    "presets": {"storyteller": {}},
    "arms": {
        "contrastive-off": {"contrastive_weight": 0.0},
        "contrastive-on": {"contrastive_weight": 1.0},
        "gru": {},
        "lstm": {"temporal": "lstm"},
    },
    "ablation": {
        "factor": "the contrastive loss",
        "arms": {"with": "contrastive-on", "without": "contrastive-off"},
        "only_with": ["contrastive_weight"],
        "endpoints": {"nats_per_word": 0.05, "image_l1": "2 % of copy-last"},
    },
}


@pytest.fixture(autouse=True)
def project(tiny_runs, tiny_data, tmp_path, monkeypatch):
    """A project whose stories and runs are the tiny ones, and where training is an error."""

    def never(*_, **__):
        raise AssertionError("something was trained or encoded")

    monkeypatch.setenv("STORYLIB_RUNS", str(tiny_runs[1.0, 0].path.parent))
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN)
    monkeypatch.setattr("storylib.experiments.studies.experiments", lambda: PLAN)
    monkeypatch.setattr("storylib.experiments.studies.publishable", lambda: {"commit": "c0ffee", "dirty": False})
    installed = tmp_path / "installed" / "storylib" / "experiments" / "studies.py"  # where no record is published
    monkeypatch.setattr("storylib.experiments.studies.__file__", str(installed))
    monkeypatch.setattr(runs_module, "stories_of", lambda data: (tiny_data.stories, tiny_data.splits))
    monkeypatch.setattr(runs_module, "features_fingerprint", lambda *_: tiny_data.features.fingerprint)
    monkeypatch.setattr(runs_module, "with_available_encoders", lambda config: config)
    monkeypatch.setattr("storylib.experiments.ablation.run_arm", lambda arm: [runs_module.find_run(c) for c in arm])
    for name in ("train", "prepare", "evaluate_run", "encode"):
        monkeypatch.setattr(runs_module, name, never)
    return tmp_path


def test_the_arms_are_found_and_compared_without_training(tiny_runs):
    record = load_ablation()
    assert record["seeds"] == [0, 1] and "commit" not in record
    assert (record["test_stories"], record["test_windows"]) == (4, 8)
    assert {run["run"] for run in record["runs"]} == {run.id for run in tiny_runs.values()}
    on = np.mean([tiny_runs[1.0, seed].metrics["image_l1"]["value"] for seed in (0, 1)])
    comparison = comparison_of(record)
    assert comparison.frame.set_index("metric").loc["image_l1", "a"] == pytest.approx(on, abs=1e-5)
    assert comparison.factor == ablation_factor()


def test_a_source_that_joins_several_is_scored_on_each_of_them(tiny_runs, tiny_data, monkeypatch):
    runs = [tiny_runs[1.0, seed] for seed in (0, 1)]
    assert by_shelf(runs) == {}
    shelves = {story.id: "hills" if story.id == "s11" else "plains" for story in tiny_data.stories}
    joined = [dataclasses.replace(story, source=shelves[story.id]) for story in tiny_data.stories]
    monkeypatch.setattr(runs_module, "stories_of", lambda data: (joined, tiny_data.splits))
    record = by_shelf(runs)
    assert {name: shelf["test_windows"] for name, shelf in record.items()} == {"hills": 2, "plains": 6}
    nats = {name: shelf["scores"]["nats_per_word"]["value"] for name, shelf in record.items()}
    rows = pd.concat([run.model_rows for run in runs]).query("story == 's11'")
    assert nats["hills"] == pytest.approx(rows["nll"].sum() / rows["scored_words"].sum(), abs=1e-6) != nats["plains"]
    table = shelves_table({"shelves": record})
    assert table.index.tolist()[:2] == ["Hills, 2 windows", "Hills, best baseline"] and "BLEU-4" in table


def test_verdicts_of_records_without_primary_endpoints_are_left_out():
    """Such records called every metric better, worse or not different, corrected for all of them."""
    row = {"metric": "image_l1", "group": "picture", "a": 0.1, "b": 0.2, "difference": -0.1, "low": -0.2, "high": -0.05}
    row |= {
        "p": 0.001,
        "p_holm": 0.04,
        "detectable": 0.1,
        "verdict": "better",
        "baseline": "mean",
        "baseline_value": 0.3,
    }
    comparison = comparison_of({"arms": ["contrastive-on", "contrastive-off"], "metrics": [row]})
    assert comparison.primary.table.empty and comparison.table["verdict"].tolist() == [""]
    assert comparison.table["difference (95 % interval)"].tolist() == ["-0.100 (-0.200 to -0.050)"]


def test_the_plan_says_what_the_factor_is_called(monkeypatch):
    other = PLAN | {"ablation": {"factor": "an LSTM", "arms": {"with": "lstm", "without": "gru"}, "only_with": []}}
    monkeypatch.setattr("storylib.experiments.studies.experiments", lambda: other)
    assert ablation_factor().labels == ("with an LSTM", "without an LSTM")
    assert ablation_factor(["contrastive-on", "contrastive-off"]).labels == ("contrastive-on", "contrastive-off")


def test_arms_whose_best_epochs_are_selected_by_different_losses_are_refused(monkeypatch):
    """Also where a record of the planned arms is published."""
    publish_ablation("storyworld", "quick")
    text_off = PLAN["arms"] | {"contrastive-off": {"contrastive_weight": 0.0, "text_weight": 0.0}}
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN | {"arms": text_off})
    for compare_arms in (load_ablation, lambda: publish_ablation("storyworld", "quick")):
        with pytest.raises(RunError, match="Only one of the two arms has these losses on: text"):
            compare_arms()


def test_the_published_record_reads_back_and_replaces_missing_runs(project, monkeypatch):
    before = load_ablation()
    path = publish_ablation("storyworld", "quick")
    record = json.loads(path.read_text())
    assert path == ABLATION.path("storyworld", "quick") and record == ABLATION.load("storyworld", "quick")
    assert record["command"] == "storylib ablation --source storyworld --profile quick"
    assert before.items() <= record.items() and "commit" in record  # so its page does not call it executed here
    monkeypatch.setenv("STORYLIB_RUNS", str(project / "nothing"))
    assert load_ablation() == record
    table, factor = comparison_of(record).table, comparison_of(record).factor
    assert len(table) == len(record["metrics"]) and factor == ablation_factor()
    assert table["verdict"].ne("").sum() == len(comparison_of(record).primary.table) == 2
    pd.testing.assert_frame_equal(comparison_of(record).frame, comparison_of(before).frame)
    with pytest.raises(RunError):  # of other arms there is no record
        load_ablation(on="contrastive-off", off="contrastive-on")
