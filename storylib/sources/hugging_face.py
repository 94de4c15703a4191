"""Any Hugging Face data set with one story a row: a column of picture sequences and a column of text sequences.

    load_stories("hugging_face:owner/name?images=pictures&texts=captions")    from the hub
    load_stories("hugging_face:path/to/folder?texts=captions")                train-*.parquet, test-*.parquet on disk

Rows are read once, as a stream, into a store in the cache, from which every later call reads; a killed call goes on
where it stopped. The store: pictures named by their SHA-256, and shards of a few rows of text, named by theirs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from storylib.cache import read_checked, write_atomically, write_checked
from storylib.config import cache_dir, digest, unknown
from storylib.download import disk_error
from storylib.pictures import PictureError, picture_digest
from storylib.sources import SourceError, leave_out, one_line
from storylib.stories import Frame, Story

log = logging.getLogger(__name__)

FORMAT = 1  # of the store; another version of storylib never reads what this one wrote, should it change
SHARD = 32  # rows of a shard; what a killed call has to read again
HELD_OUT = 0.15  # share of a limited number of stories that each official held-out part gets
ENDINGS = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"RI": ".webp"}  # by how a file begins
OFFICIAL = {"test": "test", "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Row:
    """One row of a data set; a picture that was missing or not embedded is None."""

    split: str  # as the data set calls it
    number: int  # within the split, from 0
    values: dict[str, Any]
    pictures: list[Path | None]


def load(
    limit: int | None = None,
    root: str | os.PathLike | None = None,
    images: str = "images",
    texts: str = "texts",
    id: str | None = None,
    title: str | None = None,
    licence: str = "",
    credit: str = "",
    revision: str | None = None,
    streaming: bool | str = True,
    strict: bool = False,
) -> list[Story]:
    """One story a row, in the data set's order; its own test and validation parts stay what they are.

    root: a repository of the hub, or a folder of Parquet files. images, texts: columns of sequences, the n-th picture
    belongs to the n-th text. id, title: columns of text. licence, credit: what the data set's card says.
    limit, revision, streaming: see ``rows``. strict: sequences of unequal length are an error, and not cut.
    """
    if root is None:
        raise SourceError(
            "Which data set? Say load_stories('hugging_face:<owner>/<name>'), or give a folder of Parquet."
        )
    keep = [column for column in (texts, id, title) if column]
    stories = []
    for row in rows(root, keep, images, limit, revision, streaming):
        name = str(row.values[id]) if id else f"{row.split}-{row.number:05d}"
        captions = row.values[texts]
        if not isinstance(captions, list):
            kind = type(captions).__name__
            raise SourceError(f"{root}: the column {texts!r} holds {kind}, not sequences of texts; name another one.")
        if len(captions) != len(row.pictures):
            told = f"{len(row.pictures)} pictures but {len(captions)} texts"
            leave_out(f"{root}, {row.split} row {row.number}: what goes beyond, of {told}; mend the row.", strict)
        frames = frames_of(row, [one_line(str(text or "")) for text in captions], strict)
        if frames:
            heading = one_line(str(row.values[title])) if title else name
            stories.append(Story(name, heading, frames, licence, credit, split=OFFICIAL.get(row.split, "train")))
    return stories


def frames_of(
    row: Row, texts: Sequence[str], strict: bool, attributes: Sequence[dict[str, Any] | None] | None = None
) -> tuple[Frame, ...]:
    """Frames of a row; a page that lacks picture or text stays out, and no window crosses the gap."""
    frames = []
    for page, (picture, text) in enumerate(zip(row.pictures, texts, strict=False), 1):
        if picture is None:
            leave_out(f"{row.split} row {row.number}, picture {page}: the data set does not hold its bytes.", strict)
        elif text:
            frames.append(Frame(picture, text, page, attributes[page - 1] if attributes else None))
    return tuple(frames)


def rows(
    root: str | os.PathLike,
    keep: Sequence[str],
    images: str = "images",
    limit: int | None = None,
    revision: str | None = None,
    streaming: bool | str = True,
) -> Iterator[Row]:
    """Every row, training part first; memory holds one shard, however many there are.

    root: a repository of the hub, or a folder of Parquet files. keep: columns besides the ``images``.
    limit: at most this many rows, 15 % of them from each official held-out part. revision: of the repository.
    streaming: read the hub as a stream; otherwise ``datasets`` downloads everything into its own cache first.
    """
    files = parquet_files(Path(root).expanduser()) if _is_path(root) else None
    if files is None:
        source: Any = ["hub", str(root), revision]
    else:
        source = [
            [split, [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in ps]] for split, ps in files.items()
        ]
    store = cache_dir("hugging_face", f"{Path(root).name}-{digest([FORMAT, source, images, sorted(keep)])}")

    def dataset() -> dict[str, Any]:
        wanted = [*keep, images]
        return _open(files, wanted, images) if files else _from_hub(str(root), revision, streaming, wanted, images)

    try:
        yield from _stored(store, dataset, images, limit)
    except OSError as error:
        raise disk_error(error, store / "pictures") from error


def _stored(store: Path, dataset: Any, images: str, limit: int | None) -> Iterator[Row]:
    opened: dict[str, Any] = {}
    names = store / "splits.json"
    splits = read_checked(names)
    if splits is None:
        opened = dataset()
        splits = list(opened)
        write_checked(names, splits)
    held_out = [split for split in splits if split in OFFICIAL]
    for split in sorted(splits, key=lambda name: name in OFFICIAL):
        share = HELD_OUT if split in OFFICIAL else 1 - HELD_OUT * len(held_out)
        wanted = None if limit is None else round(limit * share) if held_out else limit
        have = 0
        while (wanted is None or have < wanted) and (shard := _read_shard(store, split, have)):
            yield from islice(shard, None if wanted is None else wanted - have)
            have += len(shard)
        done = store / f"{split}.done"
        if (wanted is not None and have >= wanted) or read_checked(done) == have:
            continue
        opened = opened or dataset()
        stream = _told(iter(opened[split].skip(have)), store.name)
        with tqdm(desc=f"read {split}", unit="story", initial=have) as bar:
            while wanted is None or have < wanted:
                fresh = [_store_row(store, split, have + i, row, images) for i, row in enumerate(islice(stream, SHARD))]
                if fresh:
                    _write_shard(store, split, have, fresh)
                yield from fresh[: None if wanted is None else wanted - have]
                have += len(fresh)
                bar.update(len(fresh))
                if len(fresh) < SHARD:
                    write_checked(done, have)
                    break


def _told(stream: Iterator[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    """The same rows, with one clear error when the source dries up."""
    try:
        yield from stream
    except Exception as error:  # the network went away, a file is damaged inside
        raise SourceError(
            f"Reading {name} stopped ({_short(error)}). Call again to go on; if it happens again at a local file, "
            "copy or download that file again."
        ) from error


def _store_row(store: Path, split: str, number: int, row: dict[str, Any], images: str) -> Row:
    pictures: list[Path | None] = []
    for item in row.pop(images) or []:
        content = item.get("bytes") if isinstance(item, dict) else None
        if not content:  # only what is embedded: a path in a stranger's file could point at anything
            pictures.append(None)
            continue
        name = hashlib.sha256(content).hexdigest()[:32] + ENDINGS.get(content[:2], ".bin")
        path = store / "pictures" / name
        if not path.exists():
            write_atomically(path, content)
        pictures.append(path)
    values = json.loads(json.dumps(row, default=str))  # as the store will give it back
    return Row(split, number, values, pictures)


def _write_shard(store: Path, split: str, start: int, fresh: Sequence[Row]) -> None:
    content = "".join(
        json.dumps([r.values, [p.name if p else None for p in r.pictures]]) + "\n" for r in fresh
    ).encode()
    write_atomically(store / f"{split}-{start:06d}.{hashlib.sha256(content).hexdigest()[:16]}.jsonl", content)


def _read_shard(store: Path, split: str, start: int) -> list[Row]:
    """The rows from ``start`` on, none if the shard or a picture of it is not there or is not what was written."""
    for path in store.glob(f"{split}-{start:06d}.*.jsonl"):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.name.split(".")[1]:
            log.warning("%s is damaged; it is read again from the data set", path)
            path.unlink(missing_ok=True)
            continue
        found = []
        for i, (values, names) in enumerate(map(json.loads, content.decode().splitlines())):
            found.append(Row(split, start + i, values, [store / "pictures" / name if name else None for name in names]))
        bad = [p for row in found for p in row.pictures if p and not _is_whole(p)]
        for picture in bad:
            log.warning("%s is damaged or missing; it is read again from the data set", picture)
            picture.unlink(missing_ok=True)
        if not bad:
            return found
    return []


def _is_whole(picture: Path) -> bool:
    try:
        return picture_digest(picture) == picture.stem  # read once: its digest is needed for the fingerprint anyway
    except PictureError:
        return False


def _is_path(root: str | os.PathLike) -> bool:
    """A repository of the hub is "owner/name"; everything else, and what is there, is a folder."""
    return Path(root).expanduser().exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(root)) or str(root)[0] == "."


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files in a folder or its folder "data", by split; a file whose name says none is training data."""
    found = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    if not found:
        raise SourceError(f"{folder} holds no Parquet file; expected train-*.parquet and test-*.parquet in it.")
    splits: dict[str, list[Path]] = {}
    for path in found:
        named = re.search(r"(?:^|[-_.])(train|test|validation|valid|val|dev)(?=[-_.])", path.name)
        splits.setdefault(named[1] if named else "train", []).append(path)
    return splits


def _open(files: dict[str, list[Path]], wanted: Sequence[str], images: str) -> dict[str, Any]:
    """Streams of local files, by split. Looks at every footer first, since ``datasets`` would not name the file."""
    import pyarrow.parquet as pq

    for path in (p for ps in files.values() for p in ps):
        try:
            columns = pq.read_schema(path).names
        except Exception as error:  # cut off, empty, not Parquet, not readable
            raise SourceError(f"{path} cannot be read as Parquet ({error}): copy or download it again.") from error
        _check_columns(str(path), wanted, columns)
    from datasets import load_dataset

    named = {split: [str(path) for path in paths] for split, paths in files.items()}
    return _streams(load_dataset("parquet", data_files=named, streaming=True), wanted, images)


def _from_hub(
    repository: str, revision: str | None, streaming: bool | str, wanted: Sequence[str], images: str
) -> dict[str, Any]:
    import datasets

    stream = str(streaming).lower() not in ("false", "0", "no")
    try:
        found = datasets.load_dataset(repository, revision=revision, streaming=stream)
    except Exception as error:  # no network, no such repository, a proxy's web page, a full disk ...
        raise unreachable(repository, error) from error
    for dataset in found.values():
        _check_columns(repository, wanted, dataset.column_names or wanted)
    return _streams(found, wanted, images)


def _streams(found: Any, wanted: Sequence[str], images: str) -> dict[str, Any]:
    """Only the wanted columns, and pictures as the bytes that they are stored as."""
    from datasets import Image
    from datasets import Sequence as Many

    return {
        str(split): dataset.select_columns(list(wanted)).cast_column(images, Many(Image(decode=False)))
        for split, dataset in found.items()
    }


def _check_columns(where: str, wanted: Sequence[str], columns: Sequence[str]) -> None:
    for name in wanted:
        if name not in columns:
            raise SourceError(f"{where}: {unknown('column', name, columns)}")


def unreachable(repository: str, error: Exception) -> SourceError:
    """One sentence for whatever stands between us and the hub, and one for the way round it."""
    return SourceError(
        f"The data set {repository} could not be read from the Hugging Face hub ({_short(error)}). Without network, "
        "put its Parquet files (train-*.parquet, test-*.parquet) into a folder and name that folder instead of the "
        "repository, or use the source 'storyworld', which needs no download."
    )


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(str(error))[:200]}"
