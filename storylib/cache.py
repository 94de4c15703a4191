"""Where the cache is, how large its parts are, and how to clear it.

python -m storylib.cache                      what is there
python -m storylib.cache --clear features     delete one part; whatever is missing is made again when needed
python -m storylib.cache --clear all
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from storylib.config import cache_dir, unknown

PARTS = {
    "african_storybook": "stories and pictures of the African Storybook, unpacked",
    "downloads": "archives as they came; no longer needed once they are unpacked",
    "features": "what the frozen encoders made of each picture and text",
    "hugging_face": "pictures and texts of data sets from the hub or from Parquet",
    "picture-hashes": "perceptual hashes of pictures",
    "storyworld": "drawn pictures of Storyworld",
}


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
