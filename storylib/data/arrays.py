"""Arrays on disk, computed batch by batch: memory-mapped, checked, and resumed after an interruption."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from storylib.data.store import make_sealed, write_atomically

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
    for start in tqdm(range(0, len(items), BATCH), desc=title, unit="item", unit_scale=BATCH):
        file = folder / f"{start:09d}.npz"
        if not file.exists():
            compute = compute or load()
            content = io.BytesIO()
            np.savez(content, **compute(items[start : start + BATCH]))  # type: ignore[arg-type]
            write_atomically(file, content.getvalue())
        files.append(file)
    return files


def _join(files: Sequence[Path], name: str, path: Path) -> None:
    """Write one array of all batches, with one batch in memory at a time."""
    rows = sum(len(np.load(file)[name]) for file in files)
    first = np.load(files[0])[name]
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (rows, *first.shape[1:])}
    with path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for file in files:
            target.write(np.load(file)[name].tobytes())
