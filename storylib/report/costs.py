"""Tables of what things cost: from the records of ``benchmarks``, and from what the workflow measured.

Seconds of work are processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, experiments, project_root, seeds, slug

FRAMES = 52_016  # of StoryReasoning
FLAT = 0.15  # a cost per frame that changes by less than this share is called flat

# What was measured: the record, and the part of it.
MEASURED = {
    "window": ("training_cost", None),
    "throughput": ("encoding", None),
    "reading": ("reading", None),
    "markup": ("fuzz_markup", None),
} | {part: ("growth", part) for part in ("profile", "encoding", "batch", "processes", "stories")}

STEPS = {
    "load": "reading from Parquet",
    "group and split": "grouping and splitting",
    "store features": "storing features",
    "build windows": "building windows",
    "train": "one epoch of training",
    "find": "ranking the next frames",
}
READING = {
    "stream": "streamed from Parquet, story by story",
    "look": "every picture hashed, and all held as file names",
    "load and split": "loaded, and grouped by near-duplicate pictures and texts",
}


def measured(what: str, device: str = "cpu", folder: Path | None = None) -> dict[str, Any] | None:
    """The record of a measurement, a name of ``MEASURED``; None where this copy has none.

    folder: by default ``results/benchmarks``.
    """
    name, part = MEASURED[what]
    file = f"{name}.json" if device == "cpu" else f"{name}-{device}.json"
    path = (folder or project_root() / "results" / "benchmarks") / file
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return (record.get(part) if part else record) or None


def describe(folder: Path | None = None) -> pd.DataFrame:
    """The provenance of every measurement in this copy: command, commit, device, machine and load."""
    rows = []
    for what, device in product(MEASURED, ("cpu", "cuda")):
        if record := measured(what, device, folder):
            script = record.get("script")  # of a benchmark that only an earlier commit holds
            command = f"{script['path']}, commit {script['commit'][:8]}" if script else record.get("command", "")
            row = {"measured": what, "command": command}
            rows.append(row | {key: record.get(key, "") for key in ("commit", "dirty", "device", "machine")})
    columns = ["measured", "command", "commit", "dirty", "device", "machine"]
    return pd.DataFrame(rows, columns=columns).assign(commit=lambda t: t["commit"].str[:8]).set_index("measured")


def reading_costs(folder: Path | None = None) -> pd.DataFrame:
    """The cost of reading stories, and the faults of the markup parser on fuzzed texts; empty without the records.

    folder: by default ``results/benchmarks``.
    """
    values: dict[str, str] = {}
    if record := measured("reading", folder=folder):
        for reader, speed in record["decoding"]["frames_per_second_of_work"].items():
            values[f"pictures decoded by {reader}, per second of work"] = f"{speed:,}"
        for name, step in record["scale"].items():
            value = f"{step['seconds_of_work']:,.0f} s of work; peak memory {step['peak_memory_mb']:,} MB"
            values[f"{step['frames']:,} frames {READING.get(name, name)}"] = value
    if record := measured("markup", folder=folder):
        faults = f"{record['exceptions']} exceptions, {record['hangs']} hangs"
        values[f"{record['inputs']:,} fuzzed texts parsed in {record['minutes']:.0f} minutes"] = faults
    return pd.Series(values, name="value", dtype=str).rename_axis("measured").to_frame()


def workflow(source: str, profile: str, watts: float, folder: Path | None = None) -> pd.DataFrame:
    """Jobs, minutes of work, minutes by the clock one after another, and watt-hours of each step of this book.

    watts: assumed power of a busy core. folder: of Snakemake's benchmark files, by default those of this source and
    profile. Empty where the workflow measured nothing.
    """
    folder = folder or project_root() / "_build" / slug(f"{source}-{profile}") / "costs"
    files = sorted(folder.glob("*.tsv"))
    jobs = [pd.read_csv(path, sep="\t").head(1).assign(step=path.stem.partition("-")[0]) for path in files]
    if not jobs:
        return pd.DataFrame(columns=["jobs", "minutes of work", "minutes", "watt-hours"])
    table = pd.concat(jobs)
    table["cpu_time"] = pd.to_numeric(table["cpu_time"], errors="coerce").fillna(table["s"])  # "-" for a short job
    steps = table.groupby("step", sort=False)
    work = steps["cpu_time"].sum() / 60
    columns = {"jobs": steps.size(), "minutes of work": work, "minutes": steps["s"].sum() / 60}
    return pd.DataFrame(columns | {"watt-hours": work / 60 * watts})


def by_frames(record: dict[str, Any]) -> pd.DataFrame:
    """Milliseconds per frame of each step, and the peak memory until then, in MB."""
    rows = []
    for size in record["sizes"]:
        for step, seconds in size["seconds"].items():
            rows.append((size["frames"], step, 1000 * seconds / size["frames"], size["peak_memory_mb"][step]))
    return pd.DataFrame(rows, columns=["frames", "step", "milliseconds", "memory"])


def growth(record: dict[str, Any]) -> pd.DataFrame:
    """How the cost per frame of each step, and of all together, changes from the fewest frames to the most.

    verdict: "flat" within ``FLAT`` throughout; "grows" if it is larger at the end; otherwise "varies".
    """
    costs = by_frames(record).pivot(index="frames", columns="step", values="milliseconds")[list(STEPS)]
    costs = costs.rename(columns=STEPS).assign(**{"all steps": lambda table: table.sum(axis=1)})
    low, high, ratio = costs.min(), costs.max(), costs.iloc[-1] / costs.iloc[0]
    verdict = pd.Series("varies", index=costs.columns).mask(high <= (1 + FLAT) * low, "flat")
    verdict = verdict.mask(ratio > 1 + FLAT, "grows")
    columns = {"lowest, ms per frame": low, "highest, ms per frame": high, "last to first": ratio, "verdict": verdict}
    return pd.DataFrame(columns).rename_axis("step")


def sizes(record: dict[str, Any], *columns: str) -> pd.DataFrame:
    """Some columns of a growth record, one row per measured size."""
    return pd.json_normalize(record["sizes"])[list(columns)].rename(columns=lambda name: name.replace("_", " "))


def projection(profile: str, device: str = "cpu", folder: Path | None = None) -> pd.DataFrame:
    """Projected hours of the whole ablation on all of StoryReasoning, step by step; empty without the records.

    Each step was measured on about as many stand-in frames, or on a part of them, and is scaled to their number.
    Reading is work of the processor, whatever the device.
    """
    stories, encoding = (measured(what, device, folder) for what in ("stories", "encoding"))
    reading = measured("reading", folder=folder)
    if not stories or not encoding or not reading:
        return pd.DataFrame()
    largest = stories["sizes"][-1]
    seconds = {step: value * FRAMES / largest["frames"] for step, value in largest["seconds"].items()}
    read = seconds["build windows"]
    for step in (reading["scale"]["look"], reading["scale"]["load and split"]):
        read += step["seconds_of_work"] * FRAMES / step["frames"]
    runs = len(experiments()["arms"]) * len(seeds(profile))
    epochs = configure(profile, source="story_reasoning").train.epochs
    rows = {
        "reading, grouping and splitting, once": read,
        "encoding, once": FRAMES * encoding["milliseconds_per_frame"] / 1000,
        "one epoch of training": seconds["train"],
        f"the ablation: {runs} trainings of {epochs} epochs": runs * epochs * seconds["train"],
    }
    return pd.DataFrame({"hours": {name: value / 3600 for name, value in rows.items()}})
