"""The whole path, small: pictures drawn, encoded and trained on, every notebook executed, the book built from them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storylib.__main__ import main as command
from storylib.book import build_book
from storylib.runner import run_notebook

ROOT = Path(__file__).parents[1]
PLAN = """
profiles:
  quick: {seeds: [0, 1], epochs: 1, width: 32, sources: {storyworld: {stories: 24}}}
arms:
  contrastive-off: {contrastive_weight: 0.0}
  contrastive-on: {contrastive_weight: 1.0}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A project like this one in which everything is small."""
    home = tmp_path_factory.mktemp("home")
    for name in ("book", "notebooks"):
        shutil.copytree(ROOT / name, home / name)
    for name in ("_config.yml", "_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, home)
    (home / "experiments.yml").write_text(PLAN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_HOME", str(home))
        patch.setenv("STORYLIB_CACHE", str(home / "cache"))
        patch.setenv("STORYLIB_RUNS", str(home / "runs"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield home


@pytest.fixture(scope="module")
def executed(home):
    folder = home / "executed"
    for seed in ("0", "1"):  # 04 reads records and trains nothing
        assert command(["evaluate", "--arm", "contrastive-off", "--seed", seed]) == 0
    for notebook in sorted((home / "notebooks").glob("*.ipynb")):
        run_notebook(notebook, folder / "notebooks" / notebook.name, {},
                     figures=folder / "figures")  # fmt: skip
    return folder


@pytest.mark.slow
def test_the_notebooks_make_runs_and_the_book_shows_them(home, executed):
    records = [json.loads(p.read_text()) for p in (home / "runs").glob("*/run.json")]
    arms = sorted((r["config"]["contrastive_weight"], r["config"]["seed"]) for r in records)
    assert arms == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]  # 02 and 03 trained those with the loss, none twice
    assert len(list((home / "runs").glob("*/metrics.json"))) == 4
    index = build_book(executed, home / "_build")
    landing = (index.parent / "book" / "index.html").read_text()
    assert "With the contrastive loss, all else equal" in landing
    ablation = (index.parent / "notebooks" / "04_ablation.html").read_text()
    assert records[0]["id"] in ablation


@pytest.mark.slow
def test_papermill_by_hand_from_another_folder(home, executed, tmp_path):
    before = sorted((home / "runs").glob("*/run.json"))
    command = [
        str(Path(sys.executable).with_name("papermill")),
        str(home / "notebooks" / "02_train.ipynb"),
        "out.ipynb",
    ]
    command += ["-p", "contrastive_weight", "0.5", "-p", "seed", "3", "--no-progress-bar"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=os.environ)
    (new,) = set((home / "runs").glob("*/run.json")) - set(before)
    config = json.loads(new.read_text())["config"]
    assert (config["contrastive_weight"], config["seed"]) == (0.5, 3)
    assert json.loads((tmp_path / "out.ipynb").read_text())["metadata"]["papermill"]["exception"] is None
