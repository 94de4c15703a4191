"""The effect of a leak on a trained model: worked cases, and the command on a small world."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from conftest import tiny_stories

from benchmarks import leaks
from storylib.analysis.leaks import WINDOWS


def window(way: str, seed: int, story: str, seen: bool, model: int, baseline: int) -> list[dict]:
    """Rows of one window: the ranks of both predictors, the same for picture and text."""
    row = {"way": way, "seed": seed, "story": story, "frame": 5, "seen": seen}
    row |= {"image_candidates": 99.0, "text_candidates": 99.0}
    ranks = {"model": float(model), "copy-last": float(baseline)}
    return [row | {"predictor": name, "image_rank": rank, "text_rank": rank} for name, rank in ranks.items()]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """On leaked windows the model always hits and copy-last never; on the others both hit every second time."""
    rows = []
    for seed in (0, 1):
        for i in range(10):
            rank = 1 if i % 2 else 50
            rows += window("story", seed, f"a{i}", True, 1, 50)
            rows += window("story", seed, f"b{i}", False, rank, rank)
            rows += window("group", seed, f"c{i}", False, rank, rank)
    return pd.DataFrame(rows)


def test_recalls_of_the_worked_case(table):
    rows = {(r["split"], r["windows_of"]): r for r in leaks.recalls(table) if r["side"] == "picture"}
    leaked, clean, every = WINDOWS
    assert {key: row["windows"] for key, row in rows.items()} == {
        ("group", every): 20, ("story", every): 40, ("story", leaked): 20, ("story", clean): 20,
    }  # fmt: skip
    assert rows["story", leaked]["model"] == rows["story", leaked]["gain"] == [100, 100, 100]
    assert rows["story", leaked]["copy_last"] == [0, 0, 0]
    assert rows["story", every]["model"][0] == 75 and rows["story", every]["copy_last"][0] == 25
    low, high = rows["group", every]["model"][1:]
    assert low < 50 < high and rows["group", every]["gain"] == [0, 0, 0]


def test_differences_of_the_worked_case(table):
    rows = {(r["difference"], r["side"]): r for r in leaks.differences(table)}
    assert len(rows) == 4
    assert rows["seen less not seen", "text"]["gain"] == [100, 100, 100]
    assert rows["seen less not seen", "text"]["copy_last"][0] == -50
    value, low, high = rows["random less leak-free", "picture"]["gain"]
    assert value == 50 and 20 < low < 50 < high < 80
    none_seen = table.assign(seen=False)
    assert {r["difference"] for r in leaks.differences(none_seen)} == {"random less leak-free"}
    assert len(leaks.recalls(none_seen)) == 6  # no row for a group without windows


def test_windows_that_are_not_paired_are_refused(table):
    with pytest.raises(ValueError, match="not paired"):
        leaks.recalls(table.iloc[1:])


def test_the_command_on_a_small_world(tmp_path, monkeypatch, stub_encoders, cache):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(leaks, "load_stories", lambda *arguments, **options: tiny_stories())
    path = tmp_path / "leaks.json"
    arguments = ["--source", "storyworld", "--seeds", "3", "--epochs", "1", "--record", str(path)]
    leaks.main(arguments)
    record = json.loads(path.read_text())
    assert record["command"].endswith(" ".join(arguments)) and record["seeds"] == [3] and record["commit"]
    assert {row["split"] for row in record["rows"]} == {"group", "story"}
    configs = [json.loads(run.read_text())["config"] for run in (tmp_path / "runs").glob("*/run.json")]
    assert len(configs) == 2
    for config in configs:
        assert (config["text_weight"], config["image_weight"], config["split_seed"], config["seed"]) == (0, 0, 3, 3)
