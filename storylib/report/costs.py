"""What things cost, as tables and a figure: from the records of ``benchmarks``, and from what the workflow measured.

Seconds of work are processor time, which does not depend on what else the machine does.
"""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from storylib.config import build_name, project_root
from storylib.report.style import INK, MODEL_COLOUR, MORE, OFF, describe, subplots

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


def measured(what: str) -> dict[str, Any] | None:
    """The record of a measurement, a name of ``MEASURED``; None where this copy has none."""
    name, part = MEASURED[what]
    path = project_root() / "results" / "benchmarks" / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
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
    """Jobs, minutes of work, minutes by the clock one after another, and watt-hours of each step of this book.

    watts: assumed power of a busy core. Empty where the workflow measured nothing.
    """
    files = sorted((project_root() / "_build" / build_name(source, profile) / "costs").glob("*.tsv"))  # by Snakemake
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


def draw_growth(record: dict[str, Any]) -> Figure:
    """The cost per frame of each step and the peak memory, by the number of frames."""
    table = by_frames(record)
    figure, ((left, right),) = subplots(1, 2, (9, 3.2), gridspec_kw={"width_ratios": [3, 2]})
    for step, colour in zip(STEPS.values(), (*MORE[:4], MODEL_COLOUR, OFF), strict=True):
        left.plot(table[step], "o-", color=colour, markersize=4, label=step)
    left.set(xscale="log", yscale="log", xlabel="frames", ylabel="milliseconds per frame")
    left.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    peak = table["peak memory, GB"]
    right.plot(peak, "o-", color=MODEL_COLOUR, markersize=4)
    right.axhline(2, color=INK, linewidth=0.8, linestyle=":")
    right.set(xlabel="frames", ylabel="peak memory, GB", ylim=(0, None))
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter("{x:,g}")
    left.minorticks_off()
    right.set_xticks(range(0, int(peak.index[-1]) + 1, 20_000))
    alt = f"Cost per frame of each step from {peak.index[0]:,} to {peak.index[-1]:,} frames; "
    alt += f"peak memory {peak.iloc[-1]:.1f} GB with the most."
    caption = "A level line on the left: the cost per frame does not depend on their number. Dotted on the right: 2 GB."
    return describe(figure, alt, caption)
