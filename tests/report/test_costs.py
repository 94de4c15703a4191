"""Tables of what things cost, on worked cases."""

from __future__ import annotations

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
         "seconds": {"load": frames / 1000}, "peak_memory_mb": {"load": 700 + frames // 20}}
        for frames in (1_000, 26_008)
    ]},
}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with records and with what a workflow measured."""
    monkeypatch.setattr(costs, "published", lambda name: GROWTH if name == "benchmarks/growth" else None)
    built = tmp_path / "_build" / "storyworld-quick" / "costs"
    built.mkdir(parents=True)
    jobs = (("features", 60, 900, 90), ("train-on-seed0", 120, 1100, 118), ("train-on-seed1", 120, "-", "-"))
    for name, seconds, memory, work in jobs:
        (built / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t{memory}\t{work}\n")
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_a_measurement_is_found_by_name_and_described(home):
    assert costs.measured("profile") == GROWTH["profile"] and costs.measured("throughput") is None
    assert set(costs.provenance().index) == {*GROWTH}


def test_a_report_is_counted_by_work_and_by_the_clock(home):
    table = costs.workflow("storyworld", "quick", watts=12.0)
    assert table["jobs"].to_dict() == {"features": 1, "train": 2}
    assert table["minutes of work"].tolist() == pytest.approx([1.5, 238 / 60])  # without a number: by the clock
    assert table["peak memory, MB"].tolist() == [900, 1100]
    assert table["watt-hours"].sum() == pytest.approx(12 * 328 / 3600)
    empty = costs.workflow("storyworld", "full", watts=12.0)
    assert empty.empty and empty["watt-hours"].sum() == 0


def test_sizes_are_shown_by_column(home):
    table = costs.sizes("stories", "frames", "candidates.train", "milliseconds_per_window.train")
    assert table.columns.tolist() == ["frames", "candidates.train", "milliseconds per window.train"]
    assert table.iloc[-1].tolist() == pytest.approx([26_008, 26_008, 34.008])


def test_sizes_that_were_not_measured_are_an_empty_table(monkeypatch):
    monkeypatch.setattr(costs, "published", lambda name: None)
    table = costs.sizes("batch", "batch", "peak_memory_mb")
    assert table.empty and table.columns.tolist() == ["batch", "peak memory mb"]
