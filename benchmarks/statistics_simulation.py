"""Do the report's intervals and tests keep what they promise? Synthetic tables with known truth say.

    python -m benchmarks.statistics_simulation            # about 4 minutes on one core
    python -m benchmarks.statistics_simulation --trials 200 --record results/benchmarks/statistics_simulation.json

Each world has a number of seeds and stories, and says where the noise comes from: stories, seeds, their interaction, or
heavy tails. Coverage: how often the 95 % interval holds the true difference. False positives: how often a table of 20
metrics without any difference has one that is called different, after Holm's correction. Power: how often a true
difference as large as ``detectable`` says is seen; it promises 80 %.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from storylib.pictures import write_atomically
from storylib.runs import provenance
from storylib.statistics import DRAWS, LEVEL, holm, paired_difference, resampled

WORLDS = {  # standard deviation of: stories, seeds, interaction; noise
    "stories vary": (1.0, 0.0, 0.5, "normal"),
    "interaction": (0.2, 0.0, 1.0, "normal"),
    "seeds vary a little": (1.0, 0.1, 0.5, "normal"),
    "seeds vary": (1.0, 0.3, 0.5, "normal"),
    "skewed": (1.0, 0.1, 0.5, "skewed"),
    "hits and misses": (0.5, 0.05, 0.5, "binary"),
}
METRICS = 20
SIZES = ((3, 40), (5, 55))  # seeds and stories


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def table(
    rng: np.random.Generator, world: str, seeds: int, stories: int, truth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two arms as sums (seeds, stories, 2) of a few windows a story; the first is better by ``truth`` on average."""
    of_stories, of_seeds, of_cells, kind = WORLDS[world]

    def draw(scale: float, *shape: int) -> np.ndarray:
        values = rng.exponential(1, shape) - 1 if kind == "skewed" else rng.normal(0, 1, shape)
        return scale * values

    windows = rng.integers(4, 12, size=stories)
    difference = truth + draw(of_stories, 1, stories) + draw(of_seeds, seeds, 1) + draw(of_cells, seeds, stories)
    base = rng.normal(0, 2, size=(seeds, stories))
    arms = [base + difference / 2, base - difference / 2]
    if kind == "binary":  # each window is found or not
        rate = rng.beta(2, 3, size=(1, stories))
        shift = np.clip(rate + 0.1 * (difference - truth) + truth, 0, 1), np.broadcast_to(rate, (seeds, stories))
        sums = [rng.binomial(windows, s) for s in shift]
    else:
        sums = [arm * windows for arm in arms]
    counts = np.broadcast_to(windows, (seeds, stories))
    first, second = (np.stack([s, counts], axis=-1).astype(float) for s in sums)
    return first, second


def simulate(world: str, seeds: int, stories: int, trials: int, draws: int, start: int = 0) -> dict[str, float]:
    """Coverage, family-wise false positives and power, in percent."""
    rng = np.random.default_rng(start)
    covered, truths, errors = 0, 0.0, []
    for trial in range(trials * 4):
        found = paired_difference(*table(rng, world, seeds, stories, truths), mean, draws, seed=trial % 7)
        covered += found.low <= truths <= found.high
        errors.append(found.detectable())
    false = 0
    for trial in range(trials):
        rows = [paired_difference(*table(rng, world, seeds, stories, 0.0), mean, draws, seed=trial % 7)
                for _ in range(METRICS)]  # fmt: skip
        corrected = holm(np.array([r.p for r in rows]))
        false += any(p < LEVEL and not r.holds_zero for p, r in zip(corrected, rows, strict=True))
    detectable, seen = float(np.median(errors)), 0
    for trial in range(trials):
        found = paired_difference(*table(rng, world, seeds, stories, detectable), mean, draws, seed=trial % 7)
        seen += not found.holds_zero and found.p < LEVEL
    return {
        "coverage": 100 * covered / trials / 4,
        "false positives": 100 * false / trials,
        "power": 100 * seen / trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--record", type=Path, help="write the numbers here")
    options = parser.parse_args()
    rows = []
    print(f"{'world':20s} {'seeds':>5s} {'stories':>7s} {'coverage':>9s} {'false positives':>16s} {'power':>6s}")
    for world in WORLDS:
        for seeds, stories in SIZES:
            row = simulate(world, seeds, stories, options.trials, options.draws)
            rows.append({"world": world, "seeds": seeds, "stories": stories} | row)
            print(f"{world:20s} {seeds:5d} {stories:7d} {row['coverage']:8.1f} % {row['false positives']:14.1f} % "
                  f"{row['power']:4.0f} %", flush=True)  # fmt: skip
    mean_row = {
        key: round(float(np.mean([r[key] for r in rows])), 2) for key in ("coverage", "false positives", "power")
    }
    print("on average:", mean_row, "and the bootstrap of one table:", f"{bootstrap_seconds():.2f} s")
    if options.record:
        command = f"python -m benchmarks.statistics_simulation --trials {options.trials} --draws {options.draws}"
        record = {
            "command": f"{command} --record {options.record}",
            "trials": {"coverage": 4 * options.trials, "false positives": options.trials, "power": options.trials},
            "bootstrap_seconds": round(bootstrap_seconds(), 3),
            "average": mean_row,
            "worlds": rows,
            **{
                key: value
                for key, value in provenance("cpu").items()
                if key in ("commit", "dirty", "versions", "machine")
            },
        }
        options.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.record, json.dumps(record, indent=1) + "\n")


def bootstrap_seconds() -> float:
    """CPU seconds of the full bootstrap, 10,000 draws over 5 seeds and 55 stories, interval and test included."""
    first, second = table(np.random.default_rng(0), "seeds vary", 5, 55, 0.1)
    resampled.cache_clear()
    start = time.process_time()
    paired_difference(first, second, mean, DRAWS)
    return time.process_time() - start


if __name__ == "__main__":
    main()
