"""Downloads that survive a cut-off, a full disk and a wrong file: resumed, checked, unpacked in one step."""

from __future__ import annotations

import contextlib
import errno
import gzip
import logging
import os
import re
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path, PurePosixPath
from typing import IO

import requests
from filelock import FileLock
from tqdm import tqdm

from storylib.cache import SUMS, damage, discard_damaged, file_sha256, read_sums, seal, write_sums
from storylib.config import cache_dir

log = logging.getLogger(__name__)

GITHUB = "https://github.com"
DELETED = "It was deleted; try again later."


class DownloadError(RuntimeError):
    """A file that could not be had; the message names the way out."""


class WrongFileError(DownloadError):
    """A file that came, but is not the one that was wanted."""


def github_archive(
    repository: str,
    commit: str,
    folder: Path,
    members: str = ".*",
    sha256: str | None = None,
    check: Callable[[Path], None] | None = None,
    otherwise: str = "",
    base: str = GITHUB,
) -> Path:
    """A folder with the chosen files of one commit of a GitHub repository, downloaded unless it is there and whole.

    GitHub does not promise that the bytes of an archive stay the same, so what is checked is the commit id that git
    writes into it, ``sha256`` if it is known, and whatever ``check`` (called with the unpacked folder) looks at.
    otherwise: a sentence for the error when there is no network. base: where GitHub, or a mirror of it, is.
    """
    if damage(folder) is None:
        return folder
    url = f"{base}/{repository}/archive/{commit}.tar.gz"
    archive = cache_dir("downloads", f"{repository.replace('/', '-')}-{commit[:12]}.tar.gz")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # a second process waits, and then finds the folder
        if (reason := damage(folder)) is None:
            return folder
        fetch(url, archive, sha256, f"{f'The copy in the cache is damaged: {reason}. ' * folder.exists()}{otherwise}")
        discard_damaged(folder)
        try:
            return unpack(archive, folder, members, commit, check)
        except WrongFileError as error:
            archive.unlink(missing_ok=True)  # so that the next call downloads it anew
            raise WrongFileError(f"{url}: {error} {DELETED} {otherwise}".strip()) from error


def fetch(url: str, path: Path, sha256: str | None = None, otherwise: str = "", wait: float = 0.5) -> Path:
    """Download a file with a progress bar. What was received before a cut-off is kept in ``<path>.partial``.

    Tries again up to three times in a row without progress, after ``wait``, 2 ``wait``, 4 ``wait`` seconds. The
    SHA-256 is compared with ``sha256``, or else with the one recorded beside the file when it was first seen.
    """
    if path.exists():
        got, expected = file_sha256(path), sha256 or _recorded(path)
        if got == (expected or got):  # without a record, somebody has put the file there by hand
            _record(path, got)
            return path
        log.warning("%s has SHA-256 %s, expected %s: downloading it again", path, got, expected)
    partial = path.with_name(path.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    failures, furthest = 0, 0
    while True:
        try:
            _receive(url, partial, path.name)
            break
        except requests.RequestException as error:
            answer = error.response
            if answer is not None and 400 <= answer.status_code < 500 and answer.status_code != 429:
                told = f"{url} answers {answer.status_code} ({answer.reason})."
                raise DownloadError(f"{told} {otherwise}".strip()) from error
            size = partial.stat().st_size if partial.exists() else 0
            failures, furthest = (0, size) if size > furthest else (failures + 1, furthest)
            if failures > 3:
                raise DownloadError(f"{url} cannot be reached ({_short(error)}). {otherwise}".strip()) from error
            time.sleep(wait * 2 ** max(0, failures - 1))
        except OSError as error:
            raise disk_error(error, path) from error
    got = file_sha256(partial)
    if sha256 is not None and got != sha256:
        partial.unlink()
        raise WrongFileError(f"{url}: expected SHA-256 {sha256}, got {got}. {DELETED}")
    _record(path, got)
    os.replace(partial, path)
    return path


def _receive(url: str, partial: Path, title: str) -> None:
    """Append what is missing to the partial file; a server that cannot resume sends all of it again."""
    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == 416:  # nothing is left to send; or the partial file is of something else
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return
            partial.unlink()
            raise requests.ConnectionError("the partial file did not fit and was deleted")
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-") and response.status_code == 206
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=title) as bar,
        ):
            for chunk in response.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
    size = partial.stat().st_size
    if total is not None and size != total:
        raise requests.ConnectionError(f"cut off after {size} of {total} bytes")


def unpack(
    archive: Path,
    folder: Path,
    members: str = ".*",
    commit: str | None = None,
    check: Callable[[Path], None] | None = None,
    limit: int = 8 << 30,
) -> Path:
    """Unpack the files of a .tar.gz or .zip whose path below the top folder matches ``members`` as a whole.

    The folder appears in one step when all is there and ``check`` is content; a killed call goes on where it stopped.
    Refused: absolute paths, "..", links among the members, another ``commit`` than wanted, more than ``limit`` bytes.
    """
    partial = folder.with_name(folder.name + ".partial")
    seen = 0
    try:
        with contextlib.closing(_members(archive, commit)) as files:
            for name, size, file in tqdm(files, desc=f"unpack {archive.name}", unit="file"):
                if name.startswith("/") or ".." in PurePosixPath(name).parts or re.search(r"[\\\x00-\x1f]", name):
                    raise WrongFileError(f"{archive.name} holds the unsafe path {name!r}.")
                inside = name.partition("/")[2]
                if not inside or not re.fullmatch(members, inside):
                    continue
                if file is None:
                    raise WrongFileError(f"{archive.name} holds {name!r}, which is not a plain file.")
                seen += size
                if seen > limit:
                    raise WrongFileError(f"{archive.name} unpacks to more than {limit} bytes.")
                target = partial / inside
                if target.exists() and target.stat().st_size == size:
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as out:
                    shutil.copyfileobj(file, out)
        if not seen:
            raise WrongFileError(f"{archive.name} holds none of the files that were expected.")
        if check is not None:
            check(partial)
        seal(partial)
        os.replace(partial, folder)
    except WrongFileError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise WrongFileError(f"{archive.name} is damaged or no archive ({error}).") from error
    except OSError as error:
        raise disk_error(error, folder) from error
    return folder


def _members(archive: Path, commit: str | None) -> Generator[tuple[str, int, IO[bytes] | None], None, None]:
    """Name, size in bytes and content of every file; None for the content of a link or a device."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            _check_commit(archive, zipped.comment.decode(errors="replace"), commit)
            for entry in zipped.infolist():
                if not entry.is_dir():
                    link = (entry.external_attr >> 16) & 0o170000 == 0o120000
                    with zipped.open(entry) as file:
                        yield entry.filename, entry.file_size, None if link else file
        return
    # A stream: one pass, nothing kept. tarfile alone would take a cut-off between two files for the end.
    with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
        first = True
        for member in tar:
            if first:
                _check_commit(archive, tar.pax_headers.get("comment", ""), commit)
                first = False
            if not member.isdir():
                yield member.name, member.size, tar.extractfile(member) if member.isreg() else None
        while unzipped.read(1 << 20):  # to the checksum at the very end
            pass


def _check_commit(archive: Path, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise WrongFileError(f"{archive.name} holds commit {found or 'unknown'}, expected {wanted}.")


def _recorded(path: Path) -> str | None:
    return read_sums(path.with_name(SUMS)).get(path.name)


def _record(path: Path, digest: str) -> None:
    write_sums(path.with_name(SUMS), read_sums(path.with_name(SUMS)) | {path.name: digest})


def reserve(path: Path) -> None:
    """Claim all bytes of a file that will be memory-mapped, so that a full disk is an error now, naming the way out.

    Otherwise the file is full of holes, and writing into one on a full disk kills the process without a word (SIGBUS).
    """
    try:
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: OSError, path: Path) -> DownloadError:
    """What to say when ``path`` could not be written."""
    if error.errno == errno.ENOSPC:
        return DownloadError(
            f"The disk of {path.parent} is full. Free some space, or set STORYLIB_CACHE to a folder on a larger disk; "
            "what is there so far is kept."
        )
    return DownloadError(f"{path} cannot be written ({error.strerror or error}).")


def _short(error: BaseException) -> str:
    """The innermost cause: urllib3 wraps "Connection refused" four times."""
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return re.sub(r"^.*?: ", "", str(reason)) if reason is not None else str(error)
