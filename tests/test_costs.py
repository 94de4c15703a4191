"""What things cost, in tables and sentences, on worked cases; the chapter itself, with records and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from storylib import cost_figures, costs
from storylib.config import configure, project_root, seeds
from storylib.costs import reading_costs
from storylib.runner import run_notebook

READING = {
    "decoding": {
        "files": 2000,
        "frames_a_second": {"storylib": 1100, "Pillow": 1200},
        "frames_a_second_of_work": {"storylib": 600, "Pillow": 650},
        "ratio_to_the_faster_bare_loop": 0.923,
        "ratio_range": [0.9, 0.95],
    },
    "checking": {"frames": 52000, "megabytes": 985, "seconds": 3.0, "seconds_of_work": 0.61},
    "scale": {"stream": {"frames": 52000, "seconds": 226.0, "seconds_of_work": 120.4, "peak_memory_mb": 1876}},
}


def test_the_table_says_what_the_records_hold(tmp_path):
    assert reading_costs(tmp_path).empty
    (tmp_path / "reading.json").write_text(json.dumps(READING))
    (tmp_path / "fuzz_markup.json").write_text('{"inputs": 123456, "minutes": 10.2, "exceptions": 0, "hangs": 1}')
    assert reading_costs(tmp_path)["value"].to_dict() == {
        "pictures decoded by storylib": "1,100 a second; 600 a second of work",
        "pictures decoded by Pillow": "1,200 a second; 650 a second of work",
        "storylib's speed as a share of the faster bare loop, by work": "0.92 (0.90 to 0.95)",
        "stored features of 52,000 frames, 985 MB, compared with their digests": "0.6 s of work, once in a process",
        "52,000 frames streamed from Parquet, story by story": (
            "226 s, of which 120 s of work; 1,876 MB of memory at most"
        ),
        "123,456 texts of a fuzzer parsed in 10 minutes": "0 exceptions, 1 hangs",
    }


def test_the_published_records_can_be_shown():
    table = reading_costs()
    records = (project_root() / "results" / "benchmarks").glob("[rf]*.json")
    assert len(table) >= len(list(records))
    assert "0 exceptions, 0 hangs" in set(table["value"])


GROWTH = {
    "profile": {"shares": {"text decoder": 60.0, "image decoder": 30.0, "everything else": 10.0}},
    "encoding": {"milliseconds_a_page": 36.0},
    "batch": {"sizes": [
        {"batch": 8, "milliseconds_a_window": 9.0, "peak_memory_mb": 900},
        {"batch": 64, "milliseconds_a_window": 6.0, "peak_memory_mb": 1200},
        {"batch": 256, "milliseconds_a_window": 7.0, "peak_memory_mb": 1900},
    ]},
    "processes": {"sizes": [{"processes": 1, "batch": 64, "milliseconds_a_window": 6.0},
                            {"processes": 2, "batch": 64, "milliseconds_a_window": 3.9}]},
    "stories": {"sizes": [
        {"frames": frames, "windows": {"train": frames // 2}, "candidates": {"train": frames},
         "milliseconds_a_window": {"train": 8 + frames / 1000},
         "seconds": dict.fromkeys(costs.STEPS, frames / 1000) | {"train": (8 + frames / 1000) * frames / 2000},
         "peak_memory_mb": {"imports": 700} | dict.fromkeys(costs.STEPS, 700 + frames // 20)}
        for frames in (1_000, 26_008)
    ]},
}  # fmt: skip
WINDOW = {"median": {"system B": 400.0, "ours": 8.0}, "milliseconds_a_window": {"system B": [400.0], "ours": [8.0]},
          "times_cheaper": 50.0, "times_cheaper_range": [48.0, 52.0]}  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A project with records and with what a workflow measured."""
    records, built = tmp_path / "results" / "benchmarks", tmp_path / "_build" / "storyworld-quick" / "costs"
    for folder in (records, built):
        folder.mkdir(parents=True)
    looked = {"frames": 52_016, "seconds": 9.0, "seconds_of_work": 1800, "peak_memory_mb": 9}
    reading = READING | {"scale": dict.fromkeys(("look", "load and split"), looked)}
    for name, record in {"growth": GROWTH, "training_cost": WINDOW, "reading": reading}.items():
        (records / f"{name}.json").write_text(json.dumps(record))
    for name, seconds, work in (("features", 60, 90), ("train-on-seed0", 120, 118), ("train-on-seed1", 120, "-")):
        (built / f"{name}.tsv").write_text(f"s\tmax_rss\tcpu_time\n{seconds}\t900\t{work}\n")
    shutil.copy(project_root() / "experiments.yml", tmp_path)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    return tmp_path


def test_a_record_that_is_not_there_is_a_sentence_with_its_command(home):
    assert costs.measured("profile") == GROWTH["profile"] and costs.measured("window") == WINDOW
    assert costs.measured("profile", "cuda") is None and costs.measured("throughput") is None
    assert "`python -m benchmarks.growth --parts profile --device cuda`" in costs.missing("profile", "cuda")


@pytest.mark.parametrize("what", costs.MEASURED)
def test_the_command_of_each_record_is_there(what):
    module = costs.MEASURED[what][2].split()[2]
    assert (Path(__file__).parents[1] / f"{module.replace('.', '/')}.py").is_file()


def test_a_report_is_counted_by_work_and_by_the_clock(home):
    table = costs.workflow("storyworld", "quick", watts=12.0)
    assert table["jobs"].to_dict() == {"features": 1, "train": 2}
    assert table["minutes of work"].tolist() == pytest.approx([1.5, 238 / 60])  # without a number: that of the clock
    assert table["watt-hours"].sum() == pytest.approx(12 * 328 / 3600)
    said = costs.workflow_in_words(table, 12.0)
    assert "5 minutes of work" in said and "1.1 watt-hours" in said and "an estimate, not a measurement" in said
    assert "nothing was measured" in costs.workflow_in_words(costs.workflow("storyworld", "full", 12.0), 12.0)


def test_growth_names_what_is_flat_and_what_is_not(home):
    said = costs.growth_in_words(GROWTH["stories"])
    assert "one epoch of training, cost 9.50 to 22.00 ms a frame, 2.32 times as much at the end." in said
    assert "the same within 15 %: read from Parquet (1.00 to 1.00 ms a frame, 1.0 times at the end), grouped" in said
    assert "It costs more: an epoch of training (4.50 to 17.00 ms a frame, 3.8 times at the end)." in said
    assert "from 750 MB to 2,000, under 2 GB, by 51 KB a frame" in said and "wavers" not in said
    uneven = {"sizes": [GROWTH["stories"]["sizes"][i] | {"frames": f} for i, f in ((0, 1_000), (0, 800), (0, 1_001))]}
    assert "It wavers between sizes, without being dearer at the end: read from Parquet (1.00 to 1.25" in (
        costs.growth_in_words(uneven)
    )
    even = {"sizes": [uneven["sizes"][0], uneven["sizes"][2]]}
    assert "1.00 times as much at the end: flat within 15 %." in costs.growth_in_words(even)
    assert "9.0 ms with 1,000 candidate pages and 34.0 ms with 26,008" in costs.candidates_in_words(GROWTH["stories"])
    assert "cheapest in batches of 64, 6.0 ms" in costs.batches_in_words(GROWTH["batch"])
    assert "65% of one alone (ideal: 50%)" in costs.processes_in_words(GROWTH["processes"])


def test_the_projection_scales_what_was_measured(home):
    hours = costs.projection("quick")["hours"]
    epoch = 2 * (8 + 26.008) * 26_008 / 2000 / 3600
    assert hours["encoded, once"] == pytest.approx(52_016 * 0.036 / 3600)
    assert hours["read, grouped and split, once"] == pytest.approx(1 + 52.016 / 3600)
    assert hours["one epoch of training"] == pytest.approx(epoch)
    plan = configure("quick", source="story_reasoning").train.epochs * 2 * len(seeds("quick"))
    assert hours.iloc[-1] == pytest.approx(plan * epoch)
    assert costs.projection("quick", "cuda").empty


def test_the_figures_say_their_numbers(home):
    figures = [cost_figures.window(WINDOW)]
    figures += [getattr(cost_figures, n)(GROWTH[r]) for n, r in
                (("profile", "profile"), ("batch", "batch"), ("frames", "stories"))]  # fmt: skip
    said = [str(figure.get_label()) for figure in figures]
    for words, alt in zip(
        ("system B 400", "text decoder 60 percent", "batches of 64: 6.0", "26,008"), said, strict=True
    ):
        assert words in alt
    assert all(figure.get_gid() for figure in figures)


@pytest.mark.parametrize("with_records", [True, False])
def test_the_chapter_runs_with_records_and_without(home, tmp_path, with_records):
    if not with_records:
        for path in [*home.glob("results/benchmarks/*"), *home.glob("_build/*/costs/*")]:
            path.unlink()
    notebook = Path(__file__).parents[1] / "notebooks" / "06_cost.ipynb"
    run_notebook(notebook, home / "out.ipynb", {}, figures=home / "figures")
    shown = (home / "out.ipynb").read_text()
    assert len(list((home / "figures").glob("cost_*.svg"))) == (4 if with_records else 0)
    assert ("Not measured in this copy" in shown) and ("50 times less" in shown) == with_records


def test_the_answer_is_made_of_numbers(home):
    said = costs.answer(12.0, "storyworld", "quick", "quick")
    assert "50 times less" in said and "text decoder (60 %)" in said and "watt-hours" in said
    assert "With 26 times the frames, a frame costs 2.32 times as much" in said
    assert "encoded in 0.5 hours of one core" in said
    growth = [f"growth, {part}" for part in GROWTH]
    assert sorted(costs.describe().index) == sorted([*growth, "reading", "training_cost"])
