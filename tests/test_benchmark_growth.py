"""What grows: each part of the benchmark, tiny, to its record; a profile's shares on a worked case."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from benchmarks import growth, measured_alone

SMALL = ["--windows", "8", "--rounds", "1", "--set", '{"stories": 12, "width": 16, "image_size": 16}']


def event(name: str, start: int, end: int, sequence: int = -1) -> SimpleNamespace:
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end), sequence_nr=sequence)


def test_a_backward_pass_belongs_to_the_part_that_made_it():
    backward = "autograd::engine::evaluate_function: MmBackward0"
    events = [
        event("part: whole", 0, 100), event("part: text", 0, 20), event("mm", 5, 10, 1), event("part: image", 20, 25),
        event("conv", 21, 24, 2), event("add", 30, 32, 3), event(backward, 40, 70, 1), event(backward, 70, 80, 2),
        event(backward, 80, 84, 3),
    ]  # fmt: skip
    found = measured_alone.shares(events)
    assert found == {"text": 50, "image": 15, measured_alone.REST: 31, measured_alone.BACKWARD: 4}
    assert list(found) == ["text", measured_alone.REST, "image", measured_alone.BACKWARD]


@pytest.mark.slow
def test_each_part_is_recorded_beside_those_before(tmp_path):
    path = tmp_path / "growth.json"
    assert growth.main(["--parts", "profile", "encoding", "--pages", "4", "--record", str(path), *SMALL]) == 0
    sizes = ["--batches", "4", "--processes", "2"]
    assert growth.main(["--parts", "batch", "processes", *sizes, "--record", str(path), *SMALL]) == 0
    record = json.loads(path.read_text())
    assert sum(record["profile"]["shares"].values()) == pytest.approx(100, abs=0.1)
    assert {"text decoder", "image decoder", "contrastive loss", "optimiser"} <= set(record["profile"]["shares"])
    assert record["encoding"]["pages"] == 4 and record["encoding"]["milliseconds_a_page"] > 0
    assert [size["batch"] for size in record["batch"]["sizes"]] == [4]
    (two,) = record["processes"]["sizes"]
    assert two["processes"] == 2 and two["milliseconds_a_window"] > 0 and two["peak_memory_mb"] > 100
    assert all(part["commit"] and part["load_of_the_machine"] >= 0 for part in record.values())


@pytest.mark.slow
def test_more_stories_from_shards_step_by_step(tmp_path):
    path = tmp_path / "growth.json"
    small = [*SMALL[:-1], '{"width": 16, "image_size": 16}']
    assert growth.main(["--parts", "stories", "--frames", "240", "--record", str(path), *small]) == 0
    (size,) = json.loads(path.read_text())["stories"]["sizes"]
    assert 200 < size["frames"] <= 240 and size["candidates"]["train"] > size["windows"]["train"]
    steps = ["load", "group and split", "store features", "build windows", "train", "find"]
    assert list(size["seconds"]) == steps and list(size["peak_memory_mb"]) == ["imports", *steps]
    assert list(size["peak_memory_mb"].values()) == sorted(size["peak_memory_mb"].values())
