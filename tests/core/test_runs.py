"""Run records: found by content, the same bytes for the same seed, and compared only when paired."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import tiny_config

from storylib.data.encoders import EncoderError
from storylib.data.splits import Splits
from storylib.evaluation import predict
from storylib.experiments import runs as module
from storylib.experiments.provenance import code_fingerprint
from storylib.experiments.records import Run, RunError, describe, load_run, pooled_metrics
from storylib.experiments.runs import data_fingerprint, evaluate_run, prepare, run_id, train
from storylib.report.figures_stories import storyboard


@pytest.fixture
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def arms(tiny_runs):
    return [tiny_runs[1.0, s] for s in (0, 1)], [tiny_runs[0.0, s] for s in (0, 1)]


# ---- the record


def test_an_encoder_that_cannot_be_had_gives_way_and_the_record_says_so(tiny_data, runs_folder, monkeypatch):
    seen = []

    def load(name):
        seen.append(name)
        raise EncoderError("no hub")

    monkeypatch.setattr(module, "load_image_encoder", load)
    config = tiny_config(image_encoder="resnet50 or efficientnet_lite0", text_weight=0.0, image_weight=0.0, epochs=1)
    run = train(config, tiny_data)
    assert seen == ["resnet50"]
    assert run.config.data.image_encoder == "efficientnet_lite0"
    assert run.record["encoders_asked"] == ["resnet50 or efficientnet_lite0", config.data.text_encoder]
    monkeypatch.setattr(module, "load_image_encoder", lambda name: None)
    assert module.with_available_encoders(config).data.image_encoder == "resnet50"


def test_a_decoder_that_is_not_trained_is_neither_run_nor_scored(tiny_data, runs_folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("this decoder was run")

    monkeypatch.setattr("storylib.decoders.TextDecoder.forward", never)
    monkeypatch.setattr("storylib.decoders.TextDecoder.generate", never)
    monkeypatch.setattr("storylib.decoders.ImageDecoder.learn", never)
    run = train(tiny_config(text_weight=0.0, image_weight=0.0), tiny_data)
    evaluate_run(run, tiny_data)
    groups = {metric["group"] for metric in run.metrics.values()}
    assert groups == {"next frame", "in-story", "cross-modal", "alignment"}
    assert run.generations.empty and run.model_rows["generation"].isna().all()
    assert len(storyboard(run, tiny_data.stories, n=2).axes) == 2 * 7


def test_the_record_holds_all_that_made_the_run(tiny_runs, tiny_data):
    run = tiny_runs[1.0, 0]
    record = run.record
    assert run.config == tiny_config(contrastive_weight=1.0, seed=0)
    assert record["id"] == run.id == run.path.name and re.fullmatch(r"storyworld-contrastive1-seed0-\w{8}", run.id)
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", record["commit"]) and isinstance(record["dirty"], bool)
    assert record["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert set(record["versions"]) == set(module.PACKAGES)
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 50
    assert record["device"] == "cpu" and record["best_epoch"] in (1, 2)
    data = record["data"]
    assert data["fingerprint"] == data_fingerprint(tiny_data)
    assert data["stories"] == {"train": 8, "validation": 2, "test": 4}
    assert data["windows"] == {"train": 16, "validation": 4, "test": 8}
    assert len(data["encoders"]) == 2 and data["vocabulary"] == len(run.vocabulary())
    assert record["parameters"] == sum(p.numel() for p in run.model(tiny_data).parameters())


def test_a_run_leaves_its_files(tiny_runs):
    run = tiny_runs[1.0, 0]
    assert {p.name for p in run.path.iterdir()} == {
        "run.json", "history.csv", "metrics.json", "metrics_summary.csv", "per_window.parquet", "generations.jsonl",
        "model.safetensors", "vocabulary.json", "pictures.npy", "attention.json", "tensorboard",
    }  # fmt: skip
    assert run.history["epoch"].tolist() == [1, 2]
    assert len(run.metrics) > 40
    summary = pd.read_csv(run.path / "metrics_summary.csv").set_index("metric")
    assert summary.loc["image_mrr", "value"] == run.metrics["image_mrr"]["value"]
    assert summary.loc["image_mrr", "copy-last"] == run.metrics["image_mrr"]["baselines"]["copy-last"]


def test_what_the_model_wrote_is_kept_by_story_and_page(tiny_runs, tiny_data):
    run = tiny_runs[1.0, 0]
    lines = [json.loads(line) for line in (run.path / "generations.jsonl").read_text().splitlines()]
    assert [(r["story"], r["frame"]) for r in lines] == [(s.id, p) for s in tiny_data.splits.test for p in (5, 6)]
    assert "generation" not in run.per_window
    rows = run.model_rows.dropna(subset=["generation"])
    assert len(rows) == 8 and len(run.model_rows) == 24
    assert dict(zip(zip(rows["story"], rows["frame"], strict=True), rows["generation"], strict=True)) == {
        (r["story"], r["frame"]): r["generation"] for r in lines
    }


def test_the_reloaded_model_is_the_trained_one(tiny_runs, tiny_data, tiny_sets):
    run = tiny_runs[1.0, 1]
    model = run.model(tiny_data)
    assert not model.training
    tiny_sets["test"].embed_bank(model)
    again = predict(model, run.vocabulary(), tiny_sets["test"])
    rows = run.model_rows.dropna(subset=["nll"])
    assert rows["nll"].to_numpy() == pytest.approx(again.nll.numpy())
    assert rows["generation"].tolist() == again.words
    drawn = np.load(run.path / "pictures.npy")
    assert np.abs(drawn / 255 - again.picture.permute(0, 2, 3, 1).numpy()).max() < 0.01


def test_numbers_written_by_the_model_stay_texts(tmp_path):
    (tmp_path / "generations.jsonl").write_text('{"story": "0012", "frame": 5, "generation": "7"}\n')
    rows = Run(tmp_path).generations
    assert rows.to_dict("records") == [{"story": "0012", "frame": 5, "generation": "7"}]


# ---- found by content


def test_the_same_seed_gives_the_same_bytes(tiny_data, tmp_path, monkeypatch):
    found = []
    for folder in ("one", "two"):
        monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / folder))
        run = evaluate_run(train(tiny_config(seed=3), tiny_data), tiny_data)
        found.append(
            {n: (run.path / n).read_bytes() for n in ("metrics.json", "generations.jsonl", "model.safetensors")}
        )
        found[-1] |= {
            "id": run.id,
            "windows": run.per_window.to_csv(),
            "pictures": (run.path / "pictures.npy").read_bytes(),
        }
    assert found[0] == found[1]


def test_a_finished_run_is_found_not_trained(runs_folder, tiny_data, monkeypatch):
    fit, calls, config = module.fit, [], tiny_config(epochs=1)
    monkeypatch.setattr(module, "fit", lambda *args: calls.append(1) or fit(*args))
    first = train(config, tiny_data)
    record = (first.path / "run.json").read_bytes()
    assert train(config, tiny_data) == first and calls == [1]
    assert (first.path / "run.json").read_bytes() == record
    assert train(config.replace(device="auto"), tiny_data) == first and calls == [1]
    assert train(config, tiny_data, fresh=True) == first and calls == [1, 1]
    assert train(config.replace(seed=9), tiny_data) != first and calls == [1, 1, 1]


def test_other_configurations_and_data_have_other_ids(tiny_data):
    config = tiny_config()
    data = dataclasses.replace(tiny_data, features=dataclasses.replace(tiny_data.features, fingerprint="other"))
    ids = [
        run_id(config, tiny_data),
        run_id(config, data),
        *(run_id(config.replace(**c), tiny_data) for c in ({"seed": 1}, {"epochs": 3}, {"contrastive_weight": 0.5})),
    ]
    assert len({i.rpartition("-")[2] for i in ids}) == len(ids)
    assert run_id(config.replace(device="cuda"), tiny_data) == ids[0]
    assert "contrastive0.5" in ids[-1]


def test_other_code_has_another_id(tiny_data, monkeypatch):
    before = run_id(tiny_config(), tiny_data)
    monkeypatch.setattr(module, "code_fingerprint", lambda modules: "changed")
    assert run_id(tiny_config(), tiny_data) != before


def test_the_code_fingerprint_covers_what_it_names():
    assert code_fingerprint(("config",)) != code_fingerprint(("config", "losses")) != code_fingerprint(("losses",))
    folder = module.Path(module.__file__).parent
    assert set(module.EVALUATION_CODE) <= {p.stem for p in (*folder.glob("*.py"), *folder.glob("*"))}
    assert len({code_fingerprint((name,)) for name in ("metrics", "scores", "protocol")}) == 3  # a package counts too


def test_evaluating_again_does_nothing_unless_asked(tiny_runs, tiny_data, monkeypatch):
    run, calls = tiny_runs[0.0, 0], []
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *args: calls.append(1) or real(*args))
    before = (run.path / "metrics.json").read_bytes()
    evaluate_run(run, tiny_data)
    assert calls == []
    evaluate_run(run, tiny_data, fresh=True)
    assert calls == [1] and (run.path / "metrics.json").read_bytes() == before


def test_another_split_is_evaluated_anew(runs_folder, tiny_data):
    run = evaluate_run(train(tiny_config(epochs=1), tiny_data), tiny_data)
    other = evaluate_run(run, tiny_data, split="validation")
    assert set(other.per_window["story"]) == {s.id for s in tiny_data.splits.validation}


def test_data_of_another_run_are_refused(tiny_runs, tiny_data):
    other = dataclasses.replace(tiny_data, features=dataclasses.replace(tiny_data.features, fingerprint="other"))
    with pytest.raises(RunError, match="data"):
        evaluate_run(tiny_runs[0.0, 0], other, fresh=True)


def test_a_run_is_loaded_by_its_id_or_the_nearest_is_named(tiny_runs, monkeypatch):
    run = tiny_runs[1.0, 0]
    monkeypatch.setenv("STORYLIB_RUNS", str(run.path.parent))
    assert load_run(run.id) == run
    with pytest.raises(RunError, match=f"Did you mean '{run.id}'"):
        load_run(run.id[:-1])
    (run.path.parent / "unfinished").mkdir(exist_ok=True)
    with pytest.raises(RunError, match="Unknown run 'unfinished'"):
        load_run("unfinished")


def test_a_run_without_metrics_says_what_to_call(runs_folder, tiny_data):
    run = train(tiny_config(epochs=1), tiny_data)
    for name in ("metrics", "per_window", "generations"):
        with pytest.raises(RunError, match=r"storylib.evaluate_run\(run\)"):
            getattr(run, name)


def test_a_killed_run_goes_on_in_its_folder(runs_folder, tiny_data, monkeypatch):
    fit, config = module.fit, tiny_config(epochs=1)

    def kill(*args):
        fit(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "fit", kill)
        with pytest.raises(KeyboardInterrupt):
            train(config, tiny_data)
    with pytest.raises(RunError):
        load_run(run_id(config, tiny_data))
    assert train(config, tiny_data).record["config"]["epochs"] == 1


def test_prepare_does_what_the_data_part_says(stub_encoders, cache, monkeypatch, tiny_data):
    monkeypatch.setattr(module, "load_stories", lambda source, limit: tiny_data.stories[:limit])
    config = tiny_config(stories=10, split_seed=2)
    data = prepare(config)
    assert [s.id for s in data.stories] == [s.id for s in tiny_data.stories[:10]]
    parts = [s.id for _, part in data.splits for s in part]
    assert sorted(parts) == sorted(s.id for s in data.stories)
    assert data.features.thumbnails.shape[1:] == (16, 16, 3)
    other = prepare(config.replace(split_seed=3))
    assert {s.id for s in other.splits.test} != {s.id for s in data.splits.test}
    assert other.features.fingerprint == data.features.fingerprint


def test_another_split_of_the_same_stories_has_another_id(tiny_data):
    splits = tiny_data.splits
    other = dataclasses.replace(
        tiny_data, splits=Splits(splits.train[1:], splits.validation, [*splits.test, splits.train[0]], splits.groups)
    )
    assert run_id(tiny_config(), other) != run_id(tiny_config(), tiny_data)


# ---- arms over all seeds


def test_pooled_metrics_are_those_of_all_seeds(arms):
    pooled = pooled_metrics(arms[0])
    assert set(pooled) == set(arms[0][0].metrics)
    single = [r.metrics for r in arms[0]]
    for name in ("image_recall@10", "image_l1", "rouge_l", "image_to_text_mrr"):
        assert pooled[name]["value"] == pytest.approx(np.mean([m[name]["value"] for m in single]), abs=1e-5)
        assert pooled[name]["baselines"].keys() == single[0][name]["baselines"].keys()
        for baseline, value in pooled[name]["baselines"].items():  # a baseline has no seed
            assert value == pytest.approx(single[0][name]["baselines"][baseline], abs=1e-5)


def test_one_seed_pooled_is_the_run_itself(tiny_runs):
    run = tiny_runs[1.0, 0]
    assert pooled_metrics([run]) == run.metrics


def test_runs_are_described_by_their_records(arms):
    found = describe([*arms[0], *arms[1]])
    assert found.index.tolist() == [r.id for arm in arms for r in arm]
    assert found["seed"].tolist() == [0, 1, 0, 1]
    assert {"commit", "dirty", "device", "seconds", "peak_memory_mb", "best_epoch", "data"} <= set(found)
    assert found["commit"].str.len().max() <= 8


def test_fewer_training_stories_are_a_count_or_a_share_and_leave_the_held_out_ones_alone(tiny_data, monkeypatch):
    monkeypatch.setattr(module, "load_stories", lambda *_, **__: tiny_data.stories)
    monkeypatch.setattr(module, "encode", lambda *_, **__: tiny_data.features)
    monkeypatch.setattr(module, "with_available_encoders", lambda config: config)
    every, half, two = (module.prepare(tiny_config(train_stories=n)).splits for n in (None, 0.5, 2))
    assert len(half.train) == round(len(every.train) / 2) and len(two.train) == 2
    assert {s.id for s in two.train} <= {s.id for s in half.train} <= {s.id for s in every.train}
    assert every.test == half.test == two.test and every.validation == half.validation
