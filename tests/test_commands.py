"""The stages as commands, on a source of 14 stories; errors are one line and exit code 2."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest
import torch
from conftest import tiny_stories, use_stub_encoders

from storylib.__main__ import main
from storylib.download import DownloadError
from storylib.runs import load_run
from storylib.sources import SOURCES

PLAN = """
profiles:
  tiny: {seeds: [0], width: 16, image_size: 16, text_length: 16, epochs: 1, batch_size: 8}
  none: {seeds: [0], context: 9}
arms:
  without: {contrastive_weight: 0.0}
"""


@pytest.fixture
def source(monkeypatch):
    """A source called "tiny"; what it loads can be replaced."""
    module = ModuleType("tiny_source")
    module.load = lambda limit=None, **options: tiny_stories()[:limit]
    monkeypatch.setitem(sys.modules, "tiny_source", module)
    monkeypatch.setitem(SOURCES, "tiny", "tiny_source")
    return module


@pytest.fixture
def project(tmp_path, monkeypatch, source):
    (tmp_path / "experiments.yml").write_text(PLAN)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / "cache"))
    use_stub_encoders(monkeypatch)
    return tmp_path


@pytest.fixture
def command(project, capsys):
    """command("train", "--seed", "1") -> (exit code, lines of errors, receipt)."""

    def run(stage: str, *options: str):
        receipt = project / f"{stage}.json"
        receipt.unlink(missing_ok=True)
        given = ["--source", "tiny", "--profile", "tiny", "--device", "cpu", "--receipt", str(receipt), *options]
        code = main([stage, *given])
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        return code, errors, json.loads(receipt.read_text()) if receipt.exists() else None

    return run


def test_the_stages_are_joined_by_files(command, project):
    code, errors, receipt = command("features")
    assert (code, errors, receipt["stories"]) == (0, [], 14)
    stored = [p for p in (project / "cache" / "features").iterdir() if p.is_dir()]
    assert len(stored) == 2 and not (project / "runs").exists()

    code, _, trained = command("train", "--arm", "without", "--seed", "4")
    assert code == 0 and trained["features"] == receipt["features"] and trained["weights"]
    run = load_run(trained["run"])
    assert (run.config.train.contrastive_weight, run.config.train.seed, run.config.data.source) == (0.0, 4, "tiny")
    assert not (run.path / "metrics.json").exists()

    code, _, evaluated = command("evaluate", "--arm", "without", "--seed", "4")
    assert code == 0 and evaluated == trained | {"metrics": evaluated["metrics"]}
    assert load_run(trained["run"]).metrics["image_mrr"]["floors"]


def test_a_receipt_changes_only_with_the_result(command, project):
    first, again, other = (command("evaluate", "--seed", seed)[2] for seed in ("0", "0", "1"))
    assert first == again
    assert all(first[k] != other[k] for k in ("run", "weights", "metrics")) and first["features"] == other["features"]


def test_nothing_is_done_twice(command, project, monkeypatch):
    command("evaluate")

    def refuse(*args, **kwargs):
        raise AssertionError("done again")

    for name in ("fit", "evaluate"):
        monkeypatch.setattr(f"storylib.runs.{name}", refuse)
    for name in ("load_image_encoder", "load_text_encoder"):
        monkeypatch.setattr(f"storylib.features.{name}", refuse)
    assert command("evaluate")[0] == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--source", "tinny"], "Unknown source 'tinny'. Did you mean 'tiny'?"),
        (["--profile", "tin"], "Unknown profile 'tin'. Did you mean 'tiny'?"),
        (["--arm", "witout"], "Unknown arm 'witout'. Did you mean 'without'?"),
        (["--device", "gpu"], "Unknown device 'gpu'"),
        (["--seed", "-1"], "'seed' must be at least 0"),
        (["--profile", "none"], "no window to train or validate on"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_two(command, options, says):
    code, errors, receipt = command("train", *options)
    assert code == 2 and receipt is None
    assert len(errors) == 1 and says in errors[0]


def test_a_gpu_that_is_absent_is_one_line(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, errors, _ = command("features", "--device", "cuda")
    assert code == 2 and "device='cuda' was asked for" in errors[0]


def test_an_empty_source_is_one_line(command, source):
    source.load = lambda limit=None, **options: []
    code, errors, _ = command("features")
    assert code == 2 and len(errors) == 1 and "tiny" in errors[0]


def test_an_encoder_out_of_reach_is_one_line(command, monkeypatch):
    from storylib.encoders import EncoderError

    def fail(name, device="cpu"):
        raise EncoderError("the hub is away")

    monkeypatch.setattr("storylib.features.load_image_encoder", fail)
    assert command("features")[:2] == (2, ["error: the hub is away"])


def test_a_failed_download_is_one_line(command, source):
    def fail(limit=None, **options):
        raise DownloadError("the server is away")

    source.load = fail
    assert command("features")[:2] == (2, ["error: the server is away"])


def test_an_unknown_stage_is_refused(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["trian"])
    assert stopped.value.code == 2 and "invalid choice: 'trian'" in capsys.readouterr().err
