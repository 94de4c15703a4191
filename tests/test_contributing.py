"""The page for contributors is true: its changes, made to the letter in a copy of the project, do what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import SMALL_GROUP
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "contributing.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```\{code-block\} (\w+)\n:caption: (.+)\n((?s:.*?))^```$", re.MULTILINE)
SECTIONS = dict(re.findall(r"^## (An? \w+)\n((?s:.*?))(?=^## |\Z)", PAGE, re.MULTILINE))


def changes(section: str) -> list[tuple[str, str, str]]:
    """(kind, file, text) of each change of a section."""
    blocks = BLOCK.findall(SECTIONS[section])
    return [(kind, caption.partition(",")[0], text) for kind, caption, text in blocks if caption != "try"]


def apply(project: Path, kind: str, file: str, text: str) -> None:
    """Make the change that a block of the page shows."""
    path = project / file
    if path.suffix == ".ipynb":
        nbformat.write(as_notebook(text, project), path)
    elif kind != "diff":
        assert not path.exists(), f"{file} is there already"
        path.write_text(text)
    else:
        lines = text.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if not line.startswith("+"))
        after = "".join(line[1:] or "\n" for line in lines if not line.startswith("-"))
        code = path.read_text()
        assert code.count(before) == 1, f"{file} has no such place, or more than one:\n{before}"
        path.write_text(code.replace(before, after))


def as_notebook(text: str, project: Path) -> nbformat.NotebookNode:
    """Cells in the percent format, with the installation cell of another chapter."""
    other = nbformat.read(project / "notebooks" / "01_data.ipynb", as_version=4)
    install = next(cell.source for cell in other.cells if cell.cell_type == "code")
    cells = []
    for head, body in re.findall(r"^# %%(.*)\n((?s:.*?))(?=^# %%|\Z)", text, re.MULTILINE):
        if "markdown" in head:
            cells.append(new_markdown_cell(re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)))
        else:
            source = body.strip().replace("{install}", install)
            cells.append(new_code_cell(source, metadata={"tags": re.findall(r'"([\w-]+)"', head)}))
    return new_notebook(cells=cells, metadata=other.metadata)


@pytest.mark.parametrize("section", SECTIONS)
def test_each_touches_at_most_three_files_and_thirty_lines(section):
    assert 1 <= len({file for _, file, _ in changes(section)}) <= 3
    assert sum(len(text.splitlines()) for _, _, text in changes(section)) <= 30


@pytest.mark.slow
@pytest.mark.xdist_group(SMALL_GROUP)  # it uses the small project's drawn stories
def test_the_changes_of_the_page_work_as_it_says(tmp_path, small_home):
    assert list(SECTIONS) == ["A loss", "A metric", "An encoder", "A factor", "A chapter", "A source"]
    for name in ("storylib", "notebooks", "experiments.yml", "_toc.yml", "pyproject.toml", "README.md", "setup.py"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    tries = []
    for section, body in SECTIONS.items():
        for change in changes(section):
            apply(tmp_path, *change)
        tries += [text for _, caption, text in BLOCK.findall(body) if caption == "try"]
        tries.append(f"print('done: {section}')")
    settings = {"PYTHONPATH": tmp_path, "STORYLIB_CACHE": small_home / "cache", "STORYLIB_RUNS": tmp_path / "runs"}
    environment = os.environ | {name: str(path) for name, path in settings.items()} | {"STORYLIB_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(tries)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stdout.splitlines() if line.startswith("done")] == [f"done: {s}" for s in SECTIONS]
    touched = {file for section in SECTIONS for _, file, _ in changes(section) if file.endswith((".py", ".ipynb"))}
    for tool in (["ruff", "check"], ["ruff", "format", "--check"]):  # what the page shows is in our style
        style = subprocess.run([sys.executable, "-m", *tool, *touched], cwd=tmp_path, capture_output=True, text=True)
        assert style.returncode == 0, style.stdout
