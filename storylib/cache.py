"""Where the cache is, how large its parts are, how to clear it, and how its parts are checked.

python -m storylib.cache                      what is there
python -m storylib.cache --clear features     delete one part; whatever is missing is made again when needed
python -m storylib.cache --clear all

A finished folder of the cache is sealed: ``SHA256SUMS`` in it names every file with its SHA-256 (``sha256sum -c`` reads
it too), and is written before the folder gets its name. It is checked when the folder is opened, each file once per
process; a folder that is not what was sealed is made again. Single files carry their own digest, or have it as name.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import logging
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Any

from storylib.config import cache_dir, unknown

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"

PARTS = {
    "african_storybook": "stories and pictures of the African Storybook, unpacked",
    "downloads": "archives as they came; no longer needed once they are unpacked",
    "features": "what the frozen encoders made of each picture and text",
    "hugging_face": "pictures and texts of data sets from the hub or from Parquet",
    "picture-hashes": "perceptual hashes of pictures",
    "storyworld": "drawn pictures of Storyworld",
}


def seal(folder: Path) -> None:
    """Write the manifest of a folder whose files are all there; call it before the folder gets its final name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != SUMS]
    write_sums(folder / SUMS, {path.relative_to(folder).as_posix(): content_digest(path) for path in files})


def damage(folder: Path) -> str | None:
    """What is wrong with a sealed folder, one reason that names a file; None if it is as it was sealed."""
    try:
        sealed = read_sums(folder / SUMS)
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {SUMS}
        if not sealed:
            return f"{folder / SUMS} is missing: it was made by an older storylib or is half deleted"
        for name in sorted(sealed.keys() | there):
            if name not in sealed or name not in there:
                return f"{folder / name} is {'missing' if name in sealed else 'not in its manifest'}"
            if content_digest(folder / name) != sealed[name]:
                return f"{folder / name} is not what was written"
    except (OSError, ValueError) as error:
        return f"{folder} cannot be read ({error})"
    return None


def discard_damaged(folder: Path) -> None:
    """Delete a folder that is not whole and say so, to be called when it can be made again; or do nothing."""
    if folder.exists() and (reason := damage(folder)):
        log.warning("the cache is damaged, %s; it is made again", reason)
        shutil.rmtree(folder)


def write_checked(path: Path, value: Any) -> None:
    """A JSON value as a file that carries its own SHA-256, replaced in one step."""
    write_atomically(path, json.dumps({"sha256": _json_digest(value), "value": value}))


def read_checked(path: Path) -> Any:
    """What ``write_checked`` wrote; None if the file is not there or, with a warning, if it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["sha256"] == _json_digest(found["value"]):
            return found["value"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    log.warning("the cache is damaged, %s is not what was written; it is made again", path)
    return None


def _json_digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def content_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, read once per process unless its size or time of change differ. Raises OSError."""
    stat = os.stat(path)
    return _digest_of(os.fspath(path), stat.st_size, stat.st_mtime_ns)


@functools.cache
def _digest_of(path: str, size: int, changed: int) -> str:
    return file_sha256(Path(path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        sha = hashlib.sha256()
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def read_sums(path: Path) -> dict[str, str]:
    """A file in the format of sha256sum: name to SHA-256; empty if it is not there."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    return {name: digest for digest, _, name in (line.partition("  ") for line in text.split("\n") if line)}


def write_sums(path: Path, sums: dict[str, str]) -> None:
    """The same, written in one step."""
    text = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    write_atomically(path, text.encode("utf-8", errors="surrogateescape"))  # names need not be UTF-8


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that a killed process or a full disk never leaves half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def cache_sizes() -> dict[str, int]:
    """Bytes of each part of the cache, the largest first; files of an older storylib count under their own name."""
    sizes: dict[str, int] = {}
    for path in cache_dir().iterdir() if cache_dir().is_dir() else ():
        files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        size = sum(f.lstat().st_size for f in files if f.is_file() and not f.is_symlink())
        sizes[_part(path)] = sizes.get(_part(path), 0) + size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def clear_cache(part: str) -> int:
    """Delete one part of the cache, or "all"; returns the bytes that became free. Links are not followed."""
    sizes = cache_sizes()
    if part != "all" and part not in sizes:
        raise ValueError(unknown("part of the cache", part, [*sizes, "all"]))
    for path in list(cache_dir().iterdir()) if sizes else ():
        if part in ("all", _part(path)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return sum(sizes.values()) if part == "all" else sizes[part]


def _part(path: Path) -> str:
    return "picture-hashes" if path.name.startswith("picture-hashes") else path.name


def describe_cache() -> str:
    """A few lines: the place, each part with its size and what it is, and how to clear or move it."""
    sizes = cache_sizes()
    lines = [f"{cache_dir()}: {_megabytes(sum(sizes.values()))}"]
    lines += [f"  {_megabytes(size):>10}  {name:<18} {PARTS.get(name, '')}".rstrip() for name, size in sizes.items()]
    lines.append("Clear a part: python -m storylib.cache --clear NAME. Another place: set STORYLIB_CACHE.")
    return "\n".join(lines)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m storylib.cache", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clear", metavar="NAME", help="delete this part, or 'all'")
    options = parser.parse_args(arguments)
    if options.clear:
        try:
            print(f"{_megabytes(clear_cache(options.clear))} deleted")
        except (ValueError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    else:
        print(describe_cache())
    return 0


if __name__ == "__main__":
    sys.exit(main())
