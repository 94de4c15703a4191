"""Published records: all of them can be read, and a missing one names the command that makes it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from storylib.analysis.leaks import trained
from storylib.config import project_root
from storylib.experiments.ablation import comparison_of
from storylib.experiments.provenance import RunError
from storylib.experiments.studies import ABLATION, AUDIT, SWEEPS
from storylib.experiments.studies import published as published_record
from storylib.experiments.sweeps import sweep_frame
from storylib.metrics.registry import METRICS, ORACLE, VERDICTS

STUDIES = (ABLATION, SWEEPS, AUDIT)
STALE = ("floor", "page", "in story", "_a_", "python -m storylib")  # words that records had before they were renamed


def published(study):
    for path in sorted((project_root() / "results" / study.kind).glob("*.json")):
        yield study.load(*path.stem.split("-"))


def keys(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.kind)
def test_published_records_have_no_stale_key(study):
    records = list(published(study))
    assert records
    for record in records:
        assert not [key for key in keys(record) if any(word in key for word in STALE)]
        assert record.get("command", "storylib").startswith("storylib")


def test_published_ablations_are_read():
    for record in published(ABLATION):
        comparison = comparison_of(record)
        assert len(comparison.table) == len(record["metrics"])
        assert comparison.factor.words == ("with", "without")
        assert set(comparison.primary.frame["verdict"]) <= set(VERDICTS)


def test_published_sweeps_are_read():
    for record in published(SWEEPS):
        frame = sweep_frame(record)
        assert set(frame["metric"]) <= set(METRICS) and set(frame["verdict"]) <= {"", *VERDICTS}
        for row in frame.to_dict("records"):
            assert row["baseline"] not in (ORACLE, *METRICS[row["metric"]].limits)


def test_published_leaks_are_read():
    leaks = published_record("leaks")
    assert not [key for key in keys(leaks) if any(word in key for word in STALE)]
    for part in ("rows", "differences"):
        table = trained(leaks, part)
        assert len(table) == len(leaks[part]) and table["gain of the model"].str.match(r"-?\d+\.\d \(").all()


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.kind)
def test_a_missing_record_names_the_command(study, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    with pytest.raises(RunError, match=rf"`storylib {study.verb} --source nowhere --profile full` makes it"):
        study.load("nowhere")


def test_a_record_is_found_in_the_project_before_the_package(tmp_path, monkeypatch):
    packaged = SWEEPS.load("picture_books", "full")
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    assert SWEEPS.load("picture_books", "full") == packaged
    monkeypatch.setattr("storylib.experiments.studies.publishable", lambda: {"commit": "c0ffee"})
    monkeypatch.setattr("storylib.experiments.studies.seeds", lambda profile: [0])
    path = SWEEPS.save(SWEEPS.start("picture_books", "full") | {"points": []})
    assert path == tmp_path / "results/sweeps/picture_books-full.json"
    assert SWEEPS.load("picture_books", "full")["points"] == []


def test_nothing_is_started_for_uncommitted_code(monkeypatch):
    state = {"commit": "0", "dirty": True, "python": "3", "versions": {}, "machine": ""}
    monkeypatch.setattr("storylib.experiments.provenance.provenance", lambda device: state)
    with pytest.raises(RunError, match="Commit"):
        ABLATION.start("storyworld", "quick")


def test_records_and_metrics_are_read_without_torch():
    code = (
        "import sys\n"
        "from storylib.experiments import ablation, comparison, studies, sweeps\n"
        "from storylib.metrics import intervals, registry, summary, text\n"
        "ablation.comparison_of(studies.ABLATION.load('storyworld', 'quick')).table\n"
        "sweeps.sweep_frame(studies.SWEEPS.load('storyworld'))\n"
        "print(*{'torch', 'scipy.stats', 'nltk', 'sacrebleu', 'rouge_score', 'torchmetrics'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
