"""The benchmarks behind the page that explains the ablation: influence of each input, and oracles."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from benchmarks import influence, oracle
from benchmarks.records import publish_study
from storylib.metrics.registry import MODEL


def test_a_study_writes_what_it_measured_and_its_command(tmp_path):
    path = tmp_path / "record.json"
    arguments = ["--source", "tales", "--seeds", "2", "--record", str(path)]
    publish_study("oracle", lambda *asked: {"asked": asked}, arguments)
    record = json.loads(path.read_text())
    assert record["asked"] == ["tales", "full", 2] and record["seeds"] == [0, 1]
    assert record["command"] == "python -m benchmarks.oracle --source tales --profile full --seeds 2"
    assert "commit" in record


def test_both_arms_of_the_ablation_are_measured_on_their_own_runs(tiny_runs, tiny_data, monkeypatch):
    found = lambda config: tiny_runs[float(config.train.contrastive_weight > 0), config.train.seed]  # noqa: E731
    monkeypatch.setattr(influence, "find_run", found)
    monkeypatch.setattr(influence, "prepare", lambda config: tiny_data)
    rows = pd.DataFrame(influence.measure("storyworld", "quick", 1)["rows"]).set_index("arm")
    for arm, weight in (("with", 1.0), ("without", 0.0)):
        expected = influence.influence([tiny_runs[weight, 0]], tiny_data).reset_index()
        assert rows.loc[arm, "prediction"].tolist() == expected["prediction"].tolist()
        assert np.allclose(rows.loc[arm, ["1", "2"]].astype(float), expected[[1, 2]], atol=1e-6)
    assert not np.allclose(rows.loc["with", "1"].astype(float), rows.loc["without", "1"].astype(float))


def test_an_oracle_is_scored_as_the_evaluation_scores(tiny_runs, tiny_data):
    run = tiny_runs[0.0, 0]
    evaluated = run.per_window.query("predictor == @MODEL and tokens.notna()")
    scored = oracle.score(run, tiny_data)
    assert scored[["story", "frame"]].to_numpy().tolist() == evaluated[["story", "frame"]].to_numpy().tolist()
    for column in ("nll", "image_l1", "picture_distance"):
        assert np.allclose(scored[column], evaluated[column], rtol=1e-4), column
    assert (scored["predictor"] == MODEL).all() and (scored["seed"] == 0).all()
