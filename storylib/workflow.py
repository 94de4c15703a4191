"""Runs the Snakefile for ``make``: one at a time, and taking over what a killed run left behind.

python -m storylib.workflow book --source storyworld --profile quick --cores 2
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

from storylib.config import ConfigError, experiments, project_root, unknown
from storylib.sources import SOURCES


def run_workflow(target: str, source: str, profile: str, cores: int, cluster: str = "") -> int:
    """Do what is missing for the target ("book" or "runs"); the exit code of Snakemake.

    cores: of this machine, for what runs here. cluster: a folder of ``profiles/``, where the jobs are sent instead.
    """
    root = project_root()
    # A misspelt name is worth one clear sentence rather than a missing input file three levels down.
    name, _, folder = source.partition(":")
    if name not in SOURCES:
        raise ConfigError(unknown("source", name, SOURCES))
    source = f"{name}:{Path(folder).expanduser().resolve()}" if folder else name
    if profile not in experiments()["profiles"]:
        raise ConfigError(unknown("profile", profile, experiments()["profiles"]))
    clusters = sorted(path.parent.name for path in root.glob("profiles/*/config*.yaml"))
    if cluster and cluster not in clusters:
        raise ConfigError(unknown("cluster", cluster, clusters))
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", str(cores)]
    unlock = [*command, "--unlock"]
    if cluster:
        command += ["--profile", f"profiles/{cluster}"]
    with only_one(root / "_build" / ".lock") as lock:
        if any((root / ".snakemake" / "locks").glob("*")):
            say("the last run was killed: taking over where it stopped")
            subprocess.run(unlock, cwd=root, check=True)
        where = f"the cluster of profiles/{cluster}" if cluster else f"{cores} cores"
        say(f"finding out what is to be done for {target!r}: source {source}, profile {profile}, {where}")
        config = ["--config", f"source={source}", f"profile={profile}"]
        if target == "runs":
            command.append("--keep-going")  # a night of runs does not end with the first that fails; a book does
        logs = root / "_build" / re.sub(r"[^\w.-]+", "_", f"{source}-{profile}") / "logs"
        before = newest(logs)
        command += ["--rerun-incomplete", *config, "--", target]
        code = subprocess.run(command, cwd=root, pass_fds=[lock]).returncode
    if code == 0 and newest(logs) == before:
        say("nothing to do: everything is up to date")
    if code:
        say(f"'{target}' failed; the logs are in {logs}. The same command goes on where this one stopped.")
    elif target == "book":
        say(f"the book is ready: open {root / '_build' / 'html' / 'index.html'}")
    else:
        say(f"all runs are ready: records in runs, receipts and logs in {logs.parent}")
    return code


def checkout() -> Path:
    """The project with its notebooks and its Snakefile: this checkout or, beside an installed storylib, a clone.

    The clone comes from where storylib was installed from and lies in the current folder. Raises ConfigError when
    that is not known.
    """
    if (project_root() / "Snakefile").is_file():
        return project_root()
    folder = Path.cwd() / "storylib-checkout"
    if not folder.is_dir():
        source = json.loads(distribution("storylib").read_text("direct_url.json") or "{}")
        if "vcs_info" not in source:
            raise ConfigError("This storylib was not installed from a git repository: clone it, and work in the clone.")
        subprocess.run(["git", "clone", "--quiet", source["url"], str(folder)], check=True)
        revision = source["vcs_info"]["commit_id"]
        subprocess.run(["git", "checkout", "--quiet", revision], cwd=folder, check=True)
    return folder


def newest(folder: Path) -> float:
    """When a file of the folder was last written; 0 when there is none."""
    return max((path.stat().st_mtime for path in folder.glob("*")), default=0.0)


@contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Hold a lock, and give its file number to the child that must hold it too.

    The system frees it even after ``kill -9``, so that a stale lock of Snakemake can be told from a live one.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        for attempt in range(10):  # what was killed a moment ago may need another to be gone
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == 9:
                    raise ConfigError(
                        "Another make runs in this folder. Wait for it, or stop it, and try again."
                    ) from None
                time.sleep(0.2)
        yield handle.fileno()


def available_cores() -> int:
    """Cores that this process may use; fewer than the machine has, in many containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.workflow", description=__doc__)
    parser.add_argument("target", choices=["book", "runs"])
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--cores", type=int, default=available_cores())
    parser.add_argument("--cluster", default="", help="send the jobs to a cluster: a folder of profiles/")
    options = parser.parse_args(arguments)
    try:
        return run_workflow(options.target, options.source, options.profile, options.cores, options.cluster)
    except ConfigError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130


if __name__ == "__main__":
    sys.exit(main())
