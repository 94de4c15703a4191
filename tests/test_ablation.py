"""The ablation from records: found by what they say, never trained, and the same when published and read again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from conftest import TINY

from storylib import ablation as module
from storylib.ablation import find_run, load_ablation, main, published
from storylib.config import configure
from storylib.findings import Records
from storylib.runs import RunError

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **{k: v for k, v in TINY.items() if k != "device"}}},
    "presets": {},
    "arms": {"contrastive-off": {"contrastive_weight": 0.0}, "contrastive-on": {"contrastive_weight": 1.0}},
}


@pytest.fixture(autouse=True)
def project(tiny_runs, tmp_path, monkeypatch):
    """A project whose runs are the tiny ones, and where training is an error."""

    def never(*_, **__):
        raise AssertionError("something was trained or encoded")

    monkeypatch.setenv("STORYLIB_RUNS", str(tiny_runs[1.0, 0].path.parent))
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setattr(module, "result_folders", lambda kind: [tmp_path / "results" / kind])
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN)
    for name in ("train", "prepare", "evaluate_run", "encode"):
        monkeypatch.setattr(f"storylib.runs.{name}", never)
    return tmp_path


def test_the_arms_are_found_and_compared_without_training(tiny_runs):
    found = load_ablation()
    assert found.facts["seeds"] == [0, 1] and (found.facts["test_stories"], found.facts["test_windows"]) == (4, 8)
    assert set(found.runs.index) == {r.id for r in tiny_runs.values()}
    on = np.mean([tiny_runs[1.0, s].metrics["image_l1"]["value"] for s in (0, 1)])
    assert found.comparison.row("image_l1")["a"] == pytest.approx(on, abs=1e-5)
    assert found.comparison.names == ("with", "without")


def test_a_run_that_is_missing_is_named_with_the_way_to_make_it():
    with pytest.raises(RunError, match=r"contrastive_weight=0.5 and seed=1.*never trains.*make runs SOURCE=storyworld"):
        find_run(configure("quick", contrastive_weight=0.5, seed=1))


def test_a_run_that_was_not_evaluated_does_not_count(tiny_runs, tmp_path, monkeypatch):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text((tiny_runs[1.0, 0].path / "run.json").read_text())
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    with pytest.raises(RunError, match="no evaluated run"):
        find_run(configure("quick", contrastive_weight=1.0, seed=0))


def test_what_is_published_reads_back_and_stands_in_for_runs(project, monkeypatch):
    before = load_ablation()
    assert main(["--source", "storyworld", "--profile", "quick"]) == 0
    record = json.loads(published("ablation", "storyworld", "quick").read_text())
    assert record["command"] == "python -m storylib.ablation --source storyworld --profile quick"
    monkeypatch.setenv("STORYLIB_RUNS", str(project / "nothing"))
    after = load_ablation()
    pd.testing.assert_frame_equal(after.comparison.frame, before.comparison.frame.round(6), check_dtype=False)
    assert after.facts == before.facts and after.runs.index.tolist() == before.runs.index.tolist()
    assert after.comparison.answer() == before.comparison.answer() and str(after.comparison)
    assert main(["--source", "storyworld"]) == 2  # a record is not made from a record


def test_the_findings_tell_a_published_ablation_and_how_to_make_one_that_is_missing(project):
    assert "`make runs SOURCE=storyworld PROFILE=quick` makes it" in Records.of(["storyworld"], "quick").origins()
    assert main([]) == 0
    records = Records.of(["storyworld"], "quick")
    (comparison,) = records.comparisons("text", "picture").values()
    assert set(comparison.frame["group"]) == {"text", "picture"}
    assert records.changes("text", "picture").count("*(storyworld)*") == 2
    assert "- ablation: ○ *Published record, not executed here: storyworld, quick, " in records.origins()


def test_other_arms_are_not_read_from_the_published_record(project, monkeypatch):
    assert main([]) == 0
    monkeypatch.setenv("STORYLIB_RUNS", str(project / "nothing"))
    with pytest.raises(RunError):
        load_ablation(on="contrastive-off", off="contrastive-on")
