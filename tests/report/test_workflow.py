"""The workflow repeats what depends on a change and nothing else, also after a failure and after ``kill -9``.

The stages here only write their receipts, so that the workflow alone is tested.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from storylib.__main__ import main
from storylib.config import ConfigError, project_root
from storylib.report import workflow
from storylib.report.workflow import checkout, notebook_fingerprint, only_one, run_workflow

ROOT = project_root()
CHAPTERS = sorted(path.stem for path in ROOT.glob("notebooks/*.ipynb"))
PLAN = yaml.safe_load((ROOT / "experiments.yml").read_text())

STAGE = """
import os, signal, sys
from pathlib import Path
text = " ".join(sys.argv[1:])
print(text, file=sys.stderr)
with open("done.txt", "a") as log:
    print(text, file=log)
with open("sources.txt", "a") as log:
    print(os.environ["STORYLIB_SOURCE"], file=log)
if os.environ.get("BLOCK", "nothing") in text:
    Path("blocked").write_text(text)  # a named pipe: the test waits for this line
    signal.pause()
if os.environ.get("BREAK", "nothing") in text:
    sys.exit("broken on purpose")
options = dict(zip(sys.argv, sys.argv[1:]))
output = Path(options.get("--receipt") or options.get("--output", "nothing"))
if sys.argv[1] == "render":
    output = Path("_build/html/book.json")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text("{}")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project whose stages only write their receipts, after a first run; and what that run did."""
    tree = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "storylib", tree / "storylib", ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    (tree / "storylib" / "__main__.py").write_text(STAGE)
    for name in ("Snakefile", "experiments.yml", "_config.yml", "_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tree)
    (tree / "experiments.yml").write_text(with_one_seed((tree / "experiments.yml").read_text()))
    shutil.copytree(ROOT / "notebooks", tree / "notebooks")
    (tree / "book").mkdir()
    (tree / "book" / "index.md").touch()
    with pytest.MonkeyPatch.context() as patch:
        at(tree, patch)
        return tree, make(tree)


@pytest.fixture
def tree(finished, tmp_path, monkeypatch):
    """A copy of the finished project."""
    copy = tmp_path / "project"
    shutil.copytree(finished[0], copy)
    at(copy, monkeypatch)
    return copy


def with_one_seed(plan):
    return plan.replace("seeds: [0, 1, 2]", "seeds: [1]", 1)


def add_seed(tree):
    plan = tree / "experiments.yml"
    plan.write_text(plan.read_text().replace("seeds: [1]", "seeds: [1, 2]", 1))


def at(tree, patch):
    patch.setenv("STORYLIB_HOME", str(tree))
    patch.setenv("PYTHONPATH", str(tree))
    patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # compiled in one tree, for all copies


def make(tree, target="book", source="storyworld", cluster=""):
    """The exit code, and what ran: features, evaluate ..., and the chapters whose content changed."""
    for name in ("done.txt", "sources.txt"):
        (tree / name).unlink(missing_ok=True)
    before = contents(tree)
    code = run_workflow(target, source, "quick", 4, cluster)
    after = contents(tree)
    return code, sorted(stages(tree) + [name for name in after if after[name] != before.get(name)])


def contents(tree):
    """What each chapter depends on, by its name."""
    return {path.name: path.read_text() for path in tree.glob("_build/storyworld-quick/contents/*")}


def stages(tree):
    """What ran, in this order."""
    lines = (tree / "done.txt").read_text().splitlines() if (tree / "done.txt").exists() else []
    return [line.split()[0] for line in lines]


def add(path, text):
    path.write_text(path.read_text() + text)


def test_the_first_run_does_everything_and_some_chapters_beside_the_trainings(finished):
    tree, (code, done) = finished
    assert code == 0
    assert done == sorted(["features", "credits", "render", "gallery", "evaluate", "chapters", *CHAPTERS])
    assert "--arm contrastive-off --arm contrastive-on --seed 1" in (tree / "done.txt").read_text()


def test_only_what_depends_on_a_change_is_done_again(tree, capsys):
    assert make(tree) == (0, [])
    assert "nothing to do" in capsys.readouterr().err
    add(tree / "storylib" / "model.py", "\n# a comment\n")
    add(tree / "experiments.yml", "# a comment\n")  # a page quotes it and pages show docstrings
    add(tree / "notebooks" / "03_evaluate.ipynb", "\n")
    add(tree / "storylib" / "report" / "gallery.py", "\nADDED = 1\n")
    assert make(tree) == (0, ["03_evaluate", "chapters", "gallery", "render"])
    add(tree / "book" / "index.md", "\n")
    assert make(tree) == (0, ["render"])
    add(tree / "storylib" / "baselines.py", "\nADDED = 1\n")
    plan = tree / "experiments.yml"
    plan.write_text(plan.read_text().replace("contrastive_weight: 0.0  # one", "contrastive_weight: 0.1  # one"))
    code, done = make(tree)
    assert code == 0 and done.count("evaluate") == 1 and {"03_evaluate", "chapters", "render"} <= set(done)
    assert not {"features", "credits"} & set(done)


def test_a_chapter_depends_on_the_modules_that_its_notebook_imports(tmp_path):
    def fingerprint(*lines):
        cells = [{"cell_type": "code", "source": ["%pip install x\n", "\n".join(lines)]}]
        (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
        return notebook_fingerprint(tmp_path / "a.ipynb")

    config, losses = "from storylib.config import configure", "from storylib import losses"
    assert fingerprint(config) == fingerprint(config, "x = 1") != fingerprint(config, losses)
    assert fingerprint(losses) == fingerprint("from storylib.losses import ContrastiveLoss  # or any other name")


def test_the_full_profile_publishes_every_record(tree):
    plan = tree / "experiments.yml"
    plan.write_text(plan.read_text().replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]", 1))
    (tree / "done.txt").unlink()
    assert run_workflow("runs", "storyworld", "full", 4) == 0
    options = "--profile full"
    expected = [f"audit {options}", *(f"ablation {options} --preset {name}" for name in PLAN["presets"])]
    expected += [f"sweep {options} --only {name}" for name in PLAN["sweeps"]]
    lines = (tree / "done.txt").read_text().splitlines()
    assert sorted(line for line in lines if "--receipt" not in line) == sorted(expected)


def test_a_folder_is_a_source_and_its_files_are_watched(tree, tmp_path, monkeypatch):
    own = tmp_path / "my {pictures} & 'more' #1"
    own.mkdir()
    (own / "metadata.csv").write_text("file_name,text,story_id,position\na.png,A,a,1\n")
    (own / "a.png").write_bytes(b"one")
    monkeypatch.chdir(tmp_path)
    source = f"folder:{own.name}"
    assert make(tree, target="runs", source=source) == (0, ["evaluate", "features"])
    assert set((tree / "sources.txt").read_text().splitlines()) == {f"folder:{own}"}
    (own / "a.png").write_bytes(b"another")
    assert "features" in make(tree, target="runs", source=source)[1]


def test_a_failed_run_keeps_the_others_and_chapters_of_one_seed_do_not_wait_for_it(tree, monkeypatch, capfd):
    add_seed(tree)
    add(tree / "storylib" / "training.py", "\nADDED = 1\n")
    monkeypatch.setenv("BREAK", "--seed 1")
    code, done = make(tree, target="runs")
    messages = capfd.readouterr().err
    assert code != 0 and done.count("evaluate") == 2
    assert "FAILED: training and evaluating contrastive-off and contrastive-on, seed 1" in messages
    assert "broken on purpose" in messages
    monkeypatch.delenv("BREAK")
    code, done = make(tree)
    assert code == 0 and done.count("evaluate") == 1 and "04_ablation" in done and "features" not in done
    lines = (tree / "done.txt").read_text().splitlines()
    early, late = sorted((line for line in lines if line.startswith("chapters")), key=lambda line: "03_eval" in line)
    assert "05_audit" in early and "04_ablation" in late and "02_train" in early


def test_the_reason_of_snakemake_is_shown(tree, capfd):
    (tree / "notebooks" / "03_evaluate.ipynb").unlink()
    add(tree / "Snakefile", '\nREADS["x"] = 1 / 0\n')
    assert make(tree)[0] != 0
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_killed_run_is_continued_and_a_running_one_is_not_disturbed(tree, capsys, monkeypatch):
    shutil.rmtree(tree / "_build" / "storyworld-quick" / "runs")
    os.mkfifo(tree / "blocked")
    pipe = os.open(tree / "blocked", os.O_RDONLY | os.O_NONBLOCK)
    command = [sys.executable, "-m", "storylib", "runs", "--cores", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BLOCK": "evaluate"}  # our workflow, on the tree's stages
    ended, end = os.pipe()  # of the first process: readable when it has ended
    options = {"env": environment, "start_new_session": True, "pass_fds": [end], "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, cwd=ROOT, **options)
    os.close(end)
    try:
        assert pipe in select.select([pipe, ended], [], [])[0], "no training was started"
        with monkeypatch.context() as patch:
            patch.setattr(workflow.time, "sleep", lambda seconds: None)
            assert main(["runs"]) == 2
        assert "Another run works in this folder" in capsys.readouterr().err
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        os.close(pipe)
        os.close(ended)
    assert list((tree / ".snakemake" / "locks").iterdir())
    code, done = make(tree, target="runs")
    assert code == 0 and done.count("evaluate") == 1 and "features" not in done
    assert "continuing where it stopped" in capsys.readouterr().err


def test_a_cluster_gets_the_jobs_and_a_failure_is_reported(tree, tmp_path, monkeypatch, capfd):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="pip install 'storylib[cluster]'")
    shutil.copytree(ROOT / "profiles", tree / "profiles")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    monkeypatch.setenv("TMPDIR", str(jobs))
    monkeypatch.setenv("BREAK", "--arm contrastive-on --seed 1")
    code, done = make(tree, target="runs", cluster="generic")
    assert code != 0 and done == ["evaluate", "evaluate"]  # on a cluster, each arm and seed is a job
    assert "broken on purpose" in capfd.readouterr().err
    monkeypatch.delenv("BREAK")
    assert make(tree, target="runs", cluster="generic") == (0, ["evaluate"])
    codes = sorted(path.read_text().strip() for path in jobs.glob("storylib-job-*/code"))
    assert codes == ["0", "0", "1"]


def test_a_job_of_the_generic_profile_is_watched_and_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def call(name, *arguments):
        command = [str(ROOT / "profiles" / "generic" / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "long.sh").write_text("sleep 60\n")
    job = call("submit", 1, tmp_path / "long.sh")
    assert call("status", job) == "running"
    call("cancel", job)
    assert any(call("status", job) == "failed" for _ in range(500))


@pytest.mark.parametrize("cluster", ["generic", "slurm"])
def test_the_settings_of_a_cluster_are_known_to_snakemake(cluster):
    settings = yaml.safe_load((ROOT / "profiles" / cluster / "config.v8+.yaml").read_text())
    pytest.importorskip(f"snakemake_executor_plugin_{settings['executor'].replace('-', '_')}")
    from snakemake.cli import get_argument_parser
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    ExecutorPluginRegistry().get_plugin(settings["executor"])
    help_text = get_argument_parser().format_help()
    for name in settings:
        assert f"--{name}" in help_text, name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "slrm"], "Did you mean 'slurm'?"),
        (["--source", "storyword"], "Did you mean 'storyworld'?"),
        (["--profile", "quik"], "Did you mean 'quick'?"),
    ],
)
def test_a_misspelt_name_is_one_clear_sentence(options, message, capsys):
    assert main(["book", *options]) == 2
    assert message in capsys.readouterr().err


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "run_workflow", interrupt)
    assert main(["book"]) == 130
    assert "continues from here" in capsys.readouterr().err


def test_two_at_a_time_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow.time, "sleep", lambda seconds: None)
    with only_one(tmp_path / "lock"), pytest.raises(ConfigError, match="Another run"), only_one(tmp_path / "lock"):
        pass


def test_an_installed_storylib_finds_a_clone_of_its_origin(tmp_path, monkeypatch):
    assert checkout() == ROOT
    origin = tmp_path / "origin"
    origin.mkdir()
    author = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*author, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *command], cwd=origin, check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=origin, capture_output=True, text=True, check=True).stdout
    direct_url = {"url": origin.as_uri(), "vcs_info": {"commit_id": head.strip()}}

    class Installed:
        def read_text(self, name):
            return json.dumps(direct_url)

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(workflow, "project_root", Path.cwd)
    monkeypatch.setattr(workflow, "distribution", lambda name: Installed())
    clone = checkout()
    assert (clone / ".git").is_dir() and clone.parent == tmp_path / "empty"
    assert checkout() == clone  # once is enough
    shutil.rmtree(clone)
    direct_url.pop("vcs_info")
    with pytest.raises(ConfigError, match="Clone it"):
        checkout()
