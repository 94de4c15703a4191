"""Every notebook is self-sufficient on a bare machine such as Google Colab, and leaves what Colab brings as it is.

Here pip's work is resolved for Colab's Pythons, and one notebook is run on a simulated machine. The whole simulation,
with Colab's own versions and every package fetched anew, is ``python -m benchmarks.colab``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from conftest import PLAN
from papermill.cli import papermill
from test_packaging import PROJECT
from test_readme import COMMANDS
from uv import find_uv_bin

from benchmarks.colab import COLAB_PYTHON, commit, publish, published, simulate, this_machine
from storylib.report.notebooks import declared_parameters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYTHONS = ("3.12", COLAB_PYTHON)  # of the runtimes 2026.07 and 2026.08
PURE = ("wn", "rouge-score", "connection-pool")  # only Python, published as source: pip makes a wheel in a second
PINS = [f"{name}=={version}" for name, version in published().items()]


def code_cells(path):
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def asked_of_pip(monkeypatch):
    """What all notebooks together ask of pip on a machine with the packages that Colab publishes."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(importlib.metadata, "version", published().__getitem__)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [SimpleNamespace(name=n) for n in published()])
    requirements = set()
    for path in NOTEBOOKS:
        first, *later = code_cells(path)
        scope = {}
        exec(re.sub(r"%pip install -q (.*)", r'asked = f"\1".split()', first), scope)
        assert scope["asked"].pop(0).startswith("git+https://")
        requirements |= {*PROJECT["dependencies"], *scope["asked"]}
        requirements |= set(re.findall(r"%pip install -q (.*)", "\n".join(later)))
    return sorted(requirements)


def refused(requirements, python):
    """Why Colab could not install this as it is: what has no wheel, conflicts or would be replaced; "" if it can."""
    command = [find_uv_bin(), "pip", "compile", "-", "--quiet", "--no-annotate", "--only-binary=:all:"]
    command += [f"--no-binary={name}" for name in PURE]
    command += ["--python", sys.executable, "--python-version", python, "--python-platform", "linux"]
    resolution = subprocess.run(command, input="\n".join(requirements), capture_output=True, text=True)
    if "error sending request" in resolution.stderr:
        pytest.skip("the package index cannot be reached")
    if resolution.returncode:
        return resolution.stderr
    chosen = dict(re.findall(r"^(\S+)==(\S+)", resolution.stdout, re.MULTILINE))
    return " ".join(f"{n} {v} replaced by {chosen[n]}" for n, v in published().items() if chosen.get(n, v) != v)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_first_cells_replace_nothing_that_colab_brings(python, monkeypatch):
    assert not refused(asked_of_pip(monkeypatch), python)


@pytest.mark.parametrize(
    ("requirements", "reason"),
    [
        ([*PINS[:4], "numpy>=2.3"], "unsatisfiable"),
        (["numpy>=2.1"], "numpy 2.1.3 replaced by"),  # as without the pins of the first cell
        (["docopt==0.6.2"], "no usable wheels"),
    ],
    ids=["conflict", "replaced", "no wheel"],
)
def test_what_colab_would_not_stand_is_found(requirements, reason):
    assert reason in refused(requirements, COLAB_PYTHON)


def test_the_workflows_run_under_the_oldest_python_and_under_those_of_colab():
    jobs = {n: yaml.safe_load((ROOT / ".github/workflows" / n).read_text())["jobs"] for n in ("book.yml", "weekly.yml")}
    assert jobs["book.yml"]["test"]["strategy"]["matrix"]["python"] == ["3.10", *PYTHONS]
    assert jobs["weekly.yml"]["colab"]["strategy"]["matrix"]["python"] == list(PYTHONS)
    assert PROJECT["requires-python"] == ">=3.10"


def test_all_begin_with_the_same_cell_and_the_quick_profile():
    (first,) = {code_cells(path)[0] for path in NOTEBOOKS}
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] in first
    for path in NOTEBOOKS:
        parameters = declared_parameters(path)
        assert parameters.get("profile", "quick") == "quick" and parameters.get("device", "auto") == "auto"


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("papermill ")])
def test_a_notebook_runs_alone_on_a_bare_machine_with_the_parameters_of_the_readme(command, tmp_path, monkeypatch):
    words = command.replace("picture_books", "storyworld").split()  # a test downloads nothing
    notebook = tmp_path / Path(words[1]).name
    papermill.main([str(ROOT / words[1]), str(notebook), *words[3:], "--prepare-only"], standalone_mode=False)
    repository = tmp_path / "repository"
    address = publish(repository)
    (repository / "experiments.yml").write_text(PLAN.replace("stories: 10", "stories: 8"))
    commit(repository)
    machine = tmp_path / "machine"
    this_machine(machine)
    done = simulate(notebook, address, tmp_path, machine, offline=True)
    (installed,) = done["installed"]  # and nothing else: torch least of all
    assert installed.startswith("storylib-")
    (record,) = (tmp_path / "content" / "runs").glob("*/run.json")  # where it was started, not in the checkout
    config = json.loads(record.read_text())["config"]
    parameters = dict(re.findall(r"-p (\w+) (\S+)", " ".join(words)))
    assert parameters and all(str(config[name]) == value for name, value in parameters.items())
    executed = nbformat.read(tmp_path / "content" / "executed.ipynb", 4)
    assert all(c.execution_count for c in executed.cells if c.cell_type == "code")
