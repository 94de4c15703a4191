"""Run the Snakefile, one process at a time; a killed run is taken over."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from storylib.config import ConfigError, experiments, project_root, slug, unknown
from storylib.data.code import code_fingerprint, imported_modules
from storylib.report.notebooks import read_cells
from storylib.sources import source_names


def run_workflow(target: str, source: str, profile: str, cores: int | None = None, cluster: str = "") -> int:
    """Do what is missing for a target and return the exit code of Snakemake.

    target: "book" or "runs". cores: of this machine; all by default. cluster: a folder of ``profiles/``, where the
    jobs are sent instead. Raises ConfigError for an unknown name, and if another run works in this folder.
    """
    root = project_root()
    source = checked_source(source)
    check_name("profile", profile, list(experiments()["profiles"]))
    if cluster:
        check_name("cluster", cluster, sorted(path.parent.name for path in root.glob("profiles/*/config*.yaml")))
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", str(cores or "all")]
    options = ["--rerun-incomplete", "--config", f"source={source}", f"profile={profile}", "--", target]
    if target == "runs":
        options.insert(0, "--keep-going")  # one failed run does not end a night of runs; it does end a book
    if cluster:
        options[:0] = ["--profile", f"profiles/{cluster}"]
    logs = root / "_build" / slug(f"{source}-{profile}") / "logs"
    with only_one(root / "_build" / ".lock") as lock:
        if any((root / ".snakemake" / "locks").glob("*")):
            say("the last run was killed: continuing where it stopped")
            subprocess.run([*command, "--unlock"], cwd=root, check=True)
        where = f"the cluster of profiles/{cluster}" if cluster else f"{cores or 'all'} cores"
        say(f"looking for what is missing for {target!r}: source {source}, profile {profile}, {where}")
        before = newest(logs)
        code = subprocess.run([*command, *options], cwd=root, pass_fds=[lock]).returncode
    if code:
        say(f"{target!r} failed; the logs are in {logs}. The same command continues from there.")
        return code
    if newest(logs) == before:
        say("nothing to do: everything is up to date")
    if target == "book":
        say(f"the book is ready: open {root / '_build' / 'html' / 'index.html'}")
    else:
        say(f"all runs are ready: records in runs, receipts and logs in {logs.parent}")
    return 0


def checked_source(source: str) -> str:
    """The source with an absolute folder. Raises ConfigError: a misspelt name is worth one clear sentence."""
    name, _, folder = source.partition(":")
    check_name("source", name, source_names())
    return f"{name}:{Path(folder).expanduser().resolve()}" if folder else name


def check_name(kind: str, name: str, known: list[str]) -> None:
    """Raise ConfigError, with the nearest name, for an unknown one."""
    if name not in known:
        raise ConfigError(unknown(kind, name, known))


def notebook_fingerprint(notebook: Path) -> str:
    """Hash of the code of storylib that a notebook imports, directly or not."""
    code = "\n".join(cell["source"] for cell in read_cells(notebook) if cell["cell_type"] == "code")
    code = re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.MULTILINE)  # %pip is not Python
    return code_fingerprint(*sorted(set(imported_modules(code))))


def checkout() -> Path:
    """The project with its notebooks and its Snakefile: this checkout or, for an installed storylib, a clone.

    The clone is made in the current folder. Raises ConfigError if storylib was not installed from a git repository.
    """
    if (project_root() / "Snakefile").is_file():
        return project_root()
    folder = Path.cwd() / "storylib-checkout"
    if not folder.is_dir():
        origin = json.loads(distribution("storylib").read_text("direct_url.json") or "{}")
        if "vcs_info" not in origin:
            raise ConfigError("This storylib was not installed from a git repository. Clone it and work in the clone.")
        subprocess.run(["git", "clone", "--quiet", origin["url"], str(folder)], check=True)
        subprocess.run(["git", "checkout", "--quiet", origin["vcs_info"]["commit_id"]], cwd=folder, check=True)
    return folder


def newest(folder: Path) -> float:
    """When a file of the folder was last written; 0 if there is none."""
    return max((path.stat().st_mtime for path in folder.glob("*")), default=0.0)


@contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Hold a lock and give its file descriptor, which the child process must inherit.

    The system releases it even after ``kill -9``, which tells a stale lock of Snakemake from a live one.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        for _ in range(10):  # a process killed a moment ago may still be ending
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise ConfigError("Another run works in this folder. Wait for it, or stop it, and try again.")
        yield handle.fileno()


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)
