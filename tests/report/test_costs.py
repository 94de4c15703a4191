"""Tables and figures of what things cost, on worked cases."""

from __future__ import annotations

import json
import shutil

import pytest

from storylib.config import configure, project_root, seeds
from storylib.report import costs, figures_costs

READING = {
    "decoding": {"frames_per_second_of_work": {"storylib": 600, "Pillow": 650}},
    "scale": {"stream": {"frames": 52000, "seconds": 226.0, "seconds_of_work": 120.4, "peak_memory_mb": 1876}},
}


def test_the_table_says_what_the_records_hold(tmp_path):
    assert costs.reading_costs(tmp_path).empty
    (tmp_path / "reading.json").write_text(json.dumps(READING))
    (tmp_path / "fuzz_markup.json").write_text('{"inputs": 123456, "minutes": 10.2, "exceptions": 0, "hangs": 1}')
    assert costs.reading_costs(tmp_path)["value"].to_dict() == {
        "pictures decoded by storylib, per second of work": "600",
        "pictures decoded by Pillow, per second of work": "650",
        "52,000 frames streamed from Parquet, story by story": "120 s of work; peak memory 1,876 MB",
        "123,456 fuzzed texts parsed in 10 minutes": "0 exceptions, 1 hangs",
    }


def test_the_published_records_can_be_shown():
    table = costs.reading_costs()
    records = (project_root() / "results" / "benchmarks").glob("[rf]*.json")
    assert len(table) >= len(list(records))
    assert "0 exceptions, 0 hangs" in set(table["value"])


GROWTH = {
    "profile": {"shares": {"text decoder": 60.0, "image decoder": 30.0, "everything else": 10.0}},
    "encoding": {"milliseconds_per_frame": 36.0},
    "batch": {"sizes": [
        {"batch": 8, "milliseconds_per_window": 9.0, "peak_memory_mb": 900},
        {"batch": 64, "milliseconds_per_window": 6.0, "peak_memory_mb": 1200},
        {"batch": 256, "milliseconds_per_window": 7.0, "peak_memory_mb": 1900},
    ]},
    "processes": {"sizes": [{"processes": 1, "batch": 64, "milliseconds_per_window": 6.0},
                            {"processes": 2, "batch": 64, "milliseconds_per_window": 3.9}]},
    "stories": {"sizes": [
        {"frames": frames, "windows": {"train": frames // 2}, "candidates": {"train": frames},
         "milliseconds_per_window": {"train": 8 + frames / 1000},
         "seconds": dict.fromkeys(costs.STEPS, frames / 1000) | {"train": (8 + frames / 1000) * frames / 2000},
         "peak_memory_mb": {"imports": 700} | dict.fromkeys(costs.STEPS, 700 + frames // 20)}
        for frames in (1_000, 26_008)
    ]},
}  # fmt: skip
WINDOW = {"median": {"system B": 400.0, "ours": 8.0}, "milliseconds_per_window": {"system B": [400.0], "ours": [8.0]},
          "times_cheaper": 50.0, "times_cheaper_range": [48.0, 52.0]}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with records and with what a workflow measured."""
    records, built = tmp_path / "results" / "benchmarks", tmp_path / "_build" / "storyworld-quick" / "costs"
    for folder in (records, built):
        folder.mkdir(parents=True)
    look = {"frames": 52_016, "seconds": 9.0, "seconds_of_work": 1800, "peak_memory_mb": 9}
    reading = READING | {"scale": dict.fromkeys(("look", "load and split"), look)}
    for name, record in {"growth": GROWTH, "training_cost": WINDOW, "reading": reading}.items():
        (records / f"{name}.json").write_text(json.dumps(record))
    for name, seconds, work in (("features", 60, 90), ("train-on-seed0", 120, 118), ("train-on-seed1", 120, "-")):
        (built / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t900\t{work}\n")
    shutil.copy(project_root() / "experiments.yml", tmp_path)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_a_measurement_is_found_by_name_and_device_and_described(home):
    assert costs.measured("profile") == GROWTH["profile"] and costs.measured("window") == WINDOW
    assert costs.measured("profile", "cuda") is None and costs.measured("throughput") is None
    assert set(costs.describe().index) == {*GROWTH, "reading", "window"}
    assert costs.describe(home / "nowhere").empty


def test_a_report_is_counted_by_work_and_by_the_clock(home):
    table = costs.workflow("storyworld", "quick", watts=12.0)
    assert table["jobs"].to_dict() == {"features": 1, "train": 2}
    assert table["minutes of work"].tolist() == pytest.approx([1.5, 238 / 60])  # without a number: by the clock
    assert table["watt-hours"].sum() == pytest.approx(12 * 328 / 3600)
    empty = costs.workflow("storyworld", "full", watts=12.0)
    assert empty.empty and empty["watt-hours"].sum() == 0


def test_growth_tells_flat_growing_and_varying_costs_apart():
    table = costs.growth(GROWTH["stories"])
    assert table.loc["reading from Parquet"].tolist() == pytest.approx([1, 1, 1, "flat"])
    training = table.loc["one epoch of training"]
    assert training.tolist() == pytest.approx([4.5, 17.004, 3.7786, "grows"], rel=1e-3)
    assert table.loc["all steps", "verdict"] == "grows"
    uneven = {"sizes": [GROWTH["stories"]["sizes"][0] | {"frames": frames} for frames in (1_000, 800, 1_001)]}
    assert costs.growth(uneven).loc["reading from Parquet", "verdict"] == "varies"


def test_sizes_are_shown_by_column():
    table = costs.sizes(GROWTH["stories"], "frames", "candidates.train", "milliseconds_per_window.train")
    assert table.columns.tolist() == ["frames", "candidates.train", "milliseconds per window.train"]
    assert table.iloc[-1].tolist() == pytest.approx([26_008, 26_008, 34.008])


def test_the_projection_scales_what_was_measured(home):
    hours = costs.projection("quick")["hours"]
    epoch = 2 * (8 + 26.008) * 26_008 / 2000 / 3600
    assert hours["encoding, once"] == pytest.approx(52_016 * 0.036 / 3600)
    assert hours["reading, grouping and splitting, once"] == pytest.approx(1 + 52.016 / 3600)
    assert hours["one epoch of training"] == pytest.approx(epoch)
    epochs = configure("quick", source="story_reasoning").train.epochs * 2 * len(seeds("quick"))
    assert hours.iloc[-1] == pytest.approx(epochs * epoch)
    assert costs.projection("quick", "cuda").empty


def test_the_figures_describe_their_numbers():
    figures = [figures_costs.window(WINDOW), figures_costs.profile(GROWTH["profile"])]
    figures.append(figures_costs.frames(GROWTH["stories"]))
    for figure, words in zip(figures, ("system B 400", "text decoder 60 percent", "26,008"), strict=True):
        assert words in str(figure.get_label()) and figure.get_gid()
