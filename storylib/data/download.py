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
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from storylib.config import cache_dir
from storylib.data.store import StoreError, file_sha256, make_sealed, read_sums

GITHUB = "https://github.com"
ATTEMPTS = 5  # with pauses of 0.5, 1, 2 and 4 seconds


class WrongFileError(StoreError):
    """A file that was downloaded but is not the expected one."""


@dataclass(frozen=True)
class Archive:
    """The files of one commit of a GitHub repository that a source needs."""

    repository: str  # owner/name
    commit: str  # 40 hexadecimal digits
    members: str  # regular expression for the whole paths of these files
    digests: Path | None = None  # of some of them, in the format of sha256sum

    @property
    def name(self) -> str:
        """The folder of these files, below the root of the source."""
        return self.repository.partition("/")[2]

    def check(self, folder: Path) -> None:
        """Raise WrongFileError for a file of the folder that differs from its digest, or is missing."""
        for name, sha256 in read_sums(self.digests).items() if self.digests else ():
            if not (folder / name).is_file() or file_sha256(folder / name) != sha256:
                raise WrongFileError(f"{name} differs from the pinned file or is missing.")


def github_archive(archive: Archive, folder: Path, offline: str) -> None:
    """Fill a folder with the files of an archive, unless it is there and whole. Raises StoreError.

    offline: what an error message says to do without network.
    """
    url = f"{GITHUB}/{archive.repository}/archive/{archive.commit}.tar.gz"
    packed = cache_dir("downloads", f"{archive.repository.replace('/', '-')}-{archive.commit[:12]}.tar.gz")

    def make(partial: Path) -> None:
        fetch(url, packed, offline)
        try:
            unpack(packed, partial, archive.members, archive.commit)
            archive.check(partial)
        except WrongFileError as error:
            packed.unlink()
            raise WrongFileError(f"{url}: {error} It was deleted; try again later. {offline}") from error

    make_sealed(folder, make)


def fetch(url: str, path: Path, offline: str) -> str:
    """The final address of a file, downloaded unless it is there, and resumed if interrupted. Raises StoreError."""
    if path.exists():
        return url
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    attempt = 0
    while True:
        attempt += 1
        try:
            address = _receive(url, partial, path.name)
            os.replace(partial, path)
            return address
        except requests.RequestException as error:
            refused = error.response is not None and error.response.status_code in (401, 403, 404, 410)
            if refused or attempt == ATTEMPTS:
                raise StoreError(f"{url} cannot be downloaded ({error}). {offline}") from error
            time.sleep(2 ** (attempt - 2))


def _receive(url: str, partial: Path, title: str) -> str:
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
        return response.url


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
