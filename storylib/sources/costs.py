"""What reading stories costs and what the parser of markup went through: the records of ``benchmarks``, as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import project_root

STEPS = {
    "stream": "streamed from Parquet, story by story",
    "look": "every picture hashed, and all held as file names",
    "load and split": "loaded, and grouped by near-duplicate pictures and texts",
}


def reading_costs(folder: Path | None = None) -> pd.DataFrame:
    """What was measured, with its value; no row where no record has been published.

    Seconds of work are those of the processor, to which whatever else the machine did adds nothing.
    folder: of reading.json and fuzz_markup.json, by default ``results/benchmarks``.
    """
    folder = folder or project_root() / "results" / "benchmarks"
    rows: list[tuple[str, str]] = []
    if record := _read(folder / "reading.json"):
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
            rows.append((f"{step['frames']:,} frames {STEPS.get(name, name)}", value))
    if record := _read(folder / "fuzz_markup.json"):
        faults = f"{record['exceptions']} exceptions, {record['hangs']} hangs"
        rows.append((f"{record['inputs']:,} texts of a fuzzer parsed in {record['minutes']:.0f} minutes", faults))
    return pd.DataFrame(rows, columns=["measured once, on two cores", "value"]).set_index("measured once, on two cores")


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
