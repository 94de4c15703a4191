"""Runs: found by their id alone, the same bytes for the same seed, and each step done once."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from conftest import tiny_config, use_stub_encoders

from storylib.data.encoders import EncoderError
from storylib.data.splits import Splits
from storylib.experiments import runs as module
from storylib.experiments.provenance import PACKAGES, RunError
from storylib.experiments.records import load_run
from storylib.experiments.runs import evaluate_run, find_run, prepare, run_id, train, with_available_encoders


@pytest.fixture
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def short(tiny_data, tmp_path_factory):
    """A trained run of one epoch that is not evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(tmp_path_factory.mktemp("short")))
        return train(tiny_config(epochs=1), tiny_data)


@pytest.fixture
def other_data(tiny_data):
    """The same stories with other features."""
    return dataclasses.replace(tiny_data, features=dataclasses.replace(tiny_data.features, fingerprint="other"))


# The record


def test_the_record_holds_all_that_made_the_run(tiny_runs, tiny_data):
    run = tiny_runs[1.0, 0]
    record, data = run.record, run.record["data"]
    assert run.config == tiny_config(contrastive_weight=1.0, seed=0)
    assert record["id"] == run.id == run.path.name and re.fullmatch(r"storyworld-contrastive1-seed0-\w{8}", run.id)
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", record["commit"]) and isinstance(record["dirty"], bool)
    assert set(record["versions"]) == {*PACKAGES, "storylib"}
    assert record["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 50 and record["parameters"] > 1000
    assert record["device"] == "cpu" and record["best_epoch"] in (1, 2) and re.fullmatch(r"\w{12}", record["code"])
    assert data["fingerprint"] == tiny_data.fingerprint and len(data["encoders"]) == 2
    assert data["stories"] == {"train": 8, "validation": 2, "test": 4}
    assert data["windows"] == {"train": 16, "validation": 4, "test": 8}


def test_a_run_leaves_its_files(tiny_runs):
    run = tiny_runs[1.0, 0]
    assert {path.name for path in run.path.iterdir()} == {
        "run.json", "history.csv", "metrics.json", "per_window.parquet", "generations.jsonl",
        "model.safetensors", "vocabulary.json", "pictures.npy",
    }  # fmt: skip
    assert run.history["epoch"].tolist() == [1, 2] and len(run.metrics) > 40


def test_an_encoder_that_is_unavailable_is_replaced_by_the_next(monkeypatch):
    tried = []

    def load(name):
        tried.append(name)
        raise EncoderError("no hub")

    config = tiny_config(image_encoder="resnet50 or efficientnet_lite0")
    monkeypatch.setattr(module, "load_image_encoder", load)
    assert with_available_encoders(config).data.image_encoder == "efficientnet_lite0" and tried == ["resnet50"]
    monkeypatch.setattr(module, "load_image_encoder", lambda name: None)
    assert with_available_encoders(config).data.image_encoder == "resnet50"


def test_a_decoder_that_is_not_trained_is_neither_run_nor_scored(tiny_data, runs_folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this decoder was run")

    for part in ("TextDecoder.forward", "TextDecoder.generate", "ImageDecoder.outputs", "ImageDecoder.forward"):
        monkeypatch.setattr(f"storylib.decoders.{part}", never)
    run = evaluate_run(train(tiny_config(epochs=1, text_weight=0.0, image_weight=0.0), tiny_data), tiny_data)
    groups = {metric["group"] for metric in run.metrics.values()}
    assert groups == {"next frame", "in-story", "cross-modal", "alignment"}
    assert run.generations.empty and run.model_rows["generation"].isna().all()


# Each step once


def test_the_same_seed_gives_the_same_bytes(tiny_data, tiny_runs, runs_folder):
    one = tiny_runs[1.0, 1]
    two = evaluate_run(train(one.config, tiny_data), tiny_data)
    assert two.path != one.path and two.id == one.id
    for name in ("metrics.json", "generations.jsonl", "model.safetensors", "pictures.npy", "vocabulary.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes(), name
    assert one.per_window.equals(two.per_window)


def test_a_finished_run_is_found_not_trained(runs_folder, tiny_data, monkeypatch):
    made, calls, config = module._train, [], tiny_config(epochs=1)
    monkeypatch.setattr(module, "_train", lambda *args: calls.append(1) or made(*args))
    first = train(config, tiny_data)
    record = (first.path / "run.json").read_bytes()
    assert train(config, tiny_data) == train(config.replace(device="auto"), tiny_data) == first and calls == [1]
    assert (first.path / "run.json").read_bytes() == record
    assert train(config.replace(seed=9), tiny_data) != first and calls == [1, 1]


def test_evaluating_again_does_nothing_unless_the_code_changed(tiny_runs, tiny_data, monkeypatch):
    run, calls = tiny_runs[0.0, 0], []
    write = module.signatures
    monkeypatch.setattr(module, "signatures", lambda *texts: calls.append(1) or write(*texts))
    before = (run.path / "metrics.json").read_bytes()
    evaluate_run(run, tiny_data)
    assert calls == []
    with monkeypatch.context() as patch:
        patch.setattr(module, "code_fingerprint", lambda *modules: "changed")
        evaluate_run(run, tiny_data)
        assert calls == [1]
    evaluate_run(run, tiny_data)
    assert calls == [1, 1] and (run.path / "metrics.json").read_bytes() == before


def test_other_data_than_those_of_the_training_are_refused(tiny_runs, other_data):
    with pytest.raises(RunError, match="was trained on other data or another split"):
        evaluate_run(tiny_runs[0.0, 0], other_data)


def test_a_run_killed_before_its_record_is_continued_in_its_folder(runs_folder, tiny_data, monkeypatch):
    config = tiny_config(epochs=1)

    def kill(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "provenance", kill)
        with pytest.raises(KeyboardInterrupt):
            train(config, tiny_data)
    with pytest.raises(RunError):
        load_run(run_id(config, tiny_data.fingerprint))
    assert train(config, tiny_data).record["config"]["epochs"] == 1


# The id


def test_other_configurations_data_and_code_have_other_ids(tiny_data, other_data, monkeypatch):
    config, splits = tiny_config(), tiny_data.splits
    moved = Splits(splits.train[1:], splits.validation, [*splits.test, splits.train[0]], splits.groups)
    resplit = dataclasses.replace(tiny_data, splits=moved)
    changes = ({"seed": 1}, {"epochs": 3}, {"contrastive_weight": 0.5})
    ids = [run_id(config, data.fingerprint) for data in (tiny_data, other_data, resplit)]
    ids += [run_id(config.replace(**change), tiny_data.fingerprint) for change in changes]
    assert run_id(config.replace(device="cuda"), tiny_data.fingerprint) == ids[0] and "contrastive0.5" in ids[-1]
    monkeypatch.setattr(module, "code_fingerprint", lambda *modules: "changed")
    ids.append(run_id(config, tiny_data.fingerprint))
    assert len({name.rpartition("-")[2] for name in ids}) == len(ids)


@pytest.fixture
def findable(monkeypatch, tiny_data, tiny_runs):
    """The tiny runs as those of a source: nothing is encoded to find one."""
    run = tiny_runs[1.0, 0]
    monkeypatch.setenv("STORYLIB_RUNS", str(run.path.parent))
    monkeypatch.setattr(module, "stories_of", lambda data: (tiny_data.stories, tiny_data.splits))
    monkeypatch.setattr(module, "features_fingerprint", lambda *_: tiny_data.features.fingerprint)
    return run


def test_a_run_is_found_by_configuration_data_and_code(findable):
    assert find_run(findable.config) == findable
    assert find_run(findable.config.replace(device="auto")) == findable


def test_a_run_of_older_code_or_of_other_data_is_not_found(findable, monkeypatch):
    """Though its folder has the same configuration and is evaluated. The error names the command that makes the run."""
    command = r"`storylib evaluate --source storyworld --seed 0 \.\.\.` makes it"
    for name, changed in (
        ("code_fingerprint", lambda *modules: "newer"),
        ("features_fingerprint", lambda *_: "other"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, changed)
            with pytest.raises(RunError, match=command):
                find_run(findable.config)
    with pytest.raises(RunError, match=command):
        find_run(findable.config.replace(epochs=7))


def test_no_story_is_read_where_no_run_of_the_source_weight_and_seed_is_evaluated(findable, monkeypatch, short):
    def never(*_):
        raise AssertionError("stories were read")

    monkeypatch.setattr(module, "stories_of", never)
    for change in ({"source": "african_storybook"}, {"contrastive_weight": 0.5}, {"seed": 7}):
        with pytest.raises(RunError, match=r"no evaluated run .*-\*, of these stories.*`storylib evaluate"):
            find_run(findable.config.replace(**change))
    monkeypatch.setenv("STORYLIB_RUNS", str(short.path.parent))  # trained only
    with pytest.raises(RunError, match="no evaluated run storyworld-contrastive1-seed0"):
        find_run(short.config)


# The data


@pytest.fixture
def source(monkeypatch, tiny_data):
    """The tiny stories as a source; loads are counted."""
    loads = []
    use_stub_encoders(monkeypatch)
    monkeypatch.setattr(
        module, "load_stories", lambda name, limit: loads.append(name) or tiny_data.stories[: limit or None]
    )
    return loads


def test_data_are_prepared_once_for_all_arms_seeds_and_stages(source, cache, tiny_data):
    config = tiny_config(stories=10, split_seed=2)
    data = prepare(config)
    assert prepare(config.replace(seed=4, contrastive_weight=0.0)) is data and len(source) == 1
    assert [s.id for s in data.stories] == [s.id for s in tiny_data.stories[:10]]
    parts = [s.id for _, part in data.splits for s in part]
    assert sorted(parts) == sorted(s.id for s in data.stories)
    assert data.features.thumbnails.shape[1:] == (16, 16, 3)
    other = prepare(config.replace(split_seed=3))
    assert {s.id for s in other.splits.test} != {s.id for s in data.splits.test}
    assert other.features.fingerprint == data.features.fingerprint and other.fingerprint != data.fingerprint


def test_fewer_training_stories_leave_the_held_out_ones_alone(source, monkeypatch, tiny_data):
    """A count or a share; each smaller set is part of the larger ones."""
    monkeypatch.setattr(module, "encode", lambda *_, **__: tiny_data.features)
    every, half, two = (prepare(tiny_config(train_stories=n)).splits for n in (None, 0.5, 2))
    assert len(half.train) == round(len(every.train) / 2) and len(two.train) == 2
    assert {s.id for s in two.train} <= {s.id for s in half.train} <= {s.id for s in every.train}
    assert every.test == half.test == two.test and every.validation == half.validation
