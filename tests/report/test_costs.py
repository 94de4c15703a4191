"""Tables and figures of what things cost, on worked cases."""

from __future__ import annotations

import json

import pytest

from storylib.report import costs

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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with records and with what a workflow measured."""
    records, built = tmp_path / "results" / "benchmarks", tmp_path / "_build" / "storyworld-quick" / "costs"
    for folder in (records, built):
        folder.mkdir(parents=True)
    (records / "growth.json").write_text(json.dumps(GROWTH))
    for name, seconds, work in (("features", 60, 90), ("train-on-seed0", 120, 118), ("train-on-seed1", 120, "-")):
        (built / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t900\t{work}\n")
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_a_measurement_is_found_by_name_and_described(home):
    assert costs.measured("profile") == GROWTH["profile"] and costs.measured("throughput") is None
    assert set(costs.provenance().index) == {*GROWTH}


def test_a_report_is_counted_by_work_and_by_the_clock(home):
    table = costs.workflow("storyworld", "quick", watts=12.0)
    assert table["jobs"].to_dict() == {"features": 1, "train": 2}
    assert table["minutes of work"].tolist() == pytest.approx([1.5, 238 / 60])  # without a number: by the clock
    assert table["watt-hours"].sum() == pytest.approx(12 * 328 / 3600)
    empty = costs.workflow("storyworld", "full", watts=12.0)
    assert empty.empty and empty["watt-hours"].sum() == 0


def test_costs_per_frame_are_shown_by_size_and_drawn():
    table = costs.by_frames(GROWTH["stories"])
    assert table["reading from Parquet"].tolist() == pytest.approx([1, 1])
    assert table["one epoch of training"].tolist() == pytest.approx([4.5, 17.004])
    assert table["all steps"].tolist() == pytest.approx([9.5, 22.004])
    assert table["peak memory, GB"].iloc[1] == pytest.approx(2000 / 1024, rel=1e-3)
    figure = costs.draw_growth(GROWTH["stories"])
    assert "26,008" in str(figure.get_label()) and figure.get_gid()


def test_sizes_are_shown_by_column():
    table = costs.sizes(GROWTH["stories"], "frames", "candidates.train", "milliseconds_per_window.train")
    assert table.columns.tolist() == ["frames", "candidates.train", "milliseconds per window.train"]
    assert table.iloc[-1].tolist() == pytest.approx([26_008, 26_008, 34.008])
