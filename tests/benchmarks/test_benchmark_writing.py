"""The record of the ways to write."""

from __future__ import annotations

import json

from benchmarks import writing


def test_every_way_is_scored_beside_copying(tiny_runs, tiny_data, tmp_path, monkeypatch):
    run = tiny_runs[1.0, 0]
    monkeypatch.setattr(writing, "configure", lambda *arguments, **options: run.config)
    monkeypatch.setattr(writing, "prepare", lambda config: tiny_data)
    monkeypatch.setattr(writing, "train", lambda config, data: run)
    monkeypatch.setattr(writing, "project_root", lambda: tmp_path)
    monkeypatch.setattr(writing, "EVERY", 2)
    writing.main()
    record = json.loads((tmp_path / "results" / "ideas" / "writing.json").read_text())
    assert record["validation windows"] == 2 and record["run"] == run.id
    rows = {row["way"]: row for row in record["rows"]}
    assert [*rows] == ["copy-last", *writing.WAYS]
    assert rows["copy-last"]["length, % of the true texts'"].startswith("100")
    assert len({row["BLEU-4"] + row["chrF"] for row in record["rows"]}) > 2
