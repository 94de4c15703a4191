"""What things cost, as tables: from the records of ``benchmarks``, and from what the workflow measured.

Seconds of work are processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from storylib.config import build_name, project_root
from storylib.experiments.studies import published

# What was measured: the record, and the part of it.
MEASURED = {
    "window": ("training_cost", None),
    "throughput": ("encoding", None),
    "reading": ("reading", None),
    "markup": ("fuzz_markup", None),
} | {part: ("growth", part) for part in ("profile", "encoding", "batch", "processes", "stories")}


def measured(what: str) -> dict[str, Any] | None:
    """The record of a measurement, a name of ``MEASURED``; None where this copy has none."""
    name, part = MEASURED[what]
    record = published(f"benchmarks/{name}") or {}
    return (record.get(part) if part else record) or None


def provenance() -> pd.DataFrame:
    """The provenance of every measurement in this copy: command, commit, device and machine."""
    rows = []
    for what in MEASURED:
        if record := measured(what):
            script = record.get("script")  # of a benchmark that only an earlier commit holds
            command = f"{script['path']}, commit {script['commit'][:8]}" if script else record.get("command", "")
            row = {"measured": what, "command": command, "commit": record.get("commit", "")[:8]}
            rows.append(row | {key: record.get(key, "") for key in ("dirty", "device", "machine")})
    columns = ["measured", "command", "commit", "dirty", "device", "machine"]
    return pd.DataFrame(rows, columns=columns).set_index("measured")


def workflow(source: str, profile: str, watts: float) -> pd.DataFrame:
    """Jobs, minutes of work and by the clock one after another, peak memory and watt-hours of each step of this book.

    watts: assumed power of a busy core. Empty where the workflow measured nothing.
    """
    files = sorted((project_root() / "_build" / build_name(source, profile) / "costs").glob("*.tsv"))  # by Snakemake
    jobs = [pd.read_csv(path, sep="\t").head(1).assign(step=path.stem.partition("-")[0]) for path in files]
    if not jobs:
        return pd.DataFrame(columns=["jobs", "minutes of work", "minutes", "peak memory, MB", "watt-hours"])
    table = pd.concat(jobs)
    table["cpu_time"] = pd.to_numeric(table["cpu_time"], errors="coerce").fillna(table["s"])  # "-" for a short job
    table["max_rss"] = pd.to_numeric(table["max_rss"], errors="coerce")
    steps = table.groupby("step", sort=False)
    work = steps["cpu_time"].sum() / 60
    columns = {"jobs": steps.size(), "minutes of work": work, "minutes": steps["s"].sum() / 60}
    return pd.DataFrame(columns | {"peak memory, MB": steps["max_rss"].max(), "watt-hours": work / 60 * watts})


def sizes(what: str, *columns: str) -> pd.DataFrame:
    """Some columns of a growth record, one row per measured size; empty where this copy has none."""
    rows = pd.json_normalize((measured(what) or {}).get("sizes", [])).reindex(columns=columns)
    return rows.rename(columns=lambda name: name.replace("_", " "))
