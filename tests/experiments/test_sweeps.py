"""Sweeps: every point in both arms, and a record of numbers that commands share."""

from __future__ import annotations

import math

import pytest
from conftest import TINY

from storylib.config import ConfigError, experiments
from storylib.experiments import runs as runs_module
from storylib.experiments.comparison import JUDGED
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import SWEEPS
from storylib.experiments.sweeps import arm_configs, points, publish_sweeps, sweep_frame
from storylib.metrics.registry import VERDICTS

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **TINY, "epochs": 1}},
    "presets": {},
    "arms": {"contrastive-off": {"contrastive_weight": 0.0}, "contrastive-on": {"contrastive_weight": 1.0}},
    "ablation": {
        "factor": "the contrastive loss",
        "arms": {"with": "contrastive-on", "without": "contrastive-off"},
        "only_with": ["contrastive_weight", "contrastive_loss", "temperature", "learned_temperature"],
        "endpoints": {"cross_modal_recall@10": 5, "frame_in_story_mrr": 0.03, "nats_per_word": 0.05},
    },
    "sweeps": {"batch size": {"4": {"batch_size": 4}, "8": {}}, "weight": {"2": {"contrastive_weight": 2.0}}},
}


@pytest.fixture
def plan(monkeypatch):
    for name in ("config", "experiments.studies", "experiments.sweeps"):
        monkeypatch.setattr(f"storylib.{name}.experiments", lambda: PLAN)


def test_the_projects_sweeps_are_all_that_the_chapter_promises():
    names = {sweep for sweep, _, _ in points("african_storybook", "quick")}
    assert names == {
        "weight", "loss", "inputs", "fusion", "temporal", "training stories", "split", "temperature", "batch size",
        "text encoder",
    }  # fmt: skip
    assert all(len(values) > 1 for values in experiments()["sweeps"].values())


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"sweeps": {"x": {"1": {"batchsize": 1}}}}, "batch_size"),
        ({"arms": {"contrastive-off": {"next_text_weight": 0.0}, "contrastive-on": {}}}, "these losses on: next_text"),
    ],
)
def test_a_wrong_point_is_found_before_anything_is_trained(plan, monkeypatch, changes, error):
    for name in ("studies", "sweeps"):
        monkeypatch.setattr(f"storylib.experiments.{name}.experiments", lambda: PLAN | changes)
    with pytest.raises((ConfigError, RunError), match=error):
        list(points("storyworld", "quick"))


def test_arms_differ_in_the_factor_only(plan):
    on, off = arm_configs("storyworld", "quick", {"batch_size": 4})
    assert [config.replace(contrastive_weight=0.0) for config in on] == off
    assert [config.train.seed for config in on] == [0, 1]
    assert on[0].train.text_weight == on[0].train.image_weight == 0


def test_what_only_shapes_the_factor_leaves_the_other_arm_alone(plan):
    plain_on, plain_off = arm_configs("storyworld", "quick", {})
    for diff in ({"contrastive_weight": 3.0}, {"contrastive_loss": "siglip"}, {"temperature": 0.2}):
        on, off = arm_configs("storyworld", "quick", diff)
        assert off == plain_off and on != plain_on  # trained without the factor once for all of them


def test_sweeps_are_run_and_recorded(plan, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setitem(PLAN["profiles"]["quick"], "seeds", [0])
    monkeypatch.setattr("storylib.experiments.studies.publishable", lambda: {"commit": "c0ffee"})
    monkeypatch.setattr(runs_module, "prepare", lambda config: tiny_data)
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    publish_sweeps("storyworld", "quick", only=["weight"])
    assert publish_sweeps("storyworld", "quick", only=["batch size"]) == SWEEPS.path("storyworld", "quick")
    record = SWEEPS.load("storyworld", "quick")
    assert record["seeds"] == [0] and record["commit"] == "c0ffee"
    places = [(point["sweep"], point["value"]) for point in record["points"]]
    assert places == [("batch size", "4"), ("batch size", "8"), ("weight", "2")]
    entry = record["points"][0]["metrics"]["image_to_text_recall@10"]
    assert entry["difference"] == pytest.approx(entry["on"]["value"] - entry["off"]["value"], abs=1e-5)
    assert set(entry["baselines"]) == {"chance", "linear map"}
    frame = sweep_frame(record)
    assert [*frame[["sweep", "value"]].drop_duplicates().itertuples(index=False, name=None)] == places
    (row,) = frame[(frame["metric"] == "image_to_text_recall@10") & (frame["value"] == "4")].to_dict("records")
    assert row["on"] == entry["on"]["value"] and [row["off_low"], row["off_high"]] == entry["off"]["interval"]
    baselines = entry["baselines"]
    assert row["chance"] == baselines["chance"] and row["baseline_value"] == baselines[row["baseline"]]
    assert row["candidates"] == entry["candidates"] > 1
    judged = frame[frame["verdict"] != ""]
    assert set(judged["metric"]) == {"cross_modal_recall@10", "frame_in_story_mrr"} and len(judged) == 6
    assert set(judged["verdict"]) <= set(VERDICTS) and judged[[*JUDGED]].notna().all(axis=None)
    assert math.isnan(row["matters"]) and not {"p_holm", "p"} & set(entry)


def test_the_best_baseline_is_not_a_limit():
    """Chance has no modality gap, which is the best possible value and not there to be beaten."""
    arm = {"value": 0.5, "interval": [0.4, 0.6]}
    entry = {"on": arm, "off": arm, "baselines": {"chance": 0.0, "linear map": 0.2}, "verdict": "better"}
    entry |= dict.fromkeys(("difference", "low", "high", "p_holm", "detectable"), 0.0)
    record = {"points": [{"sweep": "weight", "value": "1", "metrics": {"modality_gap": entry}}]}
    frame = sweep_frame(record)
    assert frame[["baseline", "baseline_value"]].to_numpy().tolist() == [["linear map", 0.2]]
    assert frame["verdict"].tolist() == [""]  # of a record from before there were primary endpoints
