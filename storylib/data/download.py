"""Pinned archives of GitHub: downloads that resume, and unpacking that appears in one step.

Neither pooch nor huggingface_hub fits: pooch cannot resume and wants a fixed SHA-256, which GitHub does not promise for
its archives, and these repositories are not on the hub. What is checked instead is the commit id in the archive.
"""

from __future__ import annotations

import gzip
import os
import re
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import requests
from tqdm import tqdm

from storylib.config import cache_dir
from storylib.data.store import StoreError, make_sealed

GITHUB = "https://github.com"
ATTEMPTS = 5  # with pauses of 0.5, 1, 2 and 4 seconds


class WrongFileError(StoreError):
    """A file that was downloaded but is not the expected one."""


def github_archive(
    repository: str,
    commit: str,
    folder: Path,
    members: str,
    offline: str,
    check: Callable[[Path], None] = lambda _: None,
) -> None:
    """Fill a folder with some files of one commit of a GitHub repository, unless it is there and whole.

    members: regular expression for the paths of these files. check: called with the unpacked folder, may raise
    WrongFileError. offline: a sentence for the error message that says what to do without network.
    """
    url = f"{GITHUB}/{repository}/archive/{commit}.tar.gz"
    archive = cache_dir("downloads", f"{repository.replace('/', '-')}-{commit[:12]}.tar.gz")

    def make(partial: Path) -> None:
        fetch(url, archive, offline)
        try:
            unpack(archive, partial, members, commit)
            check(partial)
        except WrongFileError as error:
            archive.unlink()
            raise WrongFileError(f"{url}: {error} It was deleted; try again later. {offline}") from error

    make_sealed(folder, make)


def fetch(url: str, path: Path, offline: str) -> None:
    """Download a file unless it is there; an interrupted download is resumed. Raises StoreError."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _receive(url, partial, path.name)
            os.replace(partial, path)
            return
        except requests.RequestException as error:
            refused = error.response is not None and error.response.status_code in (401, 403, 404, 410)
            if refused or attempt == ATTEMPTS:
                raise StoreError(f"{url} cannot be downloaded ({error}). {offline}") from error
            time.sleep(2 ** (attempt - 2))


def _receive(url: str, partial: Path, title: str) -> None:
    """Append what is missing to the partial file; a server that cannot resume sends everything again."""
    size = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={size}-"} if size else {})
    with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as response:
        if response.status_code == 416:  # nothing is left to send, or the partial file belongs to another one
            partial.unlink()
        response.raise_for_status()
        resumed = response.status_code == 206
        size = size if resumed else 0
        length = response.headers.get("Content-Length")
        total = size + int(length) if length else None
        bar = tqdm(total=total, initial=size, unit="B", unit_scale=True, desc=title)
        with bar, partial.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_content(1 << 16):  # raises an exception if the answer is cut off
                bar.update(file.write(chunk))


def unpack(archive: Path, folder: Path, members: str, commit: str) -> None:
    """Unpack the files of a .tar.gz whose path below its top folder matches ``members``.

    Links are not unpacked. Raises WrongFileError for a damaged archive, another commit, and members outside the folder.
    """
    try:
        with gzip.open(archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
            actual = tar.pax_headers.get("comment", "unknown")  # written by git archive
            if actual != commit:
                raise WrongFileError(f"{archive.name} has commit {actual}, expected {commit}.")
            for member in tqdm(tar, desc=f"unpack {archive.name}", unit="file"):
                member.name = member.name.partition("/")[2]
                if member.isreg() and re.fullmatch(members, member.name):
                    tar.extract(member, folder, filter="data")
            while unzipped.read(1 << 20):  # to the checksum at the end: tarfile does not notice a cut between two files
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise WrongFileError(f"{archive.name} is damaged or not an archive ({error}).") from error
    if not any(folder.iterdir()):
        raise WrongFileError(f"{archive.name} has none of the expected files.")
