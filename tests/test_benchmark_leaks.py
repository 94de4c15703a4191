"""What a leak is worth to a trained model, on worked cases; the command itself, small, to its record."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from benchmarks import leaks
from storylib.leaks import WINDOWS, effect_in_words, trained_effect, trained_record


def scores(way: str, seed: int, story: str, seen: bool, model: int, copied: int) -> list[dict]:
    """Both predictors' ranks of one window, for the picture and the text alike."""
    row = {"way": way, "seed": seed, "story": story, "page": 5, "seen": seen}
    row |= {"image_candidates": 99.0, "text_candidates": 99.0}
    ranks = (("model", float(model)), ("copy-last", float(copied)))
    return [row | {"predictor": name, "image_rank": r, "text_rank": r} for name, r in ranks]


def table() -> pd.DataFrame:
    rows = []
    for seed in (0, 1):
        for i in range(10):  # seen pages: the model hits always, copying never; others: both hit every second
            rows += scores("story", seed, f"a{i}", True, 1, 50)
            rows += scores("story", seed, f"b{i}", False, *([1, 1] if i % 2 else [50, 50]))
            rows += scores("group", seed, f"c{i}", False, *([1, 1] if i % 2 else [50, 50]))
    return pd.DataFrame(rows)


def test_a_worked_case():
    rows = {(r["split"], r["windows_of"]): r for r in leaks.measured(table()) if r["side"] == "picture"}
    leaked, clean, every = WINDOWS
    assert {key: row["windows"] for key, row in rows.items()} == {
        ("group", every): 20, ("story", every): 40, ("story", leaked): 20, ("story", clean): 20,
    }  # fmt: skip
    assert rows["story", leaked]["model"] == rows["story", leaked]["gain"] == [100, 100, 100]
    assert rows["story", leaked]["copy_last"] == [0, 0, 0]
    assert rows["story", every]["model"][0] == 75 and rows["story", every]["copy_last"][0] == 25
    low, high = rows["group", every]["model"][1:]
    assert low < 50 < high and rows["group", every]["gain"] == [0, 0, 0]


def test_differences_of_the_worked_case():
    found = {(r["difference"], r["side"]): r for r in leaks.differences(table())}
    assert len(found) == 4
    assert found["seen less not seen", "text"]["gain"] == [100, 100, 100]
    assert found["seen less not seen", "text"]["copy_last"][0] == -50
    value, low, high = found["random less leak-free", "picture"]["gain"]
    assert value == 50 and 20 < low < 50 < high < 80
    none_seen = table().assign(seen=False)
    assert {r["difference"] for r in leaks.differences(none_seen)} == {"random less leak-free"}
    assert len(leaks.measured(none_seen)) == 6  # no row for windows that there are not


def test_windows_that_are_not_paired_are_refused():
    with pytest.raises(AssertionError, match="not paired"):
        leaks.measured(table().iloc[1:])


def test_the_record_in_a_table_and_in_words():
    record = {"rows": leaks.measured(table()), "differences": leaks.differences(table())}
    shown = trained_effect(record)
    assert shown.loc[("picture", "random by story", WINDOWS[0]), "trained model"] == "100.0 (100.0 to 100.0)"
    said = effect_in_words(record)
    assert said.count(": more.") == 4 and "+100.0 points (+100.0 to +100.0)" in said
    flat = [d | {"gain": [0.1, -1.0, 1.2]} for d in record["differences"]]
    assert effect_in_words({"differences": flat}).count("no measurable difference") == 4


def test_without_a_record_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    assert trained_record() is None


def test_the_command_on_a_small_world(tmp_path, monkeypatch, stub_encoders, cache):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "leaks.json"
    arguments = ["--source", "storyworld", "--stories", "24", "--seeds", "3", "--epochs", "1", "--record", str(path)]
    assert leaks.main(arguments) == 0
    record = json.loads(path.read_text())
    assert record["command"].endswith(" ".join(arguments)) and record["seeds"] == [3] and record["commit"]
    assert {row["split"] for row in record["rows"]} == {"group", "story"}
    for run in (tmp_path / "runs").glob("*/run.json"):
        config = json.loads(run.read_text())["config"]
        assert (config["text_weight"], config["image_weight"], config["split_seed"], config["seed"]) == (0, 0, 3, 3)
    assert len(list((tmp_path / "runs").glob("*/run.json"))) == 2
