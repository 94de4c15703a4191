"""The command line, on a source of 14 stories: stages leave receipts, errors are one line and exit code 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch
import typer
from conftest import tiny_stories, use_stub_encoders

from storylib.__main__ import app, main
from storylib.data.encoders import EncoderError
from storylib.data.store import StoreError
from storylib.experiments.records import load_run
from storylib.report.notebooks import NotebookError

PLAN = """
profiles:
  tiny: {seeds: [0], width: 16, image_size: 16, text_length: 16, epochs: 1, batch_size: 8}
  none: {seeds: [0], context: 9}
arms:
  without: {contrastive_weight: 0.0}
presets: {}
ablation: {factor: the loss, arms: {with: contrastive-on, without: contrastive-off}, only_with: [contrastive_weight]}
"""
VERBS = sorted(typer.main.get_command(app).commands)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose source "folder" gives 14 stories."""
    (tmp_path / "experiments.yml").write_text(PLAN)
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("storylib.sources.folder.load", lambda limit=None: tiny_stories()[:limit])
    use_stub_encoders(monkeypatch)
    return tmp_path


@pytest.fixture
def command(project, capsys):
    """command("train", "--seed", "1") -> (exit code, error lines, receipt)."""

    def run(stage, *options):
        receipt = project / f"{stage}.json"
        receipt.unlink(missing_ok=True)
        common = ["--source", "folder", "--profile", "tiny", "--device", "cpu", "--receipt", str(receipt)]
        code = main([stage, *common, *options])
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
        return code, errors, json.loads(receipt.read_text())[0] if receipt.exists() else None

    return run


def test_the_stages_leave_receipts_that_change_only_with_the_result(command, project):
    code, errors, encoded = command("features")
    assert (code, errors, encoded["stories"]) == (0, [], 14)
    assert (project / "cache" / "features").is_dir() and not any((project / "runs").iterdir())

    code, _, trained = command("train", "--arm", "without", "--set", "seed=4")
    assert code == 0 and trained["features"] == encoded["features"] and trained["weights"]
    run = load_run(trained["run"])
    assert (run.config.train.contrastive_weight, run.config.train.seed, run.config.data.source) == (0.0, 4, "folder")
    assert not (run.path / "metrics.json").exists()

    code, _, evaluated = command("evaluate", "--arm", "without", "--seed", "4")
    assert code == 0 and evaluated == trained | {"metrics": evaluated["metrics"]}
    assert load_run(trained["run"]).metrics["image_mrr"]["baselines"]
    other = command("evaluate", "--arm", "without", "--seed", "5")[2]
    assert all(other[name] != evaluated[name] for name in ("run", "weights", "metrics"))


def test_nothing_is_done_twice(command, monkeypatch):
    first = command("evaluate")[2]

    def refuse(*args, **kwargs):
        raise AssertionError("done again")

    for name in ("storylib.training.fit", "storylib.evaluation.evaluate", "storylib.data.features.load_image_encoder"):
        monkeypatch.setattr(name, refuse)
    assert command("evaluate")[::2] == (0, first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "foldr"], "Unknown source 'foldr'. Did you mean 'folder'?"),
        (["--profile", "tin"], "Unknown profile 'tin'. Did you mean 'tiny'?"),
        (["--arm", "witout"], "Unknown arm 'witout'. Did you mean 'without'?"),
        (["--device", "gpu"], "Unknown device 'gpu'"),
        (["--seed", "-1"], "'seed' must be at least 0"),
        (["--set", "epoch=3"], "Did you mean 'epochs'?"),
        (["--set", "epochs"], "'epochs' is not NAME=VALUE"),
        (["--profile", "none"], "has no window of 10 consecutive frames: give three or more stories"),
        (["--receipt", "/proc/none/receipt.json"], "/proc/none"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_two(command, options, message):
    code, errors, receipt = command("features" if options[0] == "--receipt" else "train", *options)
    assert code == 2 and receipt is None
    assert len(errors) == 1 and message in errors[0]


def test_a_missing_gpu_is_one_line(command, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, errors, _ = command("features", "--device", "cuda")
    assert code == 2 and len(errors) == 1 and "cuda" in errors[0]


@pytest.mark.parametrize("error", [EncoderError("the hub is down"), StoreError("the server is down")])
def test_every_error_of_the_package_is_one_line_and_others_keep_their_traceback(command, monkeypatch, error):
    def fail(limit=None):
        raise error

    monkeypatch.setattr("storylib.sources.folder.load", fail)
    assert command("features")[:2] == (2, [f"error: {error}"])
    error = KeyError("a fault in the code")
    with pytest.raises(KeyError):
        command("features")


def test_a_wrong_verb_is_refused_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "'train'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_shows_an_example_that_parses(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    name, *arguments = re.search(r"Example: storylib (.*)$", text)[1].split()
    assert name == verb
    typer.main.get_command(app).commands[verb].make_context(verb, arguments)


def test_every_option_is_spelt_alike_everywhere():
    spellings = {}
    for verb in VERBS:
        for option in typer.main.get_command(app).commands[verb].params:
            spellings.setdefault(option.name, set()).update(option.opts)
    assert {"source", "profile", "output", "settings"} <= set(spellings)
    assert all(len(spelling) == 1 for spelling in spellings.values()), spellings


def test_verbs_call_the_function_of_their_module(monkeypatch, tmp_path, capsys):
    calls = []
    for name in (
        "experiments.ablation.publish_ablation",
        "experiments.sweeps.publish_sweeps",
        "audit.ladders.publish",
        "report.gallery.make_gallery",
        "report.book.build_book",
        "report.notebooks.run_notebook",
    ):
        monkeypatch.setattr(f"storylib.{name}", lambda *arguments, name=name: calls.append((name, arguments)) or 0)
    for line in (
        "ablation --source a --profile p",
        "ablation --preset system_a",
        "sweep --only weight --only loss",
        "audit --profile full",
        "gallery --output g.html",
        "render --executed e --output o",
        "notebook n.ipynb --output o.ipynb --set seed=3",
    ):
        assert main(line.split()) == 0
    arguments = dict(calls)
    assert calls[0][1] == ("a", "p", "storyteller") and calls[1][1] == ("storyworld", "quick", "system_a")
    assert arguments["experiments.sweeps.publish_sweeps"] == ("storyworld", "quick", ["weight", "loss"])
    assert arguments["report.notebooks.run_notebook"][2] == {"seed": "3"}
    assert len(arguments) == 6


def test_a_failed_notebook_is_an_error(monkeypatch, capsys):
    def fail(*_):
        raise NotebookError("a.ipynb failed; nothing was published.\nIn its cell 2:")

    monkeypatch.setattr("storylib.report.notebooks.run_notebook", fail)
    assert main(["notebook", "a.ipynb", "--output", "b.ipynb"]) == 2
    assert capsys.readouterr().err == "error: a.ipynb failed; nothing was published.\nIn its cell 2:\n"


def test_credits_and_the_cache(project, tmp_path, capsys):
    assert main(["credits", "--source", "folder", "--profile", "tiny", "--output", str(tmp_path / "c" / "c.md")]) == 0
    assert "| 14 |" in (tmp_path / "c" / "c.md").read_text()
    assert main(["cache"]) == 0 and "STORYLIB_CACHE" in capsys.readouterr().out


def test_help_loads_few_modules_and_no_numerical_library():
    """Counted and not timed: under load, a clock would fail it."""

    def loaded(*arguments):
        command = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return set(re.findall(r"import time: .*\| +(\S+)$", done.stderr, re.MULTILINE))

    shown = loaded("-m", "storylib", "--help")
    assert "typer" in shown and not {"torch", "numpy", "pandas", "scipy", "matplotlib", "transformers"} & shown
    assert len(shown) < len(loaded("-c", "import torch")) / 5
