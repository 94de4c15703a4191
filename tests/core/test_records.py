"""The record of a run, read from its files, and several runs together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from storylib.experiments.provenance import RunError, origin
from storylib.experiments.records import Run, describe, load_run, pooled_metrics


@pytest.fixture(scope="module")
def arms(tiny_runs):
    return [tiny_runs[1.0, seed] for seed in (0, 1)], [tiny_runs[0.0, seed] for seed in (0, 1)]


def test_generations_are_kept_by_story_and_frame(tiny_runs, tiny_data):
    run = tiny_runs[1.0, 0]
    lines = [json.loads(line) for line in (run.path / "generations.jsonl").read_text().splitlines()]
    assert [(r["story"], r["frame"]) for r in lines] == [(s.id, n) for s in tiny_data.splits.test for n in (5, 6)]
    assert "generation" not in run.per_window
    rows = run.model_rows.dropna(subset=["generation"])
    assert len(rows) == 8 and len(run.model_rows) == 24
    assert rows[["story", "frame", "generation"]].to_dict("records") == lines


def test_generated_numbers_stay_texts(tmp_path):
    (tmp_path / "generations.jsonl").write_text('{"story": "0012", "frame": 5, "generation": "7"}\n')
    assert Run(tmp_path).generations.to_dict("records") == [{"story": "0012", "frame": 5, "generation": "7"}]


def test_a_run_is_loaded_by_its_id_or_the_nearest_is_named(tiny_runs, monkeypatch):
    run = tiny_runs[1.0, 0]
    monkeypatch.setenv("STORYLIB_RUNS", str(run.path.parent))
    assert load_run(run.id) == run
    with pytest.raises(RunError, match=f"Did you mean '{run.id}'"):
        load_run(run.id[:-1])
    (run.path.parent / "unfinished").mkdir(exist_ok=True)
    with pytest.raises(RunError, match="Unknown run 'unfinished'"):
        load_run("unfinished")


@pytest.mark.parametrize("name", ["metrics", "per_window", "generations"])
def test_a_run_that_is_not_evaluated_names_the_function_to_call(tmp_path, name):
    with pytest.raises(RunError, match=r"has not been evaluated yet: call storylib.experiments.runs.evaluate_run"):
        getattr(Run(tmp_path), name)


def test_pooled_metrics_are_those_of_all_seeds(arms):
    runs, _ = arms
    pooled, single = pooled_metrics(runs), [run.metrics for run in runs]
    assert set(pooled) == set(single[0])
    for name in ("image_recall@10", "image_l1", "rouge_l", "image_to_text_mrr"):
        assert pooled[name]["value"] == pytest.approx(np.mean([m[name]["value"] for m in single]), abs=1e-5)
        assert pooled[name]["baselines"].keys() == single[0][name]["baselines"].keys()
        for baseline, value in pooled[name]["baselines"].items():  # a baseline has no seed
            assert value == pytest.approx(single[0][name]["baselines"][baseline], abs=1e-5)


def test_runs_are_described_by_their_records(arms):
    table = describe([*arms[0], *arms[1]])
    assert table.index.tolist() == [run.id for arm in arms for run in arm] and table["seed"].tolist() == [0, 1, 0, 1]
    assert {"commit", "dirty", "device", "seconds", "peak_memory_mb", "best_epoch", "data"} <= set(table)
    assert table["commit"].str.len().max() <= 8


def test_the_origin_of_a_number_is_shown():
    record = {"source": "african_storybook", "profile": "full", "seeds": [0, 1], "commit": "0123456789abcdef"}
    assert origin() == "● *Executed in this build.*"
    expected = "○ *Published record, not executed here: african_storybook, full, 2 seeds, commit `01234567`.*"
    assert origin(record) == expected
