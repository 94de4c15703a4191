"""Run the Snakefile, one process at a time; a killed run is taken over."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from storylib.config import ConfigError, build_name, configure, project_root, unknown
from storylib.data.code import code_fingerprint, imported_modules
from storylib.data.store import check_writable
from storylib.report.notebooks import read_cells
from storylib.sources import absolute_source

HEARTBEAT = 30  # seconds
QUIET = ("rules", "host", "progress", "reason")  # about these, and below about these lines; not about errors
CHATTER = ("Assuming ", "Building DAG", "Using shell", "Select jobs", "Execute ", "Complete log", "Elapsed time",
           "Will exit", "Using profile")  # fmt: skip


def run_workflow(target: str, source: str, profile: str, cores: int | None = None, cluster: str = "") -> int:
    """Do what is missing for a target and return the exit code of Snakemake.

    target: "book" or "runs". cores: of this machine; all by default. cluster: a folder of ``profiles/``, where the
    jobs are sent instead. Raises ConfigError for an unknown name, and if another run works in this folder.
    """
    root = project_root()
    source = absolute_source(source)
    configure(profile)  # raises ConfigError for an unknown one
    clusters = [path.parent.name for path in root.glob("profiles/*/config*.yaml")]
    if cluster and cluster not in clusters:
        raise ConfigError(unknown("cluster", cluster, clusters))
    check_writable()
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores or "all"), "--quiet", *QUIET]
    options = ["--rerun-incomplete", "--config", f"profile={profile}", f"cluster={cluster}", "--", target]
    if target == "runs":
        options.insert(0, "--keep-going")  # one failed run does not end a night of runs; it does end a book
    if cluster:
        options[:0] = ["--profile", f"profiles/{cluster}"]
    logs = root / "_build" / build_name(source, profile) / "logs"
    with only_one(root / "_build" / ".lock") as lock:
        if any((root / ".snakemake" / "locks").glob("*")):
            say("the last run was killed: continuing where it stopped")
            subprocess.run([*command, "--unlock"], cwd=root, check=True)
        where = f"the cluster of profiles/{cluster}" if cluster else f"{cores or 'all'} cores"
        say(f"looking for what is missing for {target!r}: source {source}, profile {profile}, {where}")
        before = newest(logs)
        environment = os.environ | {"STORYLIB_SOURCE": source}
        options = [*command, *options]
        with subprocess.Popen(options, cwd=root, env=environment, pass_fds=[lock], stderr=subprocess.PIPE) as snakemake:
            watcher = threading.Thread(target=show_progress, args=(snakemake, logs), daemon=True)
            watcher.start()
            for line in io.TextIOWrapper(snakemake.stderr, errors="replace") if snakemake.stderr else ():
                if not line.startswith(CHATTER):
                    print(line, end="", file=sys.stderr, flush=True)
        code = snakemake.returncode
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


def show_progress(process: subprocess.Popen[bytes], logs: Path) -> None:
    """Until a process ends: twice a minute, how far the jobs are that write to these logs."""
    while process.poll() is None:
        time.sleep(HEARTBEAT)
        for log in logs.glob("*.log"):
            if time.time() - log.stat().st_mtime < HEARTBEAT:
                lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").split("\n")
                bars = [line for line in lines if "%|" in line]
                if bars:
                    say(f"  {log.stem}: {bars[-1].strip()}")


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
