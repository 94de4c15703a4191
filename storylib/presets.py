"""The published systems and ours, each trained whole with every seed and set beside the floors.

python -m storylib.presets --source african_storybook --profile full    # trains what is missing and writes the record
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.ablation import publish_command, published
from storylib.comparison import compare
from storylib.config import configure, experiments, seeds
from storylib.pictures import write_atomically
from storylib.protocol import METRICS
from storylib.runs import Run, RunError, pooled_metrics, publishable
from storylib.sweeps import costs, run_arm

OURS = "storyteller"
KEPT = ("value", "interval", "best_floor", "floors", "gain", "gain_interval", "p_holm", "verdict")


def run_presets(profile: str, source: str, path: Path) -> dict[str, Any]:
    """Train and score what is missing; the record is written after each preset. Raises RunError for a dirty tree."""
    made = publishable()
    record = {"command": f"python -m storylib.presets --source {source} --profile {profile}"}
    record |= {"source": source, "profile": profile, "seeds": seeds(profile)} | made
    presets: dict[str, Any] = {}
    ours: list[Run] = []
    for name in sorted(experiments()["presets"], key=lambda name: name != OURS):
        runs = run_arm([configure(profile, preset=name, source=source, seed=s) for s in seeds(profile)])
        ours = ours or runs
        presets[name] = measured(runs) | ({} if name == OURS else {f"minus {OURS}": difference(runs, ours)})
        write_atomically(path, json.dumps(record | {"presets": presets}, indent=1) + "\n")
        logging.info("%s is done", name)
    return record | {"presets": presets}


def measured(runs: Sequence[Run]) -> dict[str, Any]:
    """Every metric with its interval, its floors and what it gains over the best one; and the runs behind it."""
    facts = runs[0].record["data"]
    metrics = {name: {key: entry[key] for key in KEPT} for name, entry in pooled_metrics(runs).items()}
    return {"runs": costs(runs), "encoders": facts["encoders"], "windows": facts["windows"], "metrics": metrics}


def difference(runs: Sequence[Run], ours: Sequence[Run]) -> dict[str, Any]:
    """A preset minus ours, paired by seed and window."""
    columns = ["metric", "difference", "low", "high", "p_holm", "verdict"]
    frame = compare(runs, ours).frame[columns].round(6).set_index("metric")
    return json.loads(frame.to_json(orient="index"))


def load_presets(source: str, profile: str = "full") -> dict[str, Any]:
    """The published record. Raises RunError, which names the command that makes it."""
    path = published("presets", source, profile)
    if not path.exists():
        command = f"python -m storylib.presets --source {source} --profile {profile}"
        raise RunError(f"There is no record of the presets on {source!r}. `{command}` makes it.")
    return dict(json.loads(path.read_text()))


def preset_table(record: Mapping[str, Any], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a metric: its best floor, and each preset with its 95 % interval; a star where it beats that floor."""
    rows = []
    for name in metrics:
        entries = {preset: told["metrics"].get(name) for preset, told in record["presets"].items()}
        first = next((entry for entry in entries.values() if entry), None)
        if first is None:
            continue
        digits = METRICS[name].digits
        best = first["best_floor"]
        row = {"metric": METRICS[name].title, "best floor": f"{first['floors'][best]:.{digits}f} ({best})"}
        for preset, entry in entries.items():
            if entry is None:
                row[preset] = "not made"  # as the picture of a system that predicts none
                continue
            low, high = entry["interval"]
            star = " *" if entry["verdict"] == "better" else ""
            row[preset] = f"{entry['value']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f}){star}"
        rows.append(row)
    return pd.DataFrame(rows).set_index("metric")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.presets", description=__doc__)
    return publish_command(parser, "presets", lambda o, path: run_presets(o.profile, o.source, path), arguments)


if __name__ == "__main__":
    sys.exit(main())
