"""Sweeps: every point in both arms, a record of numbers, and sentences that its verdicts choose."""

from __future__ import annotations

import json

import pytest
from conftest import TINY

from storylib import sweeps as module
from storylib.ablation import to_publish
from storylib.config import ConfigError, experiments
from storylib.encoders import EncoderError
from storylib.runs import RunError
from storylib.sweeps import arm_configs, load_sweeps, main, points, run_sweeps, sweep_sentences, sweep_tables

PLAN = {
    "profiles": {"quick": {"seeds": [0, 1], **TINY}},
    "presets": {},
    "arms": {},
    "sweeps": {"batch size": {"4": {"batch_size": 4}, "8": {}}, "encoder": {"far": {"text_encoder": "hf:far/away"}}},
}


@pytest.fixture
def plan(monkeypatch):
    monkeypatch.setattr("storylib.config.experiments", lambda: PLAN)
    monkeypatch.setattr(module, "experiments", lambda: PLAN)


def test_the_projects_sweeps_are_all_that_the_chapter_promises():
    names = {sweep for sweep, _, _ in points("quick", "african_storybook")}
    assert names == {
        "weight", "loss", "fusion", "temporal", "training stories", "split", "temperature", "batch size", "text encoder"
    }  # fmt: skip
    assert all(len(values) > 1 for values in experiments()["sweeps"].values())


def test_a_misspelt_field_is_found_before_anything_is_trained(monkeypatch):
    monkeypatch.setattr(module, "experiments", lambda: {"sweeps": {"x": {"1": {"batchsize": 1}}}})
    with pytest.raises(ConfigError, match="batch_size"):
        list(points("quick", "storyworld"))


def test_arms_differ_in_the_loss_only(plan):
    on, off = (arm_configs("quick", "storyworld", {"batch_size": 4}, which) for which in (True, False))
    assert [c.replace(contrastive_weight=0.0) for c in on] == off
    assert [c.train.seed for c in on] == [0, 1] and on[0].train.text_weight == on[0].train.image_weight == 0


def test_what_only_shapes_the_loss_leaves_the_other_arm_alone(plan):
    plain = arm_configs("quick", "storyworld", {}, False)
    for diff in ({"contrastive_weight": 3.0}, {"contrastive_loss": "siglip"}, {"temperature": 0.2}):
        assert arm_configs("quick", "storyworld", diff, False) == plain  # trained once for all of them
        assert arm_configs("quick", "storyworld", diff, True) != arm_configs("quick", "storyworld", {}, True)


def test_sweeps_are_run_recorded_and_told(plan, tiny_data, tmp_path, monkeypatch):
    def prepared(config):
        if config.data.text_encoder != "minilm":
            raise EncoderError("the hub cannot be reached")
        return tiny_data

    monkeypatch.setattr(module, "_prepared", prepared)
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    path = to_publish("sweeps", "storyworld", "quick")
    assert main(["--source", "storyworld", "--profile", "quick", "--only", "batch size"]) == 0
    monkeypatch.setattr(module, "train", lambda *_: pytest.fail("trained again"))
    run_sweeps("quick", "storyworld", path, only=["encoder"])
    record = load_sweeps("storyworld", "quick")
    assert record == json.loads(path.read_text()) and record["seeds"] == [0, 1] and record["commit"]
    found = [(p["sweep"], p["value"]) for p in record["points"]]
    assert found == [("batch size", "4"), ("batch size", "8"), ("encoder", "far")]
    assert record["points"][2]["not run"] == "the hub cannot be reached"  # said, not left out in silence
    entry = record["points"][0]["metrics"]["image_to_text_recall@10"]
    assert entry["difference"] == pytest.approx(entry["on"]["value"] - entry["off"]["value"], abs=1e-5)
    assert {"chance", "linear map"} == set(entry["floors"])
    tables = sweep_tables(record, "image_to_text_recall@10")
    assert set(tables) == {"batch size"} and tables["batch size"]["arm"].tolist() == ["off", "on"] * 2
    assert "floor: chance" in tables["batch size"]
    assert "of 2 settings" in sweep_sentences(record, "image_to_text_recall@10")[0]


def test_sentences_count_the_verdicts():
    def point(value, difference, verdict):
        entry = {"difference": difference, "low": difference - 1, "high": difference + 1, "verdict": verdict}
        return {"sweep": "weight", "value": value, "metrics": {"page_recall@10": entry | {"detectable": 2.5}}}

    points = [point("1", 4.0, "better"), point("3", 0.5, "no difference"), {"sweep": "weight", "value": "9"}]
    assert sweep_sentences({"points": points}, "page_recall@10") == [
        "Next page (picture and text), recall@10: of 2 settings the loss makes 1 better and 0 worse; in 1 no "
        "difference is seen.",
        "The largest difference is +4.0 (95 % interval +3.0 to +5.0), at weight = 1: better.",
        "Where none is seen, one of 2.5 (the median setting) would have been, four times in five.",
    ]
    same = {"difference": 0.0, "low": 0.0, "high": 0.0, "verdict": "no difference", "detectable": 0.0}
    record = {"points": [{"sweep": "fusion", "value": "gate", "metrics": {"page_recall@10": same}}]}
    said = sweep_sentences(record, "page_recall@10")
    assert "In 1 of them both arms score exactly the same" in said[-1] and not any("would have" in s for s in said)
    assert sweep_sentences({"points": points}, "chrf") == ["Chrf: not measured."]


def test_a_missing_record_names_the_command():
    with pytest.raises(RunError, match=r"python -m storylib\.sweeps --source folder"):
        load_sweeps("folder")
