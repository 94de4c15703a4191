"""Growth with frames, batches and processes: each part, tiny, is recorded beside the others."""

from __future__ import annotations

import json

import pytest

from benchmarks import growth, measured_alone

TINY = {"width": 16, "image_size": 16, "feature_weight": 0.0}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Measure parts in this process: starting others would only test the interpreter."""

    def measure(kind, launcher=(), cache=None, **options):
        if cache:
            monkeypatch.setenv("STORYLIB_CACHE", cache)
        capsys.readouterr()
        measured_alone.main(kind, options)
        return json.loads(capsys.readouterr().out)

    monkeypatch.setattr(growth, "measure", measure)

    def run(*arguments, **changes):
        path = tmp_path / "growth.json"
        small = ["--windows", "8", "--rounds", "1", "--set", json.dumps(TINY | changes), "--record", str(path)]
        growth.main([*arguments, *small])
        return json.loads(path.read_text())

    return run


def test_each_part_is_recorded_beside_the_others(run, stub_encoders):
    run("--parts", "profile", "encoding", "--encoded-frames", "4", stories=12)
    record = run("--parts", "batch", "processes", "--batches", "8", "--processes", "1", stories=12)
    shares = record["profile"]["shares"]
    assert set(shares) == {"text decoder", "image decoder", "contrastive loss", "everything else"}
    assert sum(shares.values()) == pytest.approx(100, abs=0.1)
    assert record["encoding"]["frames"] == 4 and record["encoding"]["milliseconds_per_frame"] > 0
    assert [size["batch"] for size in record["batch"]["sizes"]] == [8]
    (size,) = record["processes"]["sizes"]
    assert size["processes"] == 1 and size["milliseconds_per_window"] > 0 and size["peak_memory_mb"] > 100
    assert all(part["commit"] and part["load_of_the_machine"] >= 0 for part in record.values())


def test_each_step_is_measured_with_more_stories(run):
    record = run("--parts", "stories", "--frames", "240")
    (size,) = record["stories"]["sizes"]
    assert 200 < size["frames"] <= 240 and size["candidates"]["train"] > size["windows"]["train"]
    steps = ["load", "group and split", "store features", "build windows", "train", "find"]
    assert list(size["seconds"]) == steps and list(size["peak_memory_mb"]) == ["imports", *steps]
    assert list(size["peak_memory_mb"].values()) == sorted(size["peak_memory_mb"].values())
