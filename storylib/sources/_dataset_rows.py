"""Rows of a Hugging Face data set, read once as a stream and kept in the cache.

Later calls read from the cache, and an interrupted call continues where it stopped. A cache entry holds sealed shards,
each with a few rows and their pictures; a shard that is not full is the last of its split.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from storylib.data import store
from storylib.sources._checks import SourceError, check_known, one_line

SHARD = 32  # rows per shard, which an interrupted call has to read again
HELD_OUT_SHARE = 0.15  # of a limited number of rows, for each held-out split of the data set
ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp"}  # by the first bytes of a file
HELD_OUT = {"test": "test", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Row:
    """One row of a data set. A picture that is missing or not embedded is None."""

    split: str  # as the data set calls it
    number: int  # within the split, from 0
    values: dict[str, Any]
    pictures: list[Path | None]


def rows(
    root: str | os.PathLike, columns: Sequence[str], images: str, limit: int | None = None, revision: str | None = None
) -> Iterator[Row]:
    """Every row, training split first. Only one shard is in memory, whatever the size of the data set.

    root: a repository of the hub, or a folder of Parquet files. columns: those to keep besides ``images``.
    limit: at most this many rows, 15 % of them from each held-out split. revision: of the repository.

    Raises SourceError for a data set that cannot be read, StoreError for a cache that cannot be written.
    """
    folder = Path(root).expanduser()
    is_repository = not folder.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(root))
    files = {} if is_repository else parquet_files(folder)
    stats = {path: path.stat() for path in itertools.chain(*files.values())}
    state: list[Any] = [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()]
    key = [state or [str(root), revision], images, sorted(columns)]
    entry = store.cache_entry("hugging_face", folder.name, key, "sources._dataset_rows")
    open_splits = functools.cache(lambda: _open_splits(files or str(root), revision, [*columns, images], images))

    def write_names(folder: Path) -> None:
        (folder / "names.json").write_text(json.dumps(list(open_splits())), encoding="utf-8")

    store.make_sealed(entry / "splits", write_names)
    names = json.loads((entry / "splits" / "names.json").read_text(encoding="utf-8"))
    held_out = [name for name in names if name in HELD_OUT]
    for split in sorted(names, key=lambda name: name in HELD_OUT):
        wanted = limit
        if limit is not None and held_out:
            wanted = round(limit * (HELD_OUT_SHARE if split in HELD_OUT else 1 - HELD_OUT_SHARE * len(held_out)))
        yield from itertools.islice(_cached_split(entry, split, open_splits, images), wanted)


def _cached_split(entry: Path, split: str, open_splits: Callable[[], dict[str, Any]], images: str) -> Iterator[Row]:
    """The rows of a split. Shards that are missing are read from the data set when their first row is needed."""
    stream: Iterator[dict[str, Any]] = iter(())
    position = -1  # of the stream

    def write_shard(folder: Path) -> None:
        nonlocal stream, position
        if position != start:
            stream = _checked_stream(open_splits()[split].skip(start), entry.name)
            stream = iter(tqdm(stream, desc=f"read {split}", unit="story", initial=start))
        rows = [_store_row(folder, row, images) for row in itertools.islice(stream, SHARD)]
        (folder / "rows.json").write_text(json.dumps(rows, default=str), encoding="utf-8")
        position = start + len(rows)

    for start in itertools.count(0, SHARD):
        folder = entry / f"{split}-{start:06d}"
        store.make_sealed(folder, write_shard)
        shard = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        for number, (values, names) in enumerate(shard, start):
            yield Row(split, number, values, [folder / name if name else None for name in names])
        if len(shard) < SHARD:
            break


def _checked_stream(stream: Any, name: str) -> Iterator[dict[str, Any]]:
    """The same rows, with one clear error if the source fails."""
    try:
        yield from stream
    except Exception as error:  # the network failed, a file is damaged inside
        raise SourceError(
            f"Reading {name} stopped ({_short(error)}). Call again to continue; if it stops again at a local file, "
            "copy or download that file again."
        ) from error


def _store_row(folder: Path, values: dict[str, Any], images: str) -> tuple[dict[str, Any], list[str | None]]:
    """Write the pictures of a row; its other values, and the file name of each picture."""
    names: list[str | None] = []
    for item in values.pop(images) or []:
        content = item.get("bytes") if isinstance(item, dict) else None
        name = None
        if content:  # a path is not followed: in a file of unknown origin it could point at anything
            name = hashlib.sha256(content).hexdigest() + ENDINGS.get(content[:2], ".bin")
            (folder / name).write_bytes(content)
        names.append(name)
    return values, names


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of a folder or its subfolder "data", by split; a file whose name has no split is training data."""
    paths = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    if not paths:
        raise SourceError(f"{folder} holds no Parquet file; expected train-*.parquet and test-*.parquet in it.")
    splits: dict[str, list[Path]] = {}
    for path in paths:
        match = re.search(r"(?:^|[-_.])(train|test|validation|valid|val|dev)(?=[-_.])", path.name)
        splits.setdefault(match[1] if match else "train", []).append(path)
    return splits


def _open_splits(
    root: str | dict[str, list[Path]], revision: str | None, columns: list[str], images: str
) -> dict[str, Any]:
    """Streams of a repository or of local files, by split: the columns, with pictures as the stored bytes."""
    import datasets
    import pyarrow.parquet as pq

    if isinstance(root, dict):
        for path in itertools.chain(*root.values()):  # every footer, because ``datasets`` would not name a bad file
            try:
                columns_of_file = pq.read_schema(path).names
            except Exception as error:  # truncated, empty, not Parquet, not readable
                raise SourceError(f"{path} cannot be read as Parquet ({error}): copy or download it again.") from error
            check_known("column", columns, columns_of_file, f"{path}: ")
        names = {split: [str(path) for path in paths] for split, paths in root.items()}
        splits = datasets.load_dataset("parquet", data_files=names, streaming=True)
    else:
        try:
            splits = datasets.load_dataset(root, revision=revision, streaming=True)
        except Exception as error:  # no network, no such repository, a proxy's web page, a full disk ...
            raise SourceError(
                f"The data set {root} could not be read from the Hugging Face hub ({_short(error)}). Without "
                "network, put its Parquet files (train-*.parquet, test-*.parquet) into a folder and name that folder "
                "instead of the repository, or use the source 'storyworld', which needs no download."
            ) from error
        for stream in splits.values():
            check_known("column", columns, stream.column_names or columns, f"{root}: ")
    undecoded = datasets.Sequence(datasets.Image(decode=False))
    return {
        str(split): stream.select_columns(columns).cast_column(images, undecoded) for split, stream in splits.items()
    }


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error))[:200]}"
