"""Do the report's intervals and tests keep their promises? Simulated tables with a known truth answer.

    python -m benchmarks.statistics_simulation [--trials 1000]

A world sets how much stories, seeds and their interaction vary. Coverage is the share of 95 % intervals that contain
the true difference. False positives is the share of tables of four endpoints without any difference in which at least
one is significant after Holm's correction. Power is the share of true differences of the detectable size that are
significant, which should be 80 %. Near the bound: coverage of the interval of a recall whose true value is 95 or 99 %.
A full run takes less than a minute on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.records import record_path, write_record
from storylib.metrics.intervals import LEVEL, Difference, holm, interval, paired_difference


class World(NamedTuple):
    """Standard deviations of the true difference between two arms, and the distribution of its noise."""

    stories: float
    seeds: float
    interaction: float
    noise: str  # "normal", "skewed" or "binary"


WORLDS = {
    "stories vary": World(1.0, 0.0, 0.5, "normal"),
    "interaction": World(0.2, 0.0, 1.0, "normal"),
    "seeds vary a little": World(1.0, 0.1, 0.5, "normal"),
    "seeds vary": World(1.0, 0.3, 0.5, "normal"),
    "skewed": World(1.0, 0.1, 0.5, "skewed"),
    "hits and misses": World(0.5, 0.05, 0.5, "binary"),
}
ENDPOINTS = 4
HITS = (0.95, 0.99)  # true recalls near the bound of 1
SIZES = ((3, 40), (5, 55))  # seeds and stories
RATES = ("coverage", "false positives", "power")


def simulate(name: str, seeds: int, stories: int, trials: int) -> dict[str, float]:
    """Coverage, family-wise false positives and power of one world, in percent."""
    rng = np.random.default_rng(0)

    def difference(truth: float) -> Difference:
        return paired_difference(*arms(rng, WORLDS[name], seeds, stories, truth), mean)

    covered = false_positives = detected = 0
    errors = []
    for _ in range(trials):
        results = [difference(0.0) for _ in range(ENDPOINTS)]
        covered += sum(not excludes_zero(result) for result in results)
        errors += [result.detectable() for result in results]
        corrected = holm(np.array([result.p for result in results]))
        false_positives += any(p < LEVEL and excludes_zero(r) for p, r in zip(corrected, results, strict=True))
    detectable = float(np.median(errors))
    for _ in range(trials):
        result = difference(detectable)
        detected += result.p < LEVEL and excludes_zero(result)
    rates = (covered / trials / ENDPOINTS, false_positives / trials, detected / trials)
    return {rate: 100 * value for rate, value in zip(RATES, rates, strict=True)}


def excludes_zero(difference: Difference) -> bool:
    return difference.low > 0 or difference.high < 0


def near_the_bound(truth: float, seeds: int, stories: int, trials: int) -> float:
    """Coverage, in percent, of the interval of a recall close to 1; windows of a story succeed or fail together."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(trials):
        windows = rng.integers(2, 8, size=stories)
        counts = np.broadcast_to(windows, (seeds, stories))
        hits = rng.binomial(counts, rng.beta(3 * truth, 3 - 3 * truth, size=stories))
        _, low, high = interval(np.stack([hits, counts], axis=-1).astype(float), mean, (0, 1))
        covered += low <= truth <= high
    return 100 * covered / trials


def arms(
    rng: np.random.Generator, world: World, seeds: int, stories: int, truth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two arms as sums and counts (seeds, stories, 2); the first is better by ``truth`` on average."""

    def draw(scale: float, *shape: int) -> np.ndarray:
        values = rng.exponential(1, shape) - 1 if world.noise == "skewed" else rng.normal(0, 1, shape)
        return scale * values

    windows = rng.integers(4, 12, size=stories)
    variation = draw(world.stories, 1, stories) + draw(world.seeds, seeds, 1)
    variation = variation + draw(world.interaction, seeds, stories)
    base = rng.normal(0, 2, size=(seeds, stories))
    if world.noise == "binary":  # each window is a hit or a miss
        rate = np.broadcast_to(rng.beta(2, 3, size=(1, stories)), (seeds, stories))
        better = np.clip(rate + 0.1 * variation + truth, 0, 1)
        sums = [rng.binomial(windows, better), rng.binomial(windows, rate)]
    else:
        difference = truth + variation
        sums = [(base + difference / 2) * windows, (base - difference / 2) * windows]
    counts = np.broadcast_to(windows, (seeds, stories))
    first, second = (np.stack([s, counts], axis=-1).astype(float) for s in sums)
    return first, second


def mean(sums: np.ndarray) -> np.ndarray:
    """Mean of summed values (..., 2) of sums and counts."""
    return sums[..., 0] / sums[..., 1]


def comparison_seconds() -> float:
    """CPU seconds of one endpoint over 5 seeds and 55 stories, with interval and test."""
    first, second = arms(np.random.default_rng(0), WORLDS["seeds vary"], 5, 55, 0.1)
    start = time.process_time()
    paired_difference(first, second, mean)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics_simulation")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--record", type=Path, default=record_path("statistics_simulation"))
    options = parser.parse_args()
    rows = []
    for world in WORLDS:
        for seeds, stories in SIZES:
            rates = simulate(world, seeds, stories, options.trials)
            rows.append({"world": world, "seeds": seeds, "stories": stories, **rates})
            print(rows[-1], flush=True)
    record = {
        "command": f"python -m benchmarks.statistics_simulation --trials {options.trials}",
        "trials": {"coverage": ENDPOINTS * options.trials, "false positives": options.trials, "power": options.trials},
        "comparison_seconds": round(comparison_seconds(), 3),
        "near the bound": [
            {
                "recall": hit,
                "seeds": seeds,
                "stories": stories,
                "coverage": near_the_bound(hit, seeds, stories, 4 * options.trials),
            }
            for hit in HITS
            for seeds, stories in SIZES
        ],
        "average": {rate: round(float(np.mean([row[rate] for row in rows])), 2) for rate in RATES},
        "worlds": rows,
    }
    write_record(options.record, record)
    print(f"average: {record['average']}; record: {options.record}")


if __name__ == "__main__":
    main()
