"""Google Colab, simulated: each notebook alone, in a fresh environment that holds only what Colab brings.

python -m benchmarks.colab                      every notebook as it stands; writes results/colab.json after each
python -m benchmarks.colab 02_train 07_your_story   only these; what the record says of others stays

The environment sees torch, torchvision, transformers, pandas, seaborn, jupyter and what they need, taken from the one
that runs this; everything else the first cell must install, from a repository that is reached by a file:// address.
``google.colab`` is faked. Each notebook runs in an empty folder, with an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
COLAB = ("torch", "torchvision", "transformers", "pandas", "seaborn", "jupyter", "pip", "setuptools", "wheel")
PUBLISHED = (
    "storylib notebooks profiles results Snakefile experiments.yml pyproject.toml setup.py MANIFEST.in README.md "
    "LICENSE"
).split()
PASSED_ON = tuple("PIP_ SSL_ REQUESTS_ http HTTP no_proxy OMP_ HF_HUB_OFFLINE PATH HOME LANG LC_".split())
RUN = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=3600).execute()
finally:
    nbformat.write(notebook, "executed.ipynb")
"""
FILES = '''
"""google.colab.files, faked: uploads whatever stands in UPLOADS."""
import json, os, pathlib

def upload():
    return {name: pathlib.Path(name).read_bytes() for name in json.loads(os.environ.get("UPLOADS", "[]"))}
'''


def simulate(notebook: Path, repository: str, folder: Path, visible: Iterable[str], offline: bool) -> dict[str, Any]:
    """Run one notebook as a bare machine would; what it took, and what became of torch.

    visible: names of the packages that the machine brings. offline: nothing may be fetched, so ``visible`` must hold
    everything but storylib. Raises RuntimeError with the end of the traceback if a cell fails.
    """
    python = bare_environment(folder / "machine", visible)
    work = folder / "content"
    work.mkdir()
    shutil.copy(notebook, work)
    settings = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    settings["STORYLIB_REPOSITORY"] = repository
    if offline:
        settings |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip means: no isolation
    torch = [str(python), "-c", "import torch; print(torch.__version__, torch.__file__)"]
    before = subprocess.run(torch, cwd=work, env=settings, capture_output=True, text=True, check=True).stdout
    start = time.perf_counter()
    done = subprocess.run(
        [str(python), "-c", RUN, notebook.name], cwd=work, env=settings, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{notebook.name} fails on a bare machine:\n{done.stderr[-3000:]}")
    after = subprocess.run(torch, cwd=work, env=settings, capture_output=True, text=True, check=True).stdout
    if after != before:
        raise RuntimeError(f"{notebook.name} replaced torch: {before.strip()} became {after.strip()}")
    (site,) = (folder / "machine").glob("lib/python*/site-packages")
    new = sorted(found.name.removesuffix(".dist-info") for found in site.glob("*.dist-info"))
    return {
        "notebook": notebook.stem,
        "seconds": round(time.perf_counter() - start, 1),
        "torch": before.split()[0],
        "installed": new,
    }


def bare_environment(folder: Path, visible: Iterable[str]) -> Path:
    """A fresh virtual environment that sees some packages of this one, and a fake ``google.colab``; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    brought = folder / "brought"
    brought.mkdir()
    for name in visible:
        for part in parts(distribution(name)):
            if not (brought / part.name).exists():
                (brought / part.name).symlink_to(part)
    (brought / "google" / "colab").mkdir(parents=True)
    for part in (Path(str(distribution("protobuf").locate_file(""))) / "google").glob(
        "*"
    ):  # TensorBoard needs google.protobuf
        (brought / "google" / part.name).symlink_to(part)
    (brought / "google" / "colab" / "__init__.py").touch()
    (brought / "google" / "colab" / "files.py").write_text(FILES)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "brought.pth").write_text(f"{brought}\n")
    return folder / "bin" / "python"


def parts(package: Distribution) -> set[Path]:
    """The files and folders of a package that lie directly in site-packages."""
    site = Path(str(package.locate_file("")))
    names = {
        Path(file).parts[0] for file in package.files or [] if Path(file).parts[0] not in ("..", "/", "__pycache__")
    }
    return {site / name for name in names if (site / name).exists() and name != "google"}


def needed(names: Iterable[str]) -> set[str]:
    """Some packages and everything that they need, as far as it is here."""
    found: set[str] = set()
    open_names = [Requirement(name) for name in names]
    while open_names:
        requirement = open_names.pop()
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        new = {name, *(f"{name}[{extra}]" for extra in requirement.extras)} - found
        found |= new
        for line in package.requires or [] if new else []:
            other = Requirement(line)
            marks = [{"extra": extra} for extra in ("", *requirement.extras)]
            if other.marker is None or any(other.marker.evaluate(mark) for mark in marks):
                open_names.append(other)
    return {name for name in found if "[" not in name}


def everything() -> set[str]:
    """All packages of this environment but storylib itself."""
    return {canonicalize_name(d.metadata["Name"]) for d in distributions()} - {"storylib"}


def publish(folder: Path) -> str:
    """A git repository of the project as it stands, and its file:// address."""
    for name in PUBLISHED:
        here = ROOT / name
        if here.is_dir():
            shutil.copytree(here, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(here, folder)
    commit(folder)
    return folder.as_uri()


def commit(folder: Path) -> None:
    """Commit everything in a folder, as nobody in particular."""
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "-A", "-f"], [*who, "commit", "-q", "-m", "as it stands"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.colab", description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="names; all of them if none is given")
    parser.add_argument("--record", type=Path, default=ROOT / "results" / "colab.json")
    options = parser.parse_args(arguments)
    names = options.notebooks or sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    record: dict[str, Any] = {"command": "python -m benchmarks.colab", "python": sys.version.split()[0]}
    record["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = json.loads(options.record.read_text())["notebooks"] if options.record.exists() else []
    rows = {row["notebook"]: row for row in known}
    options.record.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="storylib-colab-") as work:
        repository = publish(Path(work, "repository"))
        visible = needed(COLAB)
        for name in reversed(names):  # in an order in which no notebook finds what another has left
            folder = Path(work, name)
            folder.mkdir()
            print(f"== {name} ...", file=sys.stderr, flush=True)
            rows[name] = simulate(ROOT / "notebooks" / f"{name}.ipynb", repository, folder, visible, offline=False)
            shutil.rmtree(folder)
            print(f"   {rows[name]['seconds']:.0f} s", file=sys.stderr, flush=True)
            found = {"brought": sorted(visible), "notebooks": [rows[n] for n in sorted(rows)]}
            options.record.write_text(json.dumps(record | found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
