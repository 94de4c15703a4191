"""Tables of what things cost: from the records of ``benchmarks``, and from what the workflow measured.

Seconds of work are processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import project_root, slug

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


def measured(what: str, device: str = "cpu") -> dict[str, Any] | None:
    """The record of a measurement, a name of ``MEASURED``; None where this copy has none."""
    name, part = MEASURED[what]
    file = f"{name}.json" if device == "cpu" else f"{name}-{device}.json"
    path = project_root() / "results" / "benchmarks" / file
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return (record.get(part) if part else record) or None


def describe() -> pd.DataFrame:
    """The provenance of every measurement in this copy: command, commit, device and machine."""
    rows = []
    for what, device in product(MEASURED, ("cpu", "cuda")):
        if record := measured(what, device):
            script = record.get("script")  # of a benchmark that only an earlier commit holds
            command = f"{script['path']}, commit {script['commit'][:8]}" if script else record.get("command", "")
            row = {"measured": what, "command": command, "commit": record.get("commit", "")[:8]}
            rows.append(row | {key: record.get(key, "") for key in ("dirty", "device", "machine")})
    columns = ["measured", "command", "commit", "dirty", "device", "machine"]
    return pd.DataFrame(rows, columns=columns).set_index("measured")


def reading_costs() -> pd.DataFrame:
    """The cost of reading stories, and the faults of the markup parser on fuzzed texts; empty without the records."""
    values: dict[str, str] = {}
    if record := measured("reading"):
        for reader, speed in record["decoding"]["frames_per_second_of_work"].items():
            values[f"pictures decoded by {reader}, per second of work"] = f"{speed:,}"
        for name, step in record["scale"].items():
            value = f"{step['seconds_of_work']:,.0f} s of work; peak memory {step['peak_memory_mb']:,} MB"
            values[f"{step['frames']:,} frames {READING.get(name, name)}"] = value
    if record := measured("markup"):
        faults = f"{record['exceptions']} exceptions, {record['hangs']} hangs"
        values[f"{record['inputs']:,} fuzzed texts parsed in {record['minutes']:.0f} minutes"] = faults
    return pd.Series(values, name="value", dtype=str).rename_axis("measured").to_frame()


def workflow(source: str, profile: str, watts: float) -> pd.DataFrame:
    """Jobs, minutes of work, minutes by the clock one after another, and watt-hours of each step of this book.

    watts: assumed power of a busy core. Empty where the workflow measured nothing.
    """
    folder = project_root() / "_build" / slug(f"{source}-{profile}") / "costs"  # Snakemake's benchmark files
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
    """Milliseconds per frame of each step and of all together, and the peak memory in GB, by the number of frames."""
    rows = {}
    for size in record["sizes"]:
        steps = {title: 1000 * size["seconds"][step] / size["frames"] for step, title in STEPS.items()}
        memory = max(size["peak_memory_mb"].values()) / 1024
        rows[size["frames"]] = steps | {"all steps": sum(steps.values()), "peak memory, GB": memory}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("frames")


def sizes(record: dict[str, Any], *columns: str) -> pd.DataFrame:
    """Some columns of a growth record, one row per measured size."""
    return pd.json_normalize(record["sizes"])[list(columns)].rename(columns=lambda name: name.replace("_", " "))
