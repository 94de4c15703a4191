"""The graph redoes what depends on a change and nothing else, also after a failure and after ``kill -9``.

It runs here on modules that do nothing but write their receipts, so that only the graph is tested.
"""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from storylib import workflow
from storylib.config import ConfigError
from storylib.workflow import main, only_one, run_workflow

ROOT = Path(__file__).parents[1]
SNAKEFILE = (ROOT / "Snakefile").read_text()
LAYERS = ast.literal_eval(re.search(r"^LAYERS = (\{.*?^\})", SNAKEFILE, flags=re.DOTALL | re.MULTILINE)[1])
CHAPTERS = re.findall(r'^    "(\d\d_\w+)": \[', SNAKEFILE, flags=re.MULTILINE)
DOORS = {
    "__init__",
    "__main__",
    "cache",
    "runner",
    "reference",
    "book",
    "workflow",
}  # they open doors and change no result

STAGE = """import json, os, sys, time
from pathlib import Path
text = " ".join(sys.argv[1:])
print(text, file=sys.stderr)
with open("done.txt", "a") as log:
    print(text, file=log)
time.sleep(float(os.environ.get("SLOW", 0)))
if os.environ.get("BREAK", "nothing") in text:
    sys.exit("broken on purpose")
output = Path(sys.argv[sys.argv.index("--receipt") + 1] if "--receipt" in sys.argv else sys.argv[2])
if "--executed" in sys.argv:
    output = Path("_build/html/book.json")
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text("{}")
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project whose stages only write their receipts."""
    for name in [m for layer in LAYERS.values() for m in layer] + ["__init__", "sources/__init__"]:
        path = tmp_path / "storylib" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copy(ROOT / "storylib" / "config.py", tmp_path / "storylib")
    for name in ("gallery.html", "reference.py", "workflow.py"):
        (tmp_path / "storylib" / name).touch()
    for name in ("__main__", "runner", "book", "gallery", "sources/acknowledgements"):
        (tmp_path / "storylib" / f"{name}.py").write_text(STAGE)
    for name in ("Snakefile", "experiments.yml", "_config.yml", "_toc.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    plan = (tmp_path / "experiments.yml").read_text().replace("seeds: [0, 1, 2]", "seeds: [0, 1]", 1)
    (tmp_path / "experiments.yml").write_text(plan)
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").touch()
    (tmp_path / "notebooks").mkdir()
    for chapter in CHAPTERS:
        (tmp_path / "notebooks" / f"{chapter}.ipynb").write_text("{}")
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def make(tree, target="book", source="storyworld", cluster=""):
    """The exit code, and what ran, as words: features, train ..., or the name of a notebook."""
    (tree / "done.txt").unlink(missing_ok=True)
    code = run_workflow(target, source, "quick", 4, cluster)
    lines = (tree / "done.txt").read_text().splitlines() if (tree / "done.txt").exists() else []
    return code, sorted(map(stage, lines))


def stage(line):
    """What a line of the stages' log stands for."""
    if "--executed" in line:
        return "book"
    if "credits.md" in line:
        return "credits"
    return "gallery" if line.startswith("--output") else Path(line.split()[0]).stem


def edit(path, text="\n# edited\n"):
    path.write_text(path.read_text() + text)


RUNS = 2 * len(yaml.safe_load((ROOT / "experiments.yml").read_text())["arms"])


def test_the_layers_name_every_module():
    listed = {name for layer in LAYERS.values() for name in layer}
    packages = {p.parent.name for p in (ROOT / "storylib").glob("*/__init__.py")} - {"sources"}  # listed by itself
    assert listed == {p.stem for p in (ROOT / "storylib").glob("*.py")} - DOORS | packages


def test_the_chapters_are_those_of_the_book():
    toc = re.findall(r"file: notebooks/(\w+)", (ROOT / "_toc.yml").read_text())
    assert toc == CHAPTERS
    assert not list(ROOT.glob("notebooks/*.ipynb")) or {p.stem for p in ROOT.glob("notebooks/*.ipynb")} == set(CHAPTERS)


def test_the_full_profile_publishes_every_record(tree):
    plan = tree / "experiments.yml"
    plan.write_text(plan.read_text().replace("seeds: [0, 1, 2, 3, 4]", "seeds: [0]", 1))
    for name in ("ablation", "presets", "sweeps", "audit"):
        (tree / "storylib" / f"{name}.py").write_text(STAGE)
    sweeps = [*yaml.safe_load(plan.read_text())["sweeps"]]
    assert run_workflow("runs", "storyworld", "full", 4, "") == 0
    of = "--source storyworld --profile full"
    said = [line for line in (tree / "done.txt").read_text().splitlines() if line.startswith(of)]
    assert sorted(said) == sorted([of] * 3 + [f"{of} --only {name}" for name in sweeps])
    published = {p.name for p in (tree / "_build" / "storyworld-full" / "published").iterdir()}
    assert published == {"ablation", "presets", "audit", *(f"sweep-{name.replace(' ', '-')}" for name in sweeps)}


def test_only_what_depends_on_a_change_is_done_again(tree, capsys):
    everything = sorted(["features", "credits", "book", "gallery", *CHAPTERS, *["train", "evaluate"] * RUNS])
    assert make(tree) == (0, everything)
    assert "open " in capsys.readouterr().err
    order = [stage(line) for line in (tree / "done.txt").read_text().splitlines()]
    assert order.index("05_audit") < min(map(order.index, ("04_ablation", "03_evaluate")))  # the longest begins first
    started = time.monotonic()
    assert make(tree) == (0, [])
    assert "nothing to do" in capsys.readouterr().err and time.monotonic() - started < 30

    (tree / "notebooks" / "03_evaluate.ipynb").touch()
    assert make(tree) == (0, [])
    edit(tree / "notebooks" / "03_evaluate.ipynb")
    assert make(tree) == (0, ["03_evaluate", "book"])
    edit(tree / "storylib" / "statistics.py")
    assert make(tree) == (
        0,
        sorted(["03_evaluate", "04_ablation", "05_audit", "06_cost", "book", "gallery", *["evaluate"] * RUNS]),
    )
    edit(tree / "experiments.yml", "# a comment\n")
    assert make(tree) == (0, ["book"])  # a page quotes the file; no run depends on a comment
    plan = (tree / "experiments.yml").read_text()
    (tree / "experiments.yml").write_text(plan.replace("contrastive_weight: 0.0", "contrastive_weight: 0.1"))
    assert make(tree) == (
        0,
        sorted(["04_ablation", "06_cost", "book", "gallery", *["train", "evaluate"] * (RUNS // 2)]),
    )


def test_another_source_is_another_folder_and_back_is_only_the_book(tree):
    assert make(tree)[0] == 0
    code, done = make(tree, source="african_storybook")
    assert code == 0 and done.count("train") == RUNS
    assert make(tree) == (0, ["book"])
    assert (tree / "_build" / "african_storybook-quick" / "features.json").exists()


def test_a_folder_of_ones_own_is_a_source_and_its_table_is_watched(tree, tmp_path, monkeypatch):
    own = tmp_path / "my pictures"
    own.mkdir()
    (own / "metadata.csv").write_text("file_name,text,story_id,position\n")
    monkeypatch.chdir(tmp_path)
    code, done = make(tree, target="runs", source="folder:my pictures")
    assert code == 0 and "features" in done
    assert (tree / "done.txt").read_text().count(f"--source folder:{own} ") == len(done)
    edit(own / "metadata.csv", "a.jpg,A,a,1\n")
    assert "features" in make(tree, target="runs", source="folder:my pictures")[1]


def test_runs_leave_the_book_alone_and_go_on_past_a_failure(tree, monkeypatch, capfd):
    monkeypatch.setenv("BREAK", "--arm contrastive-on --seed 1")
    code, done = make(tree, target="runs")
    said = capfd.readouterr().err
    assert code != 0 and done.count("train") == RUNS and done.count("evaluate") == RUNS - 1
    assert "FAILED: training contrastive-on, seed 1" in said and "broken on purpose" in said
    monkeypatch.delenv("BREAK")
    assert make(tree, target="runs") == (0, ["evaluate", "train"])
    assert not (tree / "_build" / "html").exists()


def test_a_receipt_lost_in_a_failure_is_made_again(tree, monkeypatch):
    assert make(tree)[0] == 0
    edit(tree / "storylib" / "model.py")
    monkeypatch.setenv("BREAK", "train --source storyworld --profile quick --arm contrastive-on --seed 1")
    assert make(tree)[0] != 0
    monkeypatch.delenv("BREAK")
    code, done = make(tree)
    assert code == 0 and "train" in done and "04_ablation" in done and done.count("features") == 0
    assert make(tree) == (0, [])


def test_a_killed_run_is_taken_over_and_a_living_one_is_not(tree, capsys):
    command = [sys.executable, "-m", "storylib.workflow", "book", "--cores", "2"]
    there = {**os.environ, "PYTHONPATH": str(ROOT), "SLOW": "1"}  # our workflow, working on the tree
    first = subprocess.Popen(command, cwd=ROOT, env=there, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        "train" not in (tree / "done.txt").read_text() if (tree / "done.txt").exists() else time.monotonic() < deadline
    ):
        time.sleep(0.2)
    assert main(["book"]) == 2
    assert "Another make runs in this folder" in capsys.readouterr().err
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert list((tree / ".snakemake" / "locks").iterdir())
    code, done = make(tree)
    assert code == 0 and "features" not in done and 0 < done.count("train") < RUNS
    assert "taking over" in capsys.readouterr().err


def test_a_cluster_gets_the_jobs_and_a_failed_one_is_told(tree, tmp_path, monkeypatch, capfd):
    pytest.importorskip("snakemake_executor_plugin_cluster_generic", reason="pip install 'storylib[cluster]'")
    shutil.copytree(ROOT / "profiles", tree / "profiles")
    plan = (tree / "experiments.yml").read_text()
    (tree / "experiments.yml").write_text(plan.replace("seeds: [0, 1]", "seeds: [1]", 1))  # a job costs seconds here
    runs, jobs = RUNS // 2, tmp_path / "jobs"
    jobs.mkdir()
    monkeypatch.setenv("TMPDIR", str(jobs))
    monkeypatch.setenv("BREAK", "--arm contrastive-on --seed 1")
    code, done = make(tree, target="runs", cluster="generic")
    assert code != 0 and done.count("train") == runs and done.count("evaluate") == runs - 1
    assert "broken on purpose" in capfd.readouterr().err
    monkeypatch.delenv("BREAK")
    assert make(tree, target="runs", cluster="generic") == (0, ["evaluate", "train"])
    codes = [path.read_text().strip() for path in jobs.glob("storylib-job-*/code")]
    assert codes.count("0") == 2 * runs + 1 and len(codes) == 2 * runs + 2  # one failed, and was sent again


def test_a_job_of_the_generic_profile_is_watched_and_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def call(name, *arguments):
        command = [str(ROOT / "profiles" / "generic" / name), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    (tmp_path / "long.sh").write_text("sleep 60\n")
    job = call("submit", 1, tmp_path / "long.sh")
    assert call("status", job) == "running"
    call("cancel", job)
    deadline = time.monotonic() + 10
    while call("status", job) == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert call("status", job) == "failed"


@pytest.mark.parametrize("cluster", ["generic", "slurm"])
def test_the_settings_of_a_cluster_are_known_to_snakemake(cluster):
    from snakemake.cli import get_argument_parser

    settings = yaml.safe_load((ROOT / "profiles" / cluster / "config.v8+.yaml").read_text())
    pytest.importorskip(f"snakemake_executor_plugin_{settings['executor'].replace('-', '_')}")
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    ExecutorPluginRegistry().get_plugin(settings["executor"])
    help_text = get_argument_parser().format_help()
    for name in settings:
        assert f"--{name}" in help_text, name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cluster", "slrm"], "Did you mean 'slurm'?"),
        (["--source", "storyword"], "Did you mean 'storyworld'?"),
        (["--profile", "quik"], "Did you mean 'quick'?"),
    ],
)
def test_a_misspelt_name_is_one_clear_sentence(options, says, capsys):
    assert main(["book", *options]) == 2
    assert says in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "run_workflow", interrupt)
    assert main(["book"]) == 130
    assert "goes on from here" in capsys.readouterr().err


def test_two_at_a_time_are_refused(tmp_path):
    with only_one(tmp_path / "lock"), pytest.raises(ConfigError, match="Another make"), only_one(tmp_path / "lock"):
        pass


def test_an_installed_storylib_finds_a_clone_of_where_it_came_from(tmp_path, monkeypatch):
    assert workflow.checkout() == ROOT
    there = tmp_path / "there"
    there.mkdir()
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *command], cwd=there, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=there, capture_output=True, text=True, check=True).stdout
    told = {"url": there.as_uri(), "vcs_info": {"commit_id": commit.strip()}}

    class Installed:
        def read_text(self, name):
            return json.dumps(told)

    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(workflow, "project_root", Path.cwd)
    monkeypatch.setattr(workflow, "distribution", lambda name: Installed())
    clone = workflow.checkout()
    assert (clone / ".git").is_dir() and clone.parent == tmp_path / "empty"
    assert workflow.checkout() == clone  # once is enough
    shutil.rmtree(clone)
    told.pop("vcs_info")
    with pytest.raises(ConfigError, match="clone it"):
        workflow.checkout()
