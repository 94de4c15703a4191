"""Arrays on disk, computed batch by batch: memory-mapped, checked, and resumed after an interruption."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
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
    """One file per batch, in order; files of an interrupted pass are kept.

    Each core computes batches of its own: cores that share one spend much of their time waiting for each other, and the
    last digits would depend on their number.
    """
    starts = range(0, len(items), BATCH)
    files = [folder / f"{start:09d}.npz" for start in starts]
    missing = [(start, file) for start, file in zip(starts, files, strict=True) if not file.exists()]
    if not missing:
        return files
    compute = load()

    def work(batch: tuple[int, Path]) -> None:
        start, file = batch
        content = io.BytesIO()
        np.savez(content, **compute(items[start : start + BATCH]))  # type: ignore[arg-type]
        write_atomically(file, content.getvalue())

    workers = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    with _one_thread_each(), ThreadPoolExecutor(workers) as pool:
        done = len(files) - len(missing)
        bar = tqdm(total=len(files), initial=done, desc=title, unit="item", unit_scale=BATCH)
        try:
            for _ in pool.map(work, missing):
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)  # after an error or an interrupt, what runs is finished and kept
            bar.close()
    return files


def _one_thread_each() -> AbstractContextManager[None]:
    if "torch" not in sys.modules:  # then no network computes
        return nullcontext()
    from storylib.data.device import cpu_threads

    return cpu_threads(1)


def _join(files: Sequence[Path], name: str, path: Path) -> None:
    """Write one array of all batches, with one batch in memory at a time."""
    rows = sum(len(np.load(file)[name]) for file in files)
    first = np.load(files[0])[name]
    header = {"descr": first.dtype.str, "fortran_order": False, "shape": (rows, *first.shape[1:])}
    with path.open("wb") as target:
        np.lib.format.write_array_header_1_0(target, header)
        for file in files:
            target.write(np.load(file)[name].tobytes())
