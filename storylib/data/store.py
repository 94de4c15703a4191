"""The cache on disk: where an entry lies, how it is written and checked, and how large it is.

The path of an entry is a hash of everything that its content depends on: inputs, weights and code (``cache_entry``).
A finished folder is sealed by a list of its files for ``sha256sum``. It is checked against this list when it is opened,
each file once per process, and made again if it differs.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from storylib.config import cache_dir, digest, runs_dir
from storylib.data.code import code_fingerprint

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"


class StoreError(RuntimeError):
    """A file that could not be stored or obtained; the message says what to do."""


def cache_entry(part: str, name: str, key: Any, *modules: str) -> Path:
    """Path of a cache entry: a folder of the cache, a readable name, and a digest of all that its content depends on.

    key: a JSON value that identifies inputs and weights. modules: the code that makes it, as for ``code_fingerprint``.
    """
    return cache_dir(part, f"{name}-{digest([key, code_fingerprint(*modules)])}")


def make_sealed(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a sealed folder unless it exists and is whole; of several processes, one makes it. Raises StoreError.

    make: fills the empty folder that it is called with. The old folder is kept until the new one is complete.
    """
    if find_damage(folder) is None:
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{folder.name}.lock")):
            _make(folder, make)
    except OSError as error:
        raise _unwritable(folder, "STORYLIB_CACHE", error) from error


def check_writable() -> None:
    """Raise StoreError before any work if the cache or the runs cannot be written."""
    for variable, folder in (("STORYLIB_CACHE", cache_dir()), ("STORYLIB_RUNS", runs_dir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b" " * 4096)
        except OSError as error:
            raise _unwritable(folder, variable, error) from error


def _unwritable(folder: Path, variable: str, error: OSError) -> StoreError:
    if error.errno == errno.ENOSPC:
        return StoreError(
            f"The disk of {folder} is full. Free some space, or set {variable} to a folder on a larger disk; what was "
            "written so far is kept."
        )
    return StoreError(
        f"{folder} cannot be written ({error.strerror or error}). Give yourself permission (chmod u+w), or set "
        f"{variable} to a folder that you may write to."
    )


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    reason = find_damage(folder)
    if reason is None:  # another process has made it meanwhile
        return
    if folder.exists():
        log.warning("the cache is damaged, %s; it is made again", reason)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        make(partial)
        lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(_file_digests(partial).items())]
        (partial / SUMS).write_text("".join(lines), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; a killed process or a full disk never leaves half of it."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    replace_atomically(path, lambda partial: partial.write_bytes(data))


def replace_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """The same for any writer: ``write`` gets the path of a partial file, which then replaces ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())  # so that the content survives a power cut
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def describe_cache() -> str:
    """The folder, and the size of each part, largest first."""
    sizes = {}
    for folder in filter(Path.is_dir, cache_dir().glob("*")):
        sizes[folder.name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    parts = [f"  {size / 1e6:>10,.1f} MB  {name}" for name, size in sorted(sizes.items(), key=lambda item: -item[1])]
    hint = "Delete what you do not need. Another place: set STORYLIB_CACHE."
    return "\n".join([f"{cache_dir()}:", *parts, hint])
