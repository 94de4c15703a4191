"""The records of the benchmarks: where they are kept and what each says about its making."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storylib.config import project_root
from storylib.data.store import write_atomically
from storylib.experiments.provenance import provenance


def record_path(name: str, device: str = "cpu") -> Path:
    """Default path of a record; measurements on another device than the CPU have a file of their own."""
    suffix = "" if device == "cpu" else f"-{device}"
    return project_root() / "results" / "benchmarks" / f"{name}{suffix}.json"


def write_record(path: Path, measurements: Mapping[str, Any], device: str = "cpu") -> None:
    """Write measurements with the commit, versions and machine that they were taken with."""
    write_json(path, {**measurements, **provenance(device)})


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=2) + "\n")
