"""What does the quick report cost from nothing, in imports of torch and transformers?

    python -m benchmarks.report_cost

The workflow runs in a copy of the checkout without build, cache and runs; the environment is this one. Its processor
and wall time are divided by the processor time of one import, measured before and after, because machines differ. Then
the book is made again: unchanged, after an edit of one notebook, and after an edit of one page.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.records import record_path, write_record
from storylib.config import build_name, project_root

IMPORT = "import torch, transformers.models.gpt2.modeling_gpt2"
LOCAL = ("STORYLIB_HOME", "STORYLIB_CACHE", "STORYLIB_RUNS", "STORYLIB_SOURCE")


class Cost(NamedTuple):
    """What a command took, and the steps of the workflow that it did."""

    processor: float  # seconds, all its processes together
    wall: float
    steps: list[str]


def measure(arguments: list[str], folder: Path) -> Cost:
    """Run the interpreter in a folder, whose storylib it uses. Raises CalledProcessError with the output shown."""
    environment = {name: value for name, value in os.environ.items() if name not in LOCAL}
    environment["PYTHONPATH"] = str(folder)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    lines = []
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr or ():
            sys.stderr.write(line)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps = re.findall(r"done in \d+ s: (.*)", "".join(lines))
    return Cost(processor, time.perf_counter() - began, steps)


def copy_of_checkout(folder: Path) -> None:
    """The files that git knows or would add, as they are now."""
    files = subprocess.check_output(["git", "ls-files", "-coz", "--exclude-standard"], cwd=project_root(), text=True)
    for name in filter(None, files.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project_root() / name, folder / name)
    shutil.copytree(project_root() / ".git", folder / ".git")


def run(folder: Path, cores: int) -> dict[str, Any]:
    """The measurements, in multiples of one import except where a name says seconds."""
    copy_of_checkout(folder)
    book = ["-m", "storylib", "book", "--cores", str(cores)]
    imports = [measure(["-c", IMPORT], folder).processor for _ in range(2)]
    first = measure(book, folder)
    imports += [measure(["-c", IMPORT], folder).processor for _ in range(2)]
    unit = sum(imports) / len(imports)
    costs = folder / "_build" / build_name("storyworld", "quick") / "costs"
    jobs = {}
    for path in sorted(costs.glob("*.tsv")):
        with path.open(newline="") as file:
            jobs[path.stem] = round(float(next(csv.DictReader(file, delimiter="\t"))["cpu_time"]) / unit, 2)
    again = measure(book, folder)
    edits = {}
    for name, edited in (("notebook", "notebooks/06_cost.ipynb"), ("page", "book/glossary.md")):
        with (folder / edited).open("a") as file:
            file.write("\n")
        edits[name] = {"edited": edited, "steps": measure(book, folder).steps}
    return {
        "command": "python -m benchmarks.report_cost",
        "import_seconds": [round(seconds, 2) for seconds in imports],
        "cores": cores,
        "processor": round(first.processor / unit, 1),
        "wall": round(first.wall / unit, 1),
        "jobs": jobs,
        "unchanged": {"seconds": round(again.wall, 1), "steps": again.steps},
        "after an edit": edits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report_cost")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--record", type=Path, default=record_path("report_cost"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storylib-") as folder:
        measurements = run(Path(folder), options.cores)
    print(measurements)
    write_record(options.record, measurements)


if __name__ == "__main__":
    main()
