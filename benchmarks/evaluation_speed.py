"""How long does an evaluation take, and what does it need where there are very many pages?

    python -m benchmarks.evaluation_speed [--source NAME] [--record results/benchmarks/evaluation_speed.json]

Two measurements. The whole evaluation of one run, every metric of the model and of every floor, with generation, on one
thread, as the library evaluates so that a last digit never depends on how many cores were free. The model is untrained
and so writes every text to its full length, the most that it can cost. And cross-modal retrieval both ways among 50,000
pages, with next-page retrieval of 50,000 windows among them, in a process of its own, whose peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from storylib import metrics
from storylib.pictures import write_atomically

PAGES, WIDTH, CONTEXT = 50_000, 256, 4
LIMITS = {"evaluation seconds": 60, "50,000 candidates, seconds": 180, "50,000 candidates, MB": 2048}


def clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> dict[str, float]:
    """Seconds on the wall, and seconds of all cores together; on a machine that is shared, the first is the longer."""
    wall, cpu = clock()
    return {"wall": round(wall - start[0], 1), "cpu": round(cpu - start[1], 1)}


def whole_evaluation(source: str, profile: str) -> dict[str, Any]:
    from storylib.attention import attention
    from storylib.config import configure
    from storylib.evaluation import evaluate
    from storylib.judges import Judges
    from storylib.runs import prepare
    from storylib.scores import summarise
    from storylib.training import WindowDataset, build_model, build_vocabulary

    config = configure(profile, source=source, threads=1, device="cpu")
    data = prepare(config)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    model = build_model(config, data.features, data.splits, vocabulary).eval()
    train, held = (WindowDataset(data.features, p, vocabulary, config) for p in (data.splits.train, data.splits.test))
    start = clock()
    table, _ = evaluate(model, vocabulary, train, held, Judges(config))
    attention(model, held)
    scored = since(start)
    summary = summarise(table)
    total = since(start)
    pages, windows = len(held.keys), len(held)
    counts = {
        "pages": pages,
        "windows": windows,
        "predictors": int(table["predictor"].nunique()),
        "metrics": len(summary),
    }
    return {"source": source, **counts, "scores": scored, "with intervals and tests": total}


def many_candidates(pages: int = PAGES) -> dict[str, Any]:
    """Random unit vectors: what is found does not matter here."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(pages, WIDTH, generator=generator), dim=-1) for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = clock()
    every = range(pages)
    across = metrics.Candidates.of(every, every)
    context = [[(page - k) % pages for k in range(1, CONTEXT + 1)] for page in every]
    following = metrics.Candidates.of(every, every, context)
    ranks = [metrics.ranks_by_block(q, a, across) for q, a in ((image, text), (text, image))]
    ranks.append(metrics.ranks_by_block(image, image.roll(1, 0), following))
    taken = since(start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {
        "pages": pages,
        "rankings": len(ranks),
        "seconds": taken,
        "peak_mb": round(peak / unit),
        "of which before": round(before / unit),
        "mean rank of chance": round(float(ranks[0].mean()), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--only-candidates", action="store_true", help="print the second measurement and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only_candidates:
        print(json.dumps(many_candidates()))
        return
    alone = [sys.executable, "-m", "benchmarks.evaluation_speed", "--only-candidates"]
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    many = json.loads(subprocess.run(alone, check=True, capture_output=True, text=True).stdout)
    record: dict[str, Any] = {"many candidates": many, "evaluation": whole_evaluation(options.source, options.profile)}
    record |= {"limits": LIMITS, "threads": 1, "load of the machine": load}
    print(json.dumps(record, indent=1))
    if options.record:
        from storylib.runs import provenance

        made = {k: v for k, v in provenance("cpu").items() if k in ("commit", "dirty", "versions", "machine")}
        command = f"python -m benchmarks.evaluation_speed --source {options.source} --record {options.record}"
        options.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.record, json.dumps({"command": command, **record, **made}, indent=1) + "\n")


if __name__ == "__main__":
    main()
