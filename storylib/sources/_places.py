"""Where a source made of public repositories lies: in a folder of the user, beside the project, or in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from storylib.config import environment_folder, project_root
from storylib.data.download import WrongFileError, github_archive
from storylib.data.store import cache_entry, file_sha256, read_sums
from storylib.sources._checks import SourceError


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


def find_root(source: str, download: Callable[[], Path]) -> Path:
    """The folder in STORYLIB_<SOURCE>, else ../shared/data/<source> beside the project, else that of a download."""
    if folder := environment_folder(_variable(source)):
        return folder
    beside = project_root().parent / "shared" / "data" / source
    return beside if beside.is_dir() else download()


def download_archives(source: str, archives: Sequence[Archive]) -> Path:
    """A folder of the cache with one folder for each archive; what is missing is downloaded. Raises StoreError."""
    key = [[archive.repository, archive.commit, archive.members] for archive in archives]
    root = cache_entry(source, "unpacked", key, "data.download")
    offline = (
        f"Without network, copy {', '.join(archive.name for archive in archives)} into one folder "
        f"and set {_variable(source)} to it, or use the source 'storyworld', which needs no download."
    )
    for archive in archives:
        place = root / archive.name
        github_archive(archive.repository, archive.commit, place, archive.members, offline, archive.check)
    return root


def wrong_layout(source: str, problem: str, expected: str) -> SourceError:
    """The error for a root without the layout of a source. problem, expected: "... does not exist", "a/NN.jpg"."""
    return SourceError(
        f"{problem}. Expected {expected}. Set {_variable(source)} to a folder with that, or unset it "
        "for the copy beside the project or a download."
    )


def _variable(source: str) -> str:
    return f"STORYLIB_{source.upper()}"
