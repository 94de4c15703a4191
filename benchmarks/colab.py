"""Google Colab, simulated: each notebook alone, in a fresh environment with only what Colab provides.

    python -m benchmarks.colab                           every notebook
    python -m benchmarks.colab 02_train 07_your_story    only these; the record of the others stays
    python -m benchmarks.colab --python 3.12             with another Python: a version, or the path of an interpreter

The environment holds the packages that Colab publishes, in its versions (``PUBLISHED``), and what these require. The
first cell must install everything else, from a repository with a file:// address, and replace none. ``google.colab``
is a stub. The record is results/colab.json, written after each notebook.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from benchmarks.records import write_json
from storylib.experiments.provenance import provenance

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "colab.json"
PUBLISHED = ROOT / "benchmarks" / "colab-2026.08.txt"
COLAB_PYTHON = "3.13"
ALSO = ("nbclient", "nbformat", "pyzmq", "seaborn", "tornado")  # there as well, in versions that we do not know
INHERITED = tuple("PIP_ SSL_ REQUESTS_ http HTTP no_proxy OMP_ HF_HUB_OFFLINE PATH HOME LANG LC_".split())
RUN = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=3600).execute()
finally:
    nbformat.write(notebook, "executed.ipynb")
"""
FILES_STUB = '''
"""Stub of google.colab.files: uploads the files that the variable UPLOADS names."""
import json, os, pathlib

def upload():
    return {name: pathlib.Path(name).read_bytes() for name in json.loads(os.environ.get("UPLOADS", "[]"))}
'''


def simulate(notebook: Path, repository: str, folder: Path, machine: Path, offline: bool = False) -> dict[str, Any]:
    """Run one notebook on a bare machine; returns its time and the packages that it installed.

    machine: the folder of a virtual environment. offline: nothing may be downloaded, so the machine must have
    everything but storylib. Raises RuntimeError if a cell fails or if a package of Colab is replaced.
    """
    work = folder / "content"
    work.mkdir()
    shutil.copy(notebook, work)
    environment = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    environment["STORYLIB_REPOSITORY"] = repository
    if offline:
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip reads 0 as "no isolation"
    before = packages(machine)
    start = time.perf_counter()
    command = [machine / "bin" / "python", "-c", RUN, notebook.name]
    result = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if result.returncode:
        raise RuntimeError(f"{notebook.name} fails on a bare machine:\n{result.stderr[-3000:]}")
    after = packages(machine)
    if replaced := [name for name in sorted(before - after) if name.partition("-")[0] in {*published(), *ALSO}]:
        raise RuntimeError(f"{notebook.name} replaced {', '.join(replaced)}")
    return {
        "notebook": notebook.stem,
        "seconds": round(seconds, 1),
        "torch": published()["torch"],
        "installed": sorted(after - before),
    }


def published() -> dict[str, str]:
    """Name and version of the packages that Colab publishes."""
    lines = PUBLISHED.read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def colab_machine(folder: Path, python: str) -> None:
    """Make a virtual environment with what Colab publishes, under this Python."""
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", python, folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", folder / "bin" / "python", "--constraint", PUBLISHED]
    subprocess.run([*install, *published(), *ALSO], check=True)
    add_to_path(folder)


def this_machine(folder: Path) -> None:
    """Make a virtual environment that sees every package of this one but storylib, without any download."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    linked = folder / "linked"
    linked.mkdir()
    for part in Path(sysconfig.get_path("purelib")).iterdir():
        if "storylib" not in part.name:
            (linked / part.name).symlink_to(part)
    add_to_path(folder, linked)


def add_to_path(machine: Path, *folders: Path) -> None:
    """Let a virtual environment import from folders, and ``google.colab``; ``google`` is a namespace, open to more."""
    colab = machine / "stub" / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()
    (colab / "files.py").write_text(FILES_STUB)
    (site(machine) / "more.pth").write_text("".join(f"{folder}\n" for folder in (*folders, machine / "stub")))


def site(machine: Path) -> Path:
    """The site-packages folder of a virtual environment."""
    (folder,) = machine.glob("lib/python*/site-packages")
    return folder


def packages(machine: Path) -> set[str]:
    """The packages that are installed in a virtual environment itself, as name-version."""
    return {path.name.removesuffix(".dist-info") for path in site(machine).glob("*.dist-info")}


def publish(folder: Path) -> str:
    """Commit the project as it stands to a new git repository; returns its file:// address."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    commit(folder)
    return folder.as_uri()


def commit(folder: Path) -> None:
    """Commit everything in a folder, under a neutral name."""
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A", "-f"], [*author, "commit", "-q", "-m", "as it stands"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.colab")
    parser.add_argument("notebooks", nargs="*", help="names without .ipynb; by default all")
    parser.add_argument("--python", default=COLAB_PYTHON, help="version or path, by default Colab's %(default)s")
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    names = options.notebooks or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    earlier = json.loads(options.record.read_text())["notebooks"] if options.record.exists() else []
    rows = {row["notebook"]: row for row in earlier}
    with tempfile.TemporaryDirectory(prefix="storylib-colab-") as scratch:
        repository = publish(Path(scratch, "repository"))
        for name in reversed(names):  # so that no notebook profits from what an earlier chapter left
            folder = Path(scratch, name)
            folder.mkdir()
            colab_machine(folder / "machine", options.python)
            rows[name] = simulate(ROOT / "notebooks" / f"{name}.ipynb", repository, folder, folder / "machine")
            print(f"{name}: {rows[name]['seconds']:.0f} s", flush=True)
            version = "import platform; print(platform.python_version())"
            command = [folder / "machine" / "bin" / "python", "-c", version]
            python = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            record = {"command": "python -m benchmarks.colab", "cores": os.cpu_count(), **provenance("cpu")}
            record |= {"python": python, "versions": published()}  # of the simulated machine, not of this one
            write_json(options.record, record | {"notebooks": [rows[key] for key in sorted(rows)]})
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
