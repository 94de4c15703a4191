"""The benchmark of influence writes the table that the ablation page reads."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from benchmarks import influence


def test_the_record_holds_every_arm_prediction_and_frame(tmp_path, monkeypatch):
    place = pd.MultiIndex.from_tuples(
        [("with", "next text", "picture"), ("without", "next text", "text")],
        names=["arm", "prediction", "swapped input"],
    )
    table = pd.DataFrame([[0.1, 0.25], [0.3, 1 / 3]], place, pd.RangeIndex(1, 3, name="frame"))
    asked = []
    monkeypatch.setattr(influence, "arm_influences", lambda *arguments: asked.append(arguments) or table)
    influence.main(["--source", "tales", "--seeds", "2", "--record", str(tmp_path / "record.json")])
    record = json.loads((tmp_path / "record.json").read_text())
    assert asked == [("tales", "full", 2)] and record["seeds"] == [0, 1]
    assert record["command"] == "python -m benchmarks.influence --source tales --profile full --seeds 2"
    assert record["rows"] == [
        {"arm": "with", "prediction": "next text", "swapped input": "picture", "1": 0.1, "2": 0.25},
        {"arm": "without", "prediction": "next text", "swapped input": "text", "1": 0.3, "2": 0.333333},
    ]


def test_both_arms_of_the_ablation_are_measured_on_their_own_runs(tiny_runs, tiny_data, monkeypatch):
    found = lambda config: tiny_runs[float(config.train.contrastive_weight > 0), config.train.seed]  # noqa: E731
    monkeypatch.setattr(influence, "find_run", found)
    monkeypatch.setattr(influence, "prepare", lambda config: tiny_data)
    table = influence.arm_influences("storyworld", "quick", 1)
    for arm, weight in (("with", 1.0), ("without", 0.0)):
        pd.testing.assert_frame_equal(table.loc[arm], influence.influence([tiny_runs[weight, 0]], tiny_data))
    assert not np.allclose(table.loc["with"], table.loc["without"])
