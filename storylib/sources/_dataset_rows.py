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
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from storylib.config import slug
from storylib.data import store
from storylib.data.files import explain, natural_order
from storylib.sources._checks import SourceError, check_known, file_state, is_repository, local_path, one_line

SHARD = 32  # rows per shard, which an interrupted call has to read again
HELD_OUT_SHARE = 0.15  # of a limited number of rows, for each held-out split of the data set
HELD_OUT = {"test": "test", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}
SPLITS = ("train", *HELD_OUT)  # names of folders, and parts of the names of files
OFFLINE = (
    "Without network, put its Parquet files (train-*.parquet, test-*.parquet) into a folder and name that folder "
    "instead of the repository, or use the source 'storyworld', which needs no download."
)

Stream = Callable[[int], Iterator[dict[str, Any]]]  # the rows of a split from some number on


@dataclass(frozen=True)
class Row:
    """One row of a data set."""

    split: str  # as the data set calls it
    number: int  # within the split, from 0
    values: dict[str, Any]
    pictures: list[Any]  # paths; None for a picture that is missing or not embedded
    place: str  # data set, split and number, for messages


def rows(
    root: str | os.PathLike,
    columns: Sequence[str],
    images: str,
    limit: int | None = None,
    revision: str | None = None,
    config: str | None = None,
) -> Iterator[Row]:
    """Every row, training split first. Only one shard is in memory, whatever the size of the data set.

    root: a repository of the hub, a folder of Parquet files, or one file. columns: to keep besides ``images``.
    limit: at most this many rows, 15 % of them from each held-out split. config: which, where a data set has several.
    Raises SourceError for a data set that cannot be read, StoreError for a cache that cannot be written.
    """
    folder = local_path(root)
    files = {} if is_repository(root) else parquet_files(folder, config)
    state: list[Any] = [[str(path.relative_to(folder)), *file_state(path)] for path in itertools.chain(*files.values())]
    hub, needed = [str(root), config, revision], [*columns, images]
    key = [state or hub, images, sorted(columns)]
    entry = store.cache_entry("hugging_face", slug(folder.name)[:60], key, "sources._dataset_rows")
    open_splits = functools.cache(lambda: _open_files(files, needed) if files else _open_hub(needed, *hub))

    def write_names(folder: Path) -> None:
        (folder / "names.json").write_text(json.dumps(list(open_splits())), encoding="utf-8")

    store.make_sealed(entry / "splits", write_names)
    names = json.loads((entry / "splits" / "names.json").read_text(encoding="utf-8"))
    held_out = [name for name in names if name in HELD_OUT]
    for split in sorted(names, key=lambda name: name in HELD_OUT):
        wanted = limit
        if limit is not None and held_out:
            wanted = round(limit * (HELD_OUT_SHARE if split in HELD_OUT else 1 - HELD_OUT_SHARE * len(held_out)))
        yield from itertools.islice(_cached_split(entry, split, open_splits, images, str(root)), wanted)


def _cached_split(
    entry: Path, split: str, open_splits: Callable[[], dict[str, Stream]], images: str, root: str
) -> Iterator[Row]:
    """The rows of a split. Shards that are missing are read from the data set when their first row is needed."""
    stream: Iterator[dict[str, Any]] = iter(())
    position = -1  # of the stream

    def write_shard(folder: Path) -> None:
        nonlocal stream, position
        if position != start:
            stream = iter(tqdm(open_splits()[split](start), desc=f"read {split}", unit="row", initial=start))
        rows = [_store_row(folder, row, images) for row in itertools.islice(stream, SHARD)]
        plain = json.dumps(rows, default=lambda x: x.decode(errors="replace") if isinstance(x, bytes) else str(x))
        (folder / "rows.json").write_text(plain, encoding="utf-8")
        position = start + len(rows)

    for start in itertools.count(0, SHARD):
        folder = entry / f"{split}-{start:06d}"
        store.make_sealed(folder, write_shard)
        shard = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        for number, (values, names) in enumerate(shard, start):
            pictures = [folder / name if name else None for name in names]
            yield Row(split, number, values, pictures, f"{root}, {split} row {number}")
        if len(shard) < SHARD:
            break


def _store_row(folder: Path, values: dict[str, Any], images: str) -> tuple[dict[str, Any], list[str | None]]:
    """Write the pictures of a row, a sequence or one; its other values, and the file name of each picture."""

    def store_picture(item: Any) -> str | None:
        content = item.get("bytes") if isinstance(item, dict) else item
        if not content or not isinstance(content, bytes):  # a path is not followed: it could point at anything
            return None
        name = hashlib.sha256(content).hexdigest()
        (folder / name).write_bytes(content)
        return name

    items = values.pop(images)
    return values, [store_picture(item) for item in (items if isinstance(items, list) else [items])]


def parquet_paths(root: Path) -> list[Path]:
    """The Parquet files of a folder, up to three folders deep, in natural order; or the only one."""
    if os.path.isfile(root):
        return [root]
    paths = itertools.chain.from_iterable(root.glob("*/" * depth + "*") for depth in range(4))
    parquet = (path for path in paths if path.suffix.lower() == ".parquet" and not path.is_dir())
    visible = (path for path in parquet if "/." not in f"/{path.relative_to(root)}")
    return sorted(visible, key=natural_order)


def parquet_files(root: Path, config: str | None = None) -> dict[str, list[Path]]:
    """Parquet files by split, of the layouts train-0.parquet, train/0.parquet and config/train/0.parquet.

    A file with no split in its name or in that of a folder is training data, and so is a file that is named alone.
    """
    root = root / config if config else root
    configs: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in parquet_paths(root):
        folders = {name: name.lower().removesuffix(".parquet") for name in path.relative_to(root).parts[:-1]}
        splits = re.findall(rf"(?:^|[-_. ])({'|'.join(SPLITS)})(?=[-_. \d])", path.name.lower()) if path != root else []
        splits += [plain for plain in folders.values() if plain in SPLITS]
        name = "/".join(name for name, plain in folders.items() if plain not in (*SPLITS, "data", "default"))
        configs[name][splits[0] if splits else "train"].append(path)
    if not configs:
        problem = "holds no Parquet file" if root.exists() else "does not exist"
        raise SourceError(f"{root} {problem}; expected train-*.parquet and test-*.parquet, or folders train and test.")
    if "" not in configs and len(configs) > 1:
        raise SourceError(f"{root} holds several data sets: choose one by config=NAME, of {', '.join(configs)}.")
    return configs.get("") or next(iter(configs.values()))


def _open_files(files: dict[str, list[Path]], columns: list[str]) -> dict[str, Stream]:
    """The splits of local files."""
    for path in itertools.chain(*files.values()):
        with _open_parquet(path) as parquet:
            check_known("column", columns, parquet.schema_arrow.names, f"{path}: ")
    return {split: functools.partial(_read_files, paths, columns) for split, paths in files.items()}


def _read_files(paths: Sequence[Path], columns: list[str], start: int) -> Iterator[dict[str, Any]]:
    """The rows of some files from number ``start`` on. Only the columns are read, so that others may differ."""
    for path in paths:
        with _open_parquet(path) as parquet:
            for batch in parquet.iter_batches(SHARD, columns=columns):
                yield from batch.slice(min(start, len(batch))).to_pylist()
                start = max(0, start - len(batch))


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    """A Parquet file. Raises SourceError, with the way out, if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:  # pyarrow would take some names for an address or a pattern
            yield pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        unknown = isinstance(error, pa.ArrowNotImplementedError)
        remedy = "pyarrow does not know such columns" if unknown else "copy or download it again"
        otherwise = f"cannot be read as Parquet ({_short(error)}): {remedy}"
        raise SourceError(f"{path} {explain(path, otherwise, error)}.") from error


def _open_hub(columns: list[str], root: Any, config: str | None, revision: str | None) -> dict[str, Stream]:
    """The splits of a repository. The last column has the pictures, which stay the stored bytes."""
    import datasets

    load = functools.partial(datasets.load_dataset, root, config, revision=revision, streaming=True)
    try:
        whole = splits = load()
        with suppress(TypeError, ValueError):  # of Parquet, read only these, so that others may differ
            splits = load(columns=columns)
    except Exception as error:  # no network, no such repository, a proxy's web page, a full disk ...
        several = re.search("Config name|BuilderConfig", str(error))
        remedy = "Choose one by the option config=NAME." if several else OFFLINE
        problem = f"There is no folder {root}, and it could not be read from the Hugging Face hub ({_short(error)})."
        raise SourceError(f"{problem} {remedy}") from error
    opened: dict[str, Stream] = {}
    for split, stream in splits.items():
        check_known("column", columns, whole[split].column_names or columns, f"{root}: ")
        one = isinstance((stream.features or {}).get(columns[-1]), (datasets.Image, dict))
        undecoded = datasets.Image(decode=False) if one else datasets.Sequence(datasets.Image(decode=False))
        undecoded_stream = stream.select_columns(columns).cast_column(columns[-1], undecoded)
        opened[str(split)] = functools.partial(_read_hub, undecoded_stream, root)
    return opened


def _read_hub(stream: Any, root: str, start: int) -> Iterator[dict[str, Any]]:
    try:
        yield from stream.skip(start)
    except Exception as error:  # of the network or of the data
        raise SourceError(f"Reading {root} stopped ({_short(error)}). Call again to continue. {OFFLINE}") from error


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error))[:200]}"
