"""What things cost, as tables and sentences: from the records of ``benchmarks``, and from what the workflow measured.

Seconds of work are those of the processor, to which whatever else the machine did adds nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import configure, experiments, project_root, seeds

FRAMES = 52_016  # of StoryReasoning
FLAT = 0.15  # a cost a frame that changes less than this is called flat

# What was measured: the record, the part of it, and the command that makes it.
MEASURED = {
    "window": ("training_cost", "", "python -m benchmarks.training_cost"),
    "throughput": ("encoding", "", "python -m benchmarks.encoding"),
    "reading": ("reading", "", "python -m benchmarks.reading"),
    "markup": ("fuzz_markup", "", "python -m benchmarks.fuzz_markup"),
} | {
    part: ("growth", part, f"python -m benchmarks.growth --parts {part}")
    for part in ("profile", "encoding", "batch", "processes", "stories")
}
STEPS = {
    "load": "read from Parquet",
    "group and split": "grouped and split",
    "store features": "features stored",
    "build windows": "windows built",
    "train": "an epoch of training",
    "find": "next pages ranked",
}
READING = {
    "stream": "streamed from Parquet, story by story",
    "look": "every picture hashed, and all held as file names",
    "load and split": "loaded, and grouped by near-duplicate pictures and texts",
}


def ending(device: str) -> str:
    """Of the name of a record: none for a CPU."""
    return "" if device == "cpu" else f"-{device}"


def measured(what: str, device: str = "cpu", folder: Path | None = None) -> dict[str, Any] | None:
    """The record of a measurement, a name of ``MEASURED``; None where it is not in this copy.

    folder: by default ``results/benchmarks``.
    """
    name, part, _ = MEASURED[what]
    path = (folder or project_root() / "results" / "benchmarks") / f"{name}{ending(device)}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return (record.get(part) if part else record) or None


def missing(what: str, device: str = "cpu") -> str:
    """What to say, and which command to give, where there is no record."""
    command = MEASURED[what][2] + ("" if device == "cpu" else f" --device {device}")
    return f"*Not measured in this copy: `{command}` does it.*"


def describe(folder: Path | None = None) -> pd.DataFrame:
    """How the numbers were made: the command, commit and machine of every measurement that is in this copy."""
    rows: dict[str, dict[str, Any]] = {}
    for what, device in product(MEASURED, ("cpu", "cuda")):
        if record := measured(what, device, folder):
            part = f", {what}" if MEASURED[what][1] else ""
            made = {key: record.get(key, "") for key in ("commit", "dirty", "device", "machine")}
            load = {"load of the machine": record.get("load_of_the_machine", "")}
            rows[f"{MEASURED[what][0]}{part}{ending(device)}"] = made | load
    table = pd.DataFrame(rows.values(), index=list(rows))
    return table.assign(commit=table["commit"].str[:8]) if rows else table


# ---- reading


def reading_costs(folder: Path | None = None) -> pd.DataFrame:
    """What reading stories costs and what the parser of markup went through; no row where no record has been published.

    folder: by default ``results/benchmarks``.
    """
    rows: list[tuple[str, str]] = []
    if record := measured("reading", folder=folder):
        decoding = record["decoding"]
        for reader, speed in decoding["frames_a_second"].items():
            work = decoding["frames_a_second_of_work"][reader]
            rows.append((f"pictures decoded by {reader}", f"{speed:,} a second; {work:,} a second of work"))
        low, high = decoding["ratio_range"]
        ratio = f"{decoding['ratio_to_the_faster_bare_loop']:.2f} ({low:.2f} to {high:.2f})"
        rows.append(("storylib's speed as a share of the faster bare loop, by work", ratio))
        checked = record["checking"]
        what = (
            f"stored features of {checked['frames']:,} frames, {checked['megabytes']:,} MB, compared with their digests"
        )
        rows.append((what, f"{checked['seconds_of_work']:.1f} s of work, once in a process"))
        for name, step in record["scale"].items():
            value = f"{step['seconds']:,.0f} s, of which {step['seconds_of_work']:,.0f} s of work"
            value += f"; {step['peak_memory_mb']:,} MB of memory at most"
            rows.append((f"{step['frames']:,} frames {READING.get(name, name)}", value))
    if record := measured("markup", folder=folder):
        faults = f"{record['exceptions']} exceptions, {record['hangs']} hangs"
        rows.append((f"{record['inputs']:,} texts of a fuzzer parsed in {record['minutes']:.0f} minutes", faults))
    return pd.DataFrame(rows, columns=["measured once, on two cores", "value"]).set_index("measured once, on two cores")


# ---- a full report


def workflow(source: str, profile: str, watts: float, folder: Path | None = None) -> pd.DataFrame:
    """Minutes of work, minutes in all if one job followed the other, and watt-hours of each step of this book.

    watts: that a busy core is taken to draw. folder: of Snakemake's files, by default those of this source and profile.
    No row where the workflow measured nothing.
    """
    name = re.sub(r"[^\w.-]+", "_", f"{source}-{profile}")
    steps: dict[str, list[pd.Series]] = {}
    for path in sorted((folder or project_root() / "_build" / name / "costs").glob("*.tsv")):
        steps.setdefault(path.stem.partition("-")[0], []).append(pd.read_csv(path, sep="\t").iloc[0])
    rows = []
    for step, jobs in steps.items():
        worked, seconds = (pd.to_numeric(pd.Series([j[c] for j in jobs]), errors="coerce") for c in ("cpu_time", "s"))
        rows.append((step, len(jobs), worked.fillna(seconds).sum() / 60, seconds.sum() / 60))
    table = pd.DataFrame(rows, columns=["step", "jobs", "minutes of work", "minutes"]).set_index("step")
    table["watt-hours"] = table["minutes of work"] / 60 * watts
    return table


def workflow_in_words(table: pd.DataFrame, watts: float) -> str:
    """What a whole report takes, with how the energy was come by."""
    if table.empty:
        return "*The steps of this copy were not made by the workflow, so nothing was measured: `make book` does it.*"
    work, clock, energy = (table[column].sum() for column in ("minutes of work", "minutes", "watt-hours"))
    return (
        f"{table['jobs'].sum():.0f} jobs, {work:.0f} minutes of work of a core, {clock:.0f} minutes if one job "
        f"followed the other, and {energy:.1f} watt-hours. The energy is an estimate, not a measurement: seconds of "
        f"work times {watts:g} watts for a busy core, without screen and disk and what the machine draws when idle."
    )


# ---- one window


def throughput_in_words(record: dict[str, Any]) -> str:
    """How near encoding comes to the bare networks."""
    return (
        f"Encoding reaches {record['share_of_bare_throughput']:.0%} of what the bare networks do with tensors that lie "
        f"ready in memory, by the clock, and {record['share_of_bare_computing']:.0%} by computing time, to which "
        f"whatever else the machine did adds nothing ({record['pages']} pages of {record['source'].replace('_', ' ')})."
    )


def answer(watts: float, source: str, profile: str, plan: str) -> str:
    """This chapter in some sentences, of what has been measured."""
    said = []
    if record := measured("window"):
        low, high = record["times_cheaper_range"]
        said.append(f"A training window costs {record['median']['ours']:.1f} ms, {record['times_cheaper']:.0f} times "
                    f"less than with system B's loop as written ({low:.0f} to {high:.0f}).")  # fmt: skip
    if record := measured("profile"):
        first, second = list(record["shares"].items())[:2]
        said.append(f"Most of it goes into the {first[0]} ({first[1]:.0f} %) and the {second[0]} ({second[1]:.0f} %).")
    if record := measured("stories"):
        first, last = record["sizes"][0], record["sizes"][-1]
        said.append(f"With {last['frames'] / first['frames']:.0f} times the frames, a frame costs "
                    f"{everything(record).factor:.2f} times as much, from reading to one epoch of training, and memory "
                    f"reaches {max(last['peak_memory_mb'].values()):,} MB.")  # fmt: skip
    hours = projection(plan)
    if len(hours):
        said.append(f"All of StoryReasoning would be encoded in {hours['hours'].iloc[1]:.1f} hours of one core, and "
                    f"the whole ablation trained on it in {hours['hours'].iloc[-1]:.0f}.")  # fmt: skip
    return " ".join([*said, "A report like this one:", workflow_in_words(workflow(source, profile, watts), watts)])


# ---- growth


@dataclass(frozen=True)
class Growth:
    """How the cost a frame of one step goes from the fewest frames to the most."""

    step: str
    least: float  # milliseconds a frame
    most: float
    factor: float  # of the cost a frame, from the fewest frames to the most

    @property
    def verdict(self) -> str:
        """Whether it stays within ``FLAT`` throughout, wavers without being dearer at the end, or grows."""
        if self.factor > 1 + FLAT:
            return "grows"
        return "flat" if self.most <= (1 + FLAT) * self.least else "wavers"


def by_frames(record: dict[str, Any]) -> pd.DataFrame:
    """Milliseconds a frame of each step and its memory until then, one row for each number of frames."""
    rows = [(size["frames"], step, 1000 * seconds / size["frames"], size["peak_memory_mb"][step])
            for size in record["sizes"] for step, seconds in size["seconds"].items()]  # fmt: skip
    return pd.DataFrame(rows, columns=["frames", "step", "milliseconds", "memory"])


def growth(record: dict[str, Any]) -> list[Growth]:
    """How each step grows."""
    table = by_frames(record)
    found = []
    for step in STEPS:
        spent = table[table["step"] == step].sort_values("frames")["milliseconds"]
        found.append(Growth(step, spent.min(), spent.max(), spent.iloc[-1] / spent.iloc[0]))
    return found


def everything(record: dict[str, Any]) -> Growth:
    """How the steps together grow, with one epoch of training."""
    spent = by_frames(record).groupby("frames")["milliseconds"].sum()
    return Growth("everything", spent.min(), spent.max(), spent.iloc[-1] / spent.iloc[0])


def growth_in_words(record: dict[str, Any]) -> str:
    """Which steps cost a frame the same however many there are, which do not, and whether memory stays small."""
    sizes = record["sizes"]
    first, last = sizes[0], sizes[-1]
    heads = {
        "flat": f"A frame costs the same within {100 * FLAT:.0f} %",
        "wavers": "It wavers between sizes, without being dearer at the end",
        "grows": "It costs more",
    }
    whole = everything(record)
    said = [
        f"From {first['frames']:,} frames to {last['frames']:,} the steps together, with one epoch of training, "
        f"cost {whole.least:.2f} to {whole.most:.2f} ms a frame, {whole.factor:.2f} times as much at the end"
        f"{f': flat within {100 * FLAT:.0f} %' if whole.verdict == 'flat' else ''}."
    ]
    for verdict, head in heads.items():
        steps = [f"{STEPS[s.step]} ({s.least:.2f} to {s.most:.2f} ms a frame, {s.factor:.1f} times at the end)"
                 for s in growth(record) if s.verdict == verdict]  # fmt: skip
        said += [f"{head}: {', '.join(steps)}."] if steps else []
    few, many = (max(size["peak_memory_mb"].values()) for size in (first, last))
    each = 1024 * (many - few) / (last["frames"] - first["frames"])
    side = "under" if many < 2048 else "over"
    said.append(f"Peak memory goes from {few:,} MB to {many:,}, {side} 2 GB, by {each:.0f} KB a frame.")
    return " ".join(said)


def candidates_in_words(record: dict[str, Any]) -> str:
    """What a window of training costs with few pages to choose among, and with as many as a batch ever has."""
    points = [(s["candidates"]["train"], s["milliseconds_a_window"]["train"]) for s in record["sizes"]]
    (few, cheap), (many, dear) = points[0], points[-1]
    return (
        f"A window of training costs {cheap:.1f} ms with {few:,} candidate pages and {dear:.1f} ms with {many:,}, the "
        f"most that a batch gets."
    )


def batches_in_words(record: dict[str, Any]) -> str:
    """The cheapest batch and the dearest, and the memory of the greatest."""
    sizes = {s["batch"]: s for s in record["sizes"]}
    best = min(sizes.values(), key=lambda s: s["milliseconds_a_window"])
    dear = max(sizes.values(), key=lambda s: s["milliseconds_a_window"])
    return (
        f"A window is cheapest in batches of {best['batch']}, {best['milliseconds_a_window']:.1f} ms, and dearest in "
        f"batches of {dear['batch']}, {dear['milliseconds_a_window']:.1f} ms; the greatest batch of {max(sizes)} needs "
        f"{sizes[max(sizes)]['peak_memory_mb']:,} MB."
    )


def processes_in_words(record: dict[str, Any]) -> str:
    """What each of several processes works for a window of the batch that they share, beside one alone."""
    sizes = record["sizes"]
    alone = sizes[0]["milliseconds_a_window"]
    shares = [
        f"with {s['processes']} processes each works {s['milliseconds_a_window']:.1f} ms for a window of the batch "
        f"that they share, {s['milliseconds_a_window'] / alone:.0%} of one alone (ideal: {1 / s['processes']:.0%})"
        for s in sizes[1:]
    ]
    return f"One process: {alone:.1f} ms a window of {sizes[0]['batch']}; {'; '.join(shares)}."


# ---- projection


def projection(profile: str, device: str = "cpu", folder: Path | None = None) -> pd.DataFrame:
    """Hours that the whole ablation would take on all of StoryReasoning, step by step; no row without the records.

    Each step was measured on about as many stand-in frames, or on a part of them, and is scaled to their number.
    Reading is the processor's work, whatever the device.
    """
    stories, encoding = (measured(what, device, folder) for what in ("stories", "encoding"))
    reading = measured("reading", folder=folder)
    if not stories or not encoding or not reading:
        return pd.DataFrame()
    size = stories["sizes"][-1]
    scale = FRAMES / size["frames"]
    spent = {step: scale * seconds for step, seconds in size["seconds"].items()}
    looked = [reading["scale"][step] for step in ("look", "load and split")]
    read = sum(step["seconds_of_work"] * FRAMES / step["frames"] for step in looked)
    runs = len(experiments()["arms"]) * len(seeds(profile))
    epochs = configure(profile, source="story_reasoning").train.epochs
    rows = {
        "read, grouped and split, once": read + spent["build windows"],
        "encoded, once": FRAMES * encoding["milliseconds_a_page"] / 1000,
        "one epoch of training": spent["train"],
        f"the ablation: {runs} trainings of {epochs} epochs": runs * epochs * spent["train"],
    }
    return pd.DataFrame({"hours": {name: seconds / 3600 for name, seconds in rows.items()}})
