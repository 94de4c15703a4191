"""The records of the benchmarks: where they are kept and what each says about its making."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storylib.config import build_name, project_root, seeds
from storylib.data.store import write_atomically
from storylib.experiments.provenance import provenance


def record_path(name: str, device: str = "cpu") -> Path:
    """Default path of a record; measurements on another device than the CPU have a file of their own."""
    suffix = "" if device == "cpu" else f"-{device}"
    return project_root() / "results" / "benchmarks" / f"{name}{suffix}.json"


def write_record(path: Path, measurements: Mapping[str, Any], device: str = "cpu") -> None:
    """Write measurements with the commit, versions and machine that they were taken with."""
    write_json(path, {**measurements, **provenance(device)})


def publish_study(name: str, measure: Callable[[str, str, int], Mapping[str, Any]], arguments: Any = None) -> None:
    """The command line of a benchmark of the runs of a source: measure, print, write ``results/<name>/``.

    measure: takes source, profile and how many of its seeds are used.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--source", default="picture_books")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--seeds", type=int, default=3, help="the first so many of the profile")
    parser.add_argument("--record", type=Path, help=f"default: results/{name}/<source>-<profile>.json")
    options = parser.parse_args(arguments)
    source, profile, count = options.source, options.profile, options.seeds
    command = f"python -m benchmarks.{name} --source {source} --profile {profile} --seeds {count}"
    head = {"command": command, "source": source, "profile": profile, "seeds": seeds(profile)[:count]}
    path = options.record or project_root() / "results" / name / f"{build_name(source, profile)}.json"
    measurements = measure(source, profile, count)
    print(json.dumps(measurements, indent=1))
    write_record(path, head | measurements)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=2) + "\n")
