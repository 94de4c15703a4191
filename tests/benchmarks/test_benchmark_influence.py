"""The benchmark of influence writes the table that the ablation page reads."""

from __future__ import annotations

import json

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
