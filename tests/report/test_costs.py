"""The table of what a report cost, on a worked case."""

from __future__ import annotations

import pytest

from storylib.report import costs


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with what a workflow measured."""
    built = tmp_path / "_build" / "storyworld-quick" / "costs"
    built.mkdir(parents=True)
    jobs = (("features", 60, 900, 90), ("train-on-seed0", 120, 1100, 118), ("train-on-seed1", 120, 1000, 120))
    for name, seconds, memory, work in jobs:
        (built / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t{memory}\t{work}\n")
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_a_report_is_counted_by_work_and_by_the_clock(home):
    table = costs.workflow("storyworld", "quick", watts=12.0)
    assert table["jobs"].to_dict() == {"features": 1, "train": 2}
    assert table["minutes of work"].tolist() == pytest.approx([1.5, 238 / 60])
    assert table["peak memory, MB"].tolist() == [900, 1100]
    assert table["watt-hours"].sum() == pytest.approx(12 * 328 / 3600)
    empty = costs.workflow("storyworld", "full", watts=12.0)
    assert empty.empty and empty["watt-hours"].sum() == 0
