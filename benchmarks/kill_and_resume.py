"""Kill trainings without warning at random moments, let them go on, and compare what they leave, byte by byte.

python -m benchmarks.kill_and_resume [--kills 10]

Each training is a process that gets SIGKILL, which no program can catch, at a moment drawn evenly from the time that
an undisturbed training takes; it is started again, evaluated, and compared with the undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from storylib.config import configure, project_root
from storylib.pictures import write_atomically
from storylib.runs import Run, evaluate_run, prepare, provenance, train

SETTINGS = {"source": "storyworld", "stories": 60, "epochs": 6, "device": "cpu", "seed": 0}


def killed(work: Callable[[], Any], after: float) -> bool:
    """Do the work in a process of its own and kill that after some seconds; False if it was done before."""
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
    process.start()
    process.join(after)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def left_by(run: Run) -> dict[str, Any]:
    """What a run leaves, but for the time it took: the files' bytes, and the history."""
    files = ("model.safetensors", "vocabulary.json", "metrics.json", "metrics_summary.csv", "per_window.parquet",
             "generations.jsonl", "pictures.npy")  # fmt: skip
    history = pd.read_csv(run.path / "history.csv").drop(columns="seconds").to_csv()
    return {name: (run.path / name).read_bytes() for name in files} | {"history.csv": history}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--out", type=Path, default=project_root() / "results" / "benchmarks" / "kill_and_resume.json")
    options = parser.parse_args()
    config = configure("quick", **SETTINGS)
    data = prepare(config)
    with TemporaryDirectory() as scratch:

        def work(folder: str) -> Run:
            os.environ["STORYLIB_RUNS"] = str(Path(scratch, folder))
            return train(config, data)

        start = time.perf_counter()
        whole = work("whole")
        seconds = time.perf_counter() - start
        expected = left_by(evaluate_run(whole, data))
        moments = []
        for number, moment in enumerate(np.random.default_rng(0).uniform(0, seconds, options.kills)):
            struck = killed(lambda folder=f"killed-{number}": work(folder), moment)
            epochs = sum(len(pd.read_csv(p)) for p in Path(scratch, f"killed-{number}").glob("*/history.csv"))
            found = left_by(evaluate_run(work(f"killed-{number}"), data))
            differs = [name for name in expected if found[name] != expected[name]]
            moments.append(
                {"seconds": round(float(moment), 2), "killed": struck, "whole_epochs": epochs, "differs": differs}
            )
            print(moments[-1], flush=True)
    record = {
        "command": "python -m benchmarks.kill_and_resume",
        "config": SETTINGS,
        "seconds_undisturbed": round(seconds, 2),
        "killed": sum(m["killed"] for m in moments),
        "bit_equal": sum(not m["differs"] for m in moments),
        "compared": sorted(expected),
        "moments": moments,
        **provenance("cpu"),
    }
    write_atomically(options.out, json.dumps(record, indent=2) + "\n")
    print(f"{record['killed']} of {options.kills} killed, {record['bit_equal']} bit-equal: {options.out}")


if __name__ == "__main__":
    main()
