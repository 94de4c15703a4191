"""How long does each module of storylib take to import, in multiples of ``import torch``?

    python -m benchmarks.imports

Each import runs in a fresh interpreter. Processor time is measured, so other programs hardly matter, and the time of an
empty interpreter is subtracted. Imports cheaper than half of torch are measured three times; the median counts.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

import storylib
from benchmarks.records import record_path, write_record


def modules(package: Path) -> list[str]:
    """Dotted names of all modules of a package, from its files."""
    names = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def processor_seconds(*arguments: str) -> float:
    """Processor time of a fresh interpreter with these arguments. Raises CalledProcessError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def multiples(commands: dict[str, list[str]]) -> dict[str, float]:
    """Cost of each command, given as arguments of the interpreter, in multiples of ``import torch``."""
    empty = statistics.median(processor_seconds("-c", "pass") for _ in range(3))
    torch = statistics.median(processor_seconds("-c", "import torch") for _ in range(3)) - empty
    costs = {}
    for name, arguments in tqdm(commands.items(), desc="imports", unit="module"):
        runs = [processor_seconds(*arguments)]
        if runs[0] - empty < torch / 2:
            runs += [processor_seconds(*arguments) for _ in range(2)]
        costs[name] = round(max(0.0, statistics.median(runs) - empty) / torch, 3)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imports")
    parser.add_argument("--record", type=Path, default=record_path("imports"))
    options = parser.parse_args()
    commands = {name: ["-c", f"import {name}"] for name in modules(Path(storylib.__path__[0]))}
    costs = multiples(commands | {"storylib --help": ["-m", "storylib", "--help"]})
    ordered = dict(sorted(costs.items(), key=lambda item: item[1]))
    write_record(options.record, {"command": "python -m benchmarks.imports", "multiples_of_torch": ordered})
    for name, cost in ordered.items():
        print(f"{cost:8.3f}  {name}")


if __name__ == "__main__":
    main()
