"""The page for contributors is true: its changes, made to the letter in a copy of the project, do what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL_GROUP

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\{code-block\} (\w+)\n:caption: (.+)\n((?s:.*?))^```$", re.MULTILINE)
SECTIONS = dict(re.findall(r"^## (An? \w+)\n((?s:.*?))(?=^## |\Z)", PAGE, re.MULTILINE))


def change(project: Path, kind: str, caption: str, text: str) -> None:
    """Make the change that a block of the page shows."""
    path = project / caption.partition(",")[0]
    if kind != "diff":
        assert not path.exists(), f"{caption}: there is such a file"
        path.write_text(text)
        return
    lines = text.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    after = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
    code = path.read_text()
    assert code.count(before) == 1, f"{caption} has no such place, or more than one:\n{before}"
    path.write_text(code.replace(before, after))


@pytest.mark.parametrize("section", SECTIONS)
def test_each_is_under_thirty_lines(section):
    changes = [text for _, caption, text in BLOCK.findall(SECTIONS[section]) if caption != "try"]
    assert 1 <= sum(len(text.splitlines()) for text in changes) < 30


@pytest.mark.slow
@pytest.mark.xdist_group(SMALL_GROUP)  # it finds the small book's features
def test_the_changes_of_the_page_work_as_it_says(tmp_path, small_home, small_executed):
    assert list(SECTIONS) == ["A source", "An encoder", "An arm", "A metric"]
    for name in ("storylib", "experiments.yml", "pyproject.toml", "README.md", "setup.py"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    tries = ["import storylib"]
    for section, body in SECTIONS.items():
        for kind, caption, text in BLOCK.findall(body):
            if caption == "try":
                tries.append(f"{text}print('done: {section}')")
            else:
                change(tmp_path, kind, caption, text)
    settings = {"PYTHONPATH": tmp_path, "STORYLIB_CACHE": small_home / "cache", "STORYLIB_RUNS": tmp_path / "runs"}
    environment = os.environ | {name: str(path) for name, path in settings.items()} | {"STORYLIB_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(tries)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"done: {section}" for section in SECTIONS]
    for tool in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):  # what the page shows is in our style
        style = subprocess.run([sys.executable, "-m", *tool], cwd=tmp_path, capture_output=True, text=True)
        assert style.returncode == 0, style.stdout
