"""The README is true: its commands run, its links and badges lead somewhere, its tree names every folder.

Its papermill command runs in test_colab.py.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from conftest import SMALL_GROUP, at_home

import storylib
from storylib.__main__ import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]


def test_there_are_commands_and_no_kind_that_is_not_tested_here():
    assert len(COMMANDS) >= 5
    assert all(c.startswith(("make ", "papermill ", "storylib ", "source .venv/bin/activate")) for c in COMMANDS)


@pytest.mark.parametrize(
    "command", re.findall(r"`(storylib [^`]+)`", README) + [c for c in COMMANDS if "storylib " in c]
)
def test_the_command_knows_every_verb_and_option(command):
    words = shlex.split("".join(command))[1:]
    if words != ["--help"]:
        typer.main.get_command(app).commands[words[0]].make_context(words[0], words[1:])


def test_the_tree_names_every_folder():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    parents = {Path(file).parts[:-1] for file in files if (ROOT / file).is_file()}
    top = {parts[0] for parts in parents if parts and not parts[0].startswith(".")}
    packages = {parts[1] for parts in parents if len(parts) > 1 and parts[0] == "storylib"}
    (tree,) = re.findall(r"^```\n(storylib/.*?)^```", README, re.MULTILINE | re.DOTALL)
    named = re.findall(r"^( *)(\w+)/ +\S", tree, re.MULTILINE)
    assert {name for indent, name in named if not indent} == top
    assert {name for indent, name in named if indent} == packages and len(named) == len(tree.splitlines())


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_knows_what_to_do(command, tmp_path):
    """Without doing it: test_workflow.py tests the workflow, test_end_to_end.py the recipe."""
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "setup.py", "requirements.lock"):
        (tmp_path / name).touch()
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / ".venv" / ".installed").touch()
    words = shlex.split(command)
    done = subprocess.run([*words, "--dry-run"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "done in $seconds s" in done.stdout or words[1] in done.stdout
    for word in words[2:]:
        name, _, value = word.partition("=")
        assert f"--{name.lower()} {value}" in done.stdout or name == "SOURCE"  # see the next test


@pytest.mark.parametrize("target", ["book", "runs"])
def test_no_program_reads_anything_into_the_name_of_a_source(target, tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "setup.py", "requirements.lock", ".venv/.installed"):
        (tmp_path / name).touch()
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    program = tmp_path / ".venv" / "bin" / "storylib"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$STORYLIB_SOURCE" "$@"\n')
    program.chmod(0o755)
    source = "folder:-a b/{x}&c #1?d=e 'f' \"g\" $HOME $(HOME) [h]*~ é"
    command = ["make", "--no-print-directory", target, f"SOURCE={source}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[:4] == [source, target, "--profile", "quick"]


@pytest.mark.slow
@pytest.mark.xdist_group(SMALL_GROUP)
def test_the_python_runs(small_home, small_executed, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    with at_home(small_home):
        exec(compile(code.replace("picture_books", "storyworld"), "README.md", "exec"), {})
    assert "best baseline" in capsys.readouterr().out


def test_its_files_are_there_and_its_badges_have_a_workflow():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for notebook in re.findall(r"blob/main/(notebooks/\w+\.ipynb)", README):
        assert (ROOT / notebook).is_file()
    assert {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")} <= set(re.findall(r"^\| \[(\w+)\]", README, re.M))
    workflows = re.findall(rf"{URL}/actions/workflows/(\S+?)/badge\.svg", README)
    assert workflows
    for name in workflows:
        assert yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())["name"]


def test_the_citation_is_that_of_the_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entry = dict(re.findall(r"^  (\w+) = \{\{?(.*?)\}\}?,$", README, re.MULTILINE))
    assert entry == {
        "author": citation["authors"][0]["name"],
        "title": citation["title"],
        "version": storylib.__version__,
        "url": citation["repository-code"],
    }


def test_a_release_has_its_version_in_one_place_and_its_entry_in_the_changelog():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (
        citation["version"] == storylib.__version__
        and 'attr = "storylib.__version__"' in (ROOT / "pyproject.toml").read_text()
    )
    newest = re.search(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest.groups() == (storylib.__version__, str(citation["date-released"]))


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_the_workflows_run_commands_that_there_are(path):
    workflow = yaml.safe_load(path.read_text())
    targets = set(re.findall(r"^([\w./]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    ran = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert ran
    for command in ran:
        tool, *rest = command.split()
        if tool == "make":
            assert set(rest) <= targets | {".venv/.installed"}
        elif tool.endswith("python"):
            assert (ROOT / (rest[1].replace(".", "/") + ".py")).is_file()
        else:
            assert os.access(ROOT / tool, os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}  # whatever needs more says so itself
