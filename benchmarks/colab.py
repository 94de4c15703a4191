"""Google Colab, simulated: each notebook alone, in a fresh environment with only the packages that Colab provides.

    python -m benchmarks.colab                           every notebook
    python -m benchmarks.colab 02_train 07_your_story    only these; the record of the others stays

The environment sees torch, torchvision, transformers, pandas, seaborn, jupyter and their requirements, linked from the
environment that runs this command. The first cell must install everything else, from a repository with a file://
address. ``google.colab`` is a stub. The record is results/colab.json, written after each notebook.
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
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.records import write_record

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "colab.json"
COLAB = ("torch", "torchvision", "transformers", "pandas", "seaborn", "jupyter", "pip", "setuptools", "wheel")
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


def simulate(notebook: Path, repository: str, folder: Path, visible: Iterable[str], offline: bool) -> dict[str, Any]:
    """Run one notebook as a bare machine would; returns its time and the packages that it installed.

    visible: packages that the machine provides. offline: nothing may be downloaded, so ``visible`` must hold everything
    but storylib. Raises RuntimeError if a cell fails or if the notebook replaces torch.
    """
    python = bare_environment(folder / "machine", visible)
    work = folder / "content"
    work.mkdir()
    shutil.copy(notebook, work)
    environment = {name: value for name, value in os.environ.items() if name.startswith(INHERITED)}
    environment["STORYLIB_REPOSITORY"] = repository
    if offline:
        environment |= {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip reads 0 as "no isolation"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(python), "-c", *arguments]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)

    torch_origin = "import torch; print(torch.__version__, torch.__file__)"
    torch_before = run(torch_origin).stdout.strip()
    start = time.perf_counter()
    result = run(RUN, notebook.name)
    if result.returncode:
        raise RuntimeError(f"{notebook.name} fails on a bare machine:\n{result.stderr[-3000:]}")
    torch_after = run(torch_origin).stdout.strip()
    if torch_after != torch_before:
        raise RuntimeError(f"{notebook.name} replaced torch: {torch_before} became {torch_after}")
    return {
        "notebook": notebook.stem,
        "seconds": round(time.perf_counter() - start, 1),
        "torch": torch_before.split()[0],
        "installed": sorted(path.name.removesuffix(".dist-info") for path in site(python).glob("*.dist-info")),
    }


def bare_environment(folder: Path, visible: Iterable[str]) -> Path:
    """Make a virtual environment that sees some packages of this one and the stub; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python, linked = folder / "bin" / "python", folder / "linked"
    colab = linked / "google" / "colab"
    colab.mkdir(parents=True)
    for name in visible:
        for part in top_level(distribution(name)):
            if not (linked / part.name).exists():
                (linked / part.name).symlink_to(part)
    protobuf = Path(str(distribution("protobuf").locate_file("google")))  # TensorBoard needs google.protobuf
    for part in protobuf.iterdir():
        (colab.parent / part.name).symlink_to(part)
    (colab / "__init__.py").touch()
    (colab / "files.py").write_text(FILES_STUB)
    (site(python) / "linked.pth").write_text(f"{linked}\n")
    return python


def site(python: Path) -> Path:
    """The site-packages folder of a virtual environment."""
    (folder,) = python.parents[1].glob("lib/python*/site-packages")
    return folder


def top_level(package: Distribution) -> set[Path]:
    """Files and folders of a package directly in site-packages, except the shared namespace ``google``."""
    folder = Path(str(package.locate_file("")))
    names = {Path(file).parts[0] for file in package.files or []} - {"..", "/", "__pycache__", "google"}
    return {folder / name for name in names if (folder / name).exists()}


def needed(names: Iterable[str]) -> set[str]:
    """Some packages with all their installed requirements."""
    resolved: set[tuple[str, str]] = set()  # packages with each of their extras
    queue = [Requirement(name) for name in names]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for extra in {"", *requirement.extras}:
            if (name, extra) in resolved:
                continue
            resolved.add((name, extra))
            candidates = [Requirement(line) for line in requirements]
            queue += [c for c in candidates if c.marker is None or c.marker.evaluate({"extra": extra})]
    return {str(name) for name, _ in resolved}


def everything() -> set[str]:
    """All packages of this environment but storylib."""
    return {str(canonicalize_name(d.metadata["Name"])) for d in distributions()} - {"storylib"}


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
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    names = options.notebooks or sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    earlier = json.loads(options.record.read_text())["notebooks"] if options.record.exists() else []
    rows = {row["notebook"]: row for row in earlier}
    visible = needed(COLAB)
    with tempfile.TemporaryDirectory(prefix="storylib-colab-") as scratch:
        repository = publish(Path(scratch, "repository"))
        for name in reversed(names):  # so that no notebook profits from what an earlier chapter left
            folder = Path(scratch, name)
            folder.mkdir()
            rows[name] = simulate(ROOT / "notebooks" / f"{name}.ipynb", repository, folder, visible, offline=False)
            shutil.rmtree(folder)
            print(f"{name}: {rows[name]['seconds']:.0f} s", flush=True)
            record = {"command": "python -m benchmarks.colab", "cores": os.cpu_count(), "visible": sorted(visible)}
            write_record(options.record, record | {"notebooks": [rows[key] for key in sorted(rows)]})


if __name__ == "__main__":
    main()
