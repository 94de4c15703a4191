"""The cache on disk: where an entry lies, how it is written and checked, how large it is and how to clear it.

The path of an entry is a hash of everything that its content depends on: inputs, weights and code (``cache_entry``).
A finished folder is sealed: its ``SHA256SUMS`` lists every file with its SHA-256, in the format of ``sha256sum``, and
is written before the folder gets its final name. A folder is checked when it is opened, each file once per process,
and made again if it differs from its manifest.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from storylib.config import ConfigError, cache_dir, digest, unknown
from storylib.data.code import code_fingerprint

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"


class StoreError(RuntimeError):
    """A file that could not be stored or obtained; the message says what to do."""


def cache_entry(part: str, name: str, key: Any, *modules: str) -> Path:
    """Path of a cache entry, which changes with everything that its content depends on.

    part: folder of the cache. name: a readable start of the entry's name. key: a JSON value that identifies inputs and
    weights. modules: the code that makes the content, as for ``code_fingerprint``.
    """
    return cache_dir(part, f"{name}-{digest([key, code_fingerprint(*modules)])}")


# Sealed folders


def make_sealed(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a sealed folder unless it exists and is whole; of several processes, one makes it.

    make: fills the empty folder that it is called with. The old folder is kept until the new one is complete. Raises
    StoreError if the cache cannot be written.
    """
    if find_damage(folder) is None:
        return
    with locked(folder):
        reason = find_damage(folder)
        if reason is None:  # another process has made it meanwhile
            return
        _warn_if_damaged(folder, reason)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir()
            make(partial)
            seal(partial)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def seal(folder: Path) -> None:
    """Write the manifest of a folder whose files are complete; call it before the folder gets its final name."""
    lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(_file_digests(folder).items())]
    write_atomically(folder / SUMS, "".join(lines))


def find_damage(folder: Path) -> str | None:
    """The first difference between a folder and its manifest, as a reason that names a file; None if it is whole."""
    try:
        sealed, actual = read_sums(folder / SUMS), _file_digests(folder)
    except (OSError, ValueError) as error:
        return f"{folder} cannot be read ({error})"
    if not sealed:
        return f"{folder / SUMS} is missing or empty"
    for name in sorted(sealed.keys() | actual.keys()):
        if sealed.get(name) != actual.get(name):
            return f"{folder / name} is not what was written"
    return None


def _file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 by relative path, of all files but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def discard_damaged(folder: Path) -> None:
    """Delete a folder that is not whole, with a warning. Call it only when the folder can be made again."""
    reason = find_damage(folder)
    if reason:
        _warn_if_damaged(folder, reason)
        shutil.rmtree(folder, ignore_errors=True)


def _warn_if_damaged(folder: Path, reason: str) -> None:
    if folder.exists():
        log.warning("the cache is damaged, %s; it is made again", reason)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, computed once per process unless its size or modification time changes. Raises OSError."""
    stat = path.stat()
    return _sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: Path, size: int, modified: int) -> str:
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def read_sums(path: Path) -> dict[str, str]:
    """SHA-256 by file name, from a file in the format of sha256sum; empty if there is no such file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: sha256 for sha256, _, name in lines}


# Single files


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; a killed process or a full disk never leaves half of it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    replace_atomically(path, lambda partial: partial.write_bytes(data))


def replace_atomically(path: Path, write: Callable[[Path], Any], sync: bool = False) -> None:
    """The same for any writer: ``write`` gets the path of a partial file, which then replaces ``path``.

    sync: wait until the content is on the disk, so that it survives a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write(partial)
        if sync:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a cache folder while it is made. Raises StoreError if the cache cannot be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            yield
    except OSError as error:
        raise write_error(error, folder) from error


def write_error(error: OSError, path: Path) -> StoreError:
    """The error to raise when ``path`` could not be written."""
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"The disk of {path.parent} is full. Free some space, or set STORYLIB_CACHE to a folder on a larger disk; "
            "what was written so far is kept."
        )
    return StoreError(
        f"{path} cannot be written ({error.strerror or error}). Give yourself permission (chmod u+w), or set "
        "STORYLIB_CACHE to a folder that you may write to."
    )


# The cache as a whole


def cache_sizes() -> dict[str, int]:
    """Bytes of each folder of the cache, largest first."""
    sizes = {}
    for folder in filter(Path.is_dir, cache_dir().glob("*")):
        sizes[folder.name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def clear_cache(part: str) -> int:
    """Delete one part of the cache, or "all", and return the bytes freed. Raises ConfigError for an unknown part."""
    sizes = cache_sizes()
    if part not in [*sizes, "all"]:
        raise ConfigError(unknown("part of the cache", part, [*sizes, "all"]))
    chosen = sizes if part == "all" else [part]
    for name in chosen:
        shutil.rmtree(cache_dir(name))
    return sum(sizes[name] for name in chosen)


def describe_cache() -> str:
    """The folder, the size of each part, and how to clear or move the cache."""
    parts = [f"  {size / 1e6:>10,.1f} MB  {name}" for name, size in cache_sizes().items()]
    hint = "Clear a part: storylib cache --clear NAME. Another place: set STORYLIB_CACHE."
    return "\n".join([f"{cache_dir()}:", *parts, hint])
