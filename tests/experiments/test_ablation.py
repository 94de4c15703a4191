"""The ablation from records: found by id, never trained, named by experiments.yml, and read again as published."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from conftest import TINY, tiny_config

from storylib.experiments import runs as runs_module
from storylib.experiments.ablation import load_ablation, publish_ablation
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import ABLATION, ablation_factor

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **{k: v for k, v in TINY.items() if k != "device"}}},
    "presets": {},
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
    monkeypatch.setattr(runs_module, "_stories", lambda data: (tiny_data.stories, tiny_data.splits))
    monkeypatch.setattr(runs_module, "features_fingerprint", lambda *_: tiny_data.features.fingerprint)
    monkeypatch.setattr(runs_module, "with_available_encoders", lambda config: config)
    for name in ("train", "prepare", "evaluate_run", "encode"):
        monkeypatch.setattr(runs_module, name, never)
    return tmp_path


def test_the_arms_are_found_and_compared_without_training(tiny_runs):
    ablation = load_ablation()
    assert ablation.facts["seeds"] == [0, 1]
    assert (ablation.facts["test_stories"], ablation.facts["test_windows"]) == (4, 8)
    assert set(ablation.runs.index) == {run.id for run in tiny_runs.values()}
    on = np.mean([tiny_runs[1.0, seed].metrics["image_l1"]["value"] for seed in (0, 1)])
    assert ablation.comparison.row("image_l1")["a"] == pytest.approx(on, abs=1e-5)
    assert ablation.comparison.factor == ablation_factor() and ablation.published is None


def test_the_plan_says_what_the_factor_is_called(monkeypatch):
    other = PLAN | {"ablation": {"factor": "an LSTM", "arms": {"with": "lstm", "without": "gru"}, "only_with": []}}
    monkeypatch.setattr("storylib.experiments.studies.experiments", lambda: other)
    assert ablation_factor().labels == ("with an LSTM", "without an LSTM")
    assert ablation_factor(["contrastive-on", "contrastive-off"]).labels == ("contrastive-on", "contrastive-off")


def test_runs_of_older_code_or_other_data_are_not_used(tiny_data, monkeypatch):
    monkeypatch.setattr(runs_module, "features_fingerprint", lambda *_: "other data")
    with pytest.raises(RunError, match="no evaluated run"):
        load_ablation()
    monkeypatch.setattr(runs_module, "features_fingerprint", lambda *_: tiny_data.features.fingerprint)
    monkeypatch.setattr(runs_module, "code_fingerprint", lambda *_: "older code")
    with pytest.raises(RunError, match="no evaluated run"):
        load_ablation()


def test_a_run_that_was_not_evaluated_does_not_count(tiny_runs, tmp_path, monkeypatch):
    folder = tmp_path / "runs" / tiny_runs[1.0, 0].id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text((tiny_runs[1.0, 0].path / "run.json").read_text())
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    with pytest.raises(RunError, match="no evaluated run"):
        runs_module.find_run(tiny_config(contrastive_weight=1.0, seed=0))


def test_the_published_record_reads_back_and_replaces_missing_runs(project, monkeypatch):
    before = load_ablation()
    path = publish_ablation("storyworld", "quick")
    record = json.loads(path.read_text())
    assert path == ABLATION.published("storyworld", "quick") and record == ABLATION.load("storyworld", "quick")
    assert record["command"] == "storylib ablation --source storyworld --profile quick"
    monkeypatch.setenv("STORYLIB_RUNS", str(project / "nothing"))
    after = load_ablation()
    assert after.published == record  # and so its page does not call it executed here
    pd.testing.assert_frame_equal(after.comparison.frame, before.comparison.frame.round(6), check_dtype=False)
    assert after.facts == before.facts and after.runs.index.tolist() == before.runs.index.tolist()
    assert after.comparison.factor == before.comparison.factor and str(after.comparison)
    with pytest.raises(RunError):  # of other arms there is no record
        load_ablation(on="contrastive-off", off="contrastive-on")
    with pytest.raises(RunError):  # nor is a record made from a record
        publish_ablation("storyworld", "quick")
