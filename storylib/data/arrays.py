"""Arrays on disk, computed batch by batch: memory-mapped, checked, and resumed after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from storylib.data.store import make_sealed, replace_atomically

BATCH = 64

Arrays = dict[str, np.ndarray]
Compute = Callable[[Sequence[Any]], Arrays]


def load_or_compute(folder: Path, items: Sequence[Any], load: Callable[[], Compute], title: str) -> Arrays:
    """Memory-mapped arrays with the rows of some items, computed unless the folder holds them.

    load: called only if a batch is missing; returns the function that computes the rows of a batch of items, by array.
    Raises StoreError if the cache cannot be written; what was computed so far is kept.
    """
    batches = folder.with_name(f"{folder.name}.batches")

    def make(target: Path) -> None:
        files = _compute(batches, items, load, title)
        for name in np.load(files[0]):
            _join(files, name, target / f"{name}.npy")

    make_sealed(folder, make)
    shutil.rmtree(batches, ignore_errors=True)
    return {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}


def _compute(folder: Path, items: Sequence[Any], load: Callable[[], Compute], title: str) -> list[Path]:
    """One file per batch, in order; those of an interrupted pass are kept."""
    files = []
    compute = None
    with tqdm(total=len(items), desc=title, unit="item") as bar:
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            file = folder / f"{start:09d}.npz"
            if not file.exists():
                compute = compute or load()
                replace_atomically(file, partial(_save, arrays=compute(batch)), sync=True)
            files.append(file)
            bar.update(len(batch))
    return files


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as file:  # NumPy would append its own suffix to a path
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _join(files: Sequence[Path], name: str, path: Path) -> None:
    """Write one array of all batches, with one batch in memory at a time."""
    rows = sum(len(np.load(file)[name]) for file in files)
    first = np.load(files[0])[name]
    header = np.lib.format.header_data_from_array_1_0(first) | {
        "shape": (rows, *first.shape[1:]),
        "fortran_order": False,
    }
    with path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for file in files:
            target.write(np.load(file)[name].tobytes())
