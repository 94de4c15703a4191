"""Do the report's intervals and tests keep what they promise? Synthetic tables with known truth say.

    python benchmarks/statistics_simulation.py            # about 5 minutes on one core
    python benchmarks/statistics_simulation.py --trials 200

Each world has a number of seeds and stories, and says where the noise comes from: stories, seeds, their interaction, or
heavy tails. Coverage: how often the 95 % interval holds the true difference. False positives: how often a table of 20
metrics without any difference has one that is called different, after Holm's correction. Power: how often a true
difference as large as ``detectable`` says is seen; it promises 80 %.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from storylib.statistics import holm, paired_difference

WORLDS = {  # standard deviation of: stories, seeds, interaction; noise
    "stories vary": (1.0, 0.0, 0.5, "normal"),
    "interaction": (0.2, 0.0, 1.0, "normal"),
    "seeds vary a little": (1.0, 0.1, 0.5, "normal"),
    "seeds vary": (1.0, 0.3, 0.5, "normal"),
    "skewed": (1.0, 0.1, 0.5, "skewed"),
    "hits and misses": (0.5, 0.05, 0.5, "binary"),
}
METRICS = 20


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
        false += any(p < 0.05 and not r.holds_zero for p, r in zip(corrected, rows, strict=True))
    detectable, seen = float(np.median(errors)), 0
    for trial in range(trials):
        found = paired_difference(*table(rng, world, seeds, stories, detectable), mean, draws, seed=trial % 7)
        seen += not found.holds_zero and found.p < 0.05
    return {
        "coverage": 100 * covered / trials / 4,
        "false positives": 100 * false / trials,
        "power": 100 * seen / trials,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args()
    results = {}
    print(f"{'world':20s} {'seeds':>5s} {'stories':>7s} {'coverage':>9s} {'false positives':>16s} {'power':>6s}")
    for world in WORLDS:
        for seeds, stories in ((3, 40), (5, 55)):
            row = simulate(world, seeds, stories, options.trials, options.draws)
            results[f"{world}, {seeds} seeds, {stories} stories"] = row
            print(f"{world:20s} {seeds:5d} {stories:7d} {row['coverage']:8.1f} % {row['false positives']:14.1f} % "
                  f"{row['power']:4.0f} %", flush=True)  # fmt: skip
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=2)
