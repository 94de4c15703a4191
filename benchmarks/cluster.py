"""The runs of a profile on a cluster, from nothing, timed: python -m benchmarks.cluster slurm

Needs a cluster that ``profiles/NAME`` fits: for slurm, a controller and a node, which may both be this machine. Trains
and evaluates every arm with every seed in a folder of its own, with the features of this checkout's cache, and writes
results/cluster-NAME.json.
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
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from storylib.config import cache_dir
from storylib.runs import provenance

ROOT = Path(__file__).parents[1]
COPIED = (
    "storylib notebooks profiles book Snakefile experiments.yml pyproject.toml _config.yml _toc.yml results".split()
)
VERSIONS = {"slurm": ["sbatch", "--version"], "generic": [sys.executable, "-m", "snakemake", "--version"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("cluster", choices=sorted(VERSIONS))
    parser.add_argument("--profile", default="quick")
    options = parser.parse_args(arguments)
    scheduler = subprocess.run(VERSIONS[options.cluster], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="storylib-cluster-") as work:
        for name in filter(lambda n: (ROOT / n).exists(), COPIED):
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, Path(work, name))
        settings = {
            "STORYLIB_HOME": work,
            "STORYLIB_RUNS": f"{work}/runs",
            "STORYLIB_CACHE": str(cache_dir().resolve()),
        }
        command = [sys.executable, "-m", "storylib.workflow", "runs", "--cluster", options.cluster]
        command += ["--profile", options.profile]
        start = time.perf_counter()
        subprocess.run(command, cwd=work, check=True, env=os.environ | settings | {"PYTHONPATH": work})
        seconds = time.perf_counter() - start
        tables = {p.stem: pd.read_csv(p, sep="\t").iloc[0] for p in sorted(Path(work).glob("_build/*/costs/*.tsv"))}
    jobs = {n: {"seconds": round(t["s"], 1), "memory_mb": round(float(t["max_rss"]))} for n, t in tables.items()}
    made = provenance("cpu")
    record = {
        "command": f"python -m benchmarks.cluster {options.cluster} --profile {options.profile}",
        "scheduler": scheduler,
        "seconds": round(seconds, 1),
        "cores": os.cpu_count(),
        "jobs": jobs,
        **{key: made[key] for key in ("commit", "dirty", "python", "versions", "machine")},
    }
    path = ROOT / "results" / f"cluster-{options.cluster}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{len(jobs)} jobs in {seconds:.0f} s: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
