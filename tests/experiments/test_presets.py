"""The presets: trained completely, beside their baselines, published as numbers only."""

from __future__ import annotations

import json

from conftest import TINY

from storylib.experiments import presets as module
from storylib.experiments import runs as runs_module
from storylib.experiments.presets import preset_table, publish_presets
from storylib.experiments.studies import PRESETS

PLAN = {
    "profiles": {"quick": {"seeds": [0], **TINY, "epochs": 1, "text_weight": 0.0}},
    "presets": {"storyteller": {}, "system_a": {"image_weight": 0.0, "next_embedding": "linear"}},
    "arms": {},
}


def test_presets_are_trained_published_and_read_as_a_table(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN)
    monkeypatch.setattr(module, "experiments", lambda: PLAN)
    monkeypatch.setattr("storylib.experiments.studies.publishable", lambda: {"commit": "c0ffee"})
    monkeypatch.setattr(runs_module, "prepare", lambda config: tiny_data)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    assert publish_presets("storyworld", "quick") == PRESETS.path("storyworld", "quick")
    record = PRESETS.load("storyworld", "quick")
    assert list(record["presets"]) == ["storyteller", "system_a"] and record["seeds"] == [0]
    reference = record["presets"]["storyteller"]
    assert {"seed", "commit", "device", "seconds", "peak_memory_mb"} <= set(reference["runs"][0])
    table = preset_table(record, ["frame_mrr", "image_l1"])
    assert len(table) == 2 and table.iloc[1]["system_a"] == "not predicted"
    entry = reference["metrics"]["frame_mrr"]
    assert table.iloc[0]["storyteller"].startswith(f"{entry['value']:.3f}, {entry['gain']:+.3f} (")
    assert f"among {entry['candidates']:.0f}" in table.index[0]
    assert table["chance"].tolist() == [f"{entry['baselines']['chance']:.3f}", ""]
    text = json.dumps(record)
    assert "generation" not in text and len(text) < 100_000
