"""The presets: trained whole, beside their floors, published only from what is committed."""

from __future__ import annotations

import json

import pytest
from conftest import TINY

from storylib import presets as module
from storylib.ablation import to_publish
from storylib.presets import load_presets, main, preset_table
from storylib.runs import RunError

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **TINY}},
    "presets": {"storyteller": {}, "system_a": {"image_weight": 0.0, "next_embedding": "linear"}},
    "arms": {},
}


@pytest.fixture
def project(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN)
    monkeypatch.setattr(module, "experiments", lambda: PLAN)
    monkeypatch.setattr("storylib.sweeps._prepared", lambda config: tiny_data)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_presets_are_trained_published_and_read_as_a_table(project):
    assert main(["--source", "storyworld", "--profile", "quick"]) == 0
    record = load_presets("storyworld", "quick")
    assert list(record["presets"]) == ["storyteller", "system_a"] and record["seeds"] == [0, 1]
    ours, theirs = record["presets"].values()
    assert {"seed", "commit", "device", "seconds", "peak_memory_mb"} <= set(ours["runs"][0])
    gap = theirs["minus storyteller"]["page_mrr"]
    values = [preset["metrics"]["page_mrr"]["value"] for preset in (theirs, ours)]
    assert gap["difference"] == pytest.approx(values[0] - values[1], abs=1e-5)
    table = preset_table(record, ["page_mrr", "image_l1", "no such metric"])
    assert len(table) == 2 and table.iloc[1]["system_a"] == "not made"
    assert f"{values[1]:.3f}" in table.iloc[0]["storyteller"]
    told = json.dumps(record)
    assert "generation" not in told and len(told) < 100_000  # numbers only


def test_uncommitted_changes_are_not_published(project, monkeypatch, capsys):
    made = {"commit": "0", "dirty": True, "python": "3", "versions": {}, "machine": ""}
    monkeypatch.setattr("storylib.runs.provenance", lambda device: made)
    assert main(["--source", "storyworld", "--profile", "quick"]) == 2
    assert "Commit first" in capsys.readouterr().err
    assert not to_publish("presets", "storyworld", "quick").exists() and not (project / "runs").exists()


def test_a_missing_record_names_the_command(project):
    with pytest.raises(RunError, match=r"python -m storylib\.presets --source folder --profile full"):
        load_presets("folder")
