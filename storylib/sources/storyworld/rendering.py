"""Draws the pictures of a world to files: once, on all processors, continuing where an interrupted call stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from storylib.config import cache_dir
from storylib.data.store import cache_entry, find_damage, make_sealed
from storylib.sources.storyworld.drawing import render
from storylib.sources.storyworld.tales import Tale, make_tale
from storylib.sources.storyworld.world import Settings

FEW = 200  # pictures that one process draws before a second one would have started


def draw_pictures(tales: Sequence[Tale], settings: Settings, size: int) -> list[list[Path]]:
    """A picture file for every scene of every tale. Tales that are missing or damaged are drawn."""
    folder = _folder(settings, size)
    missing = [tale for tale in tales if find_damage(folder / _name(tale))]
    if missing:
        count = sum(len(tale.scenes) for tale in missing)
        with tqdm(total=count, desc="draw Storyworld", unit="picture") as progress:
            if count > FEW and (os.cpu_count() or 1) > 1:
                _draw_in_processes(missing, settings, size, progress)
            # Tales that a failed process left are drawn here, so that its error appears.
            for tale in missing:
                progress.update(_draw(tale, settings, size))
    return [[folder / _name(tale) / f"{scene.number}.png" for scene in tale.scenes] for tale in tales]


def _folder(settings: Settings, size: int) -> Path:
    """The cache entry of a world. It changes with every parameter and with the code that draws."""
    key = [dataclasses.asdict(settings), size]
    return cache_entry("storyworld", f"seed{settings.seed}", key, "sources.storyworld.drawing")


def _name(tale: Tale) -> str:
    return f"{tale.number:05d}"


def _draw(tale: Tale, settings: Settings, size: int) -> int:
    """Draw a tale unless it is there and whole. Returns the number of pictures drawn."""
    folder = _folder(settings, size) / _name(tale)
    if find_damage(folder) is None:
        return 0

    def make(partial: Path) -> None:
        for scene in tale.scenes:
            render(scene, settings, size).save(partial / f"{scene.number}.png", "PNG", compress_level=3)

    make_sealed(folder, make)
    return len(tale.scenes)


def _draw_in_processes(tales: Sequence[Tale], settings: Settings, size: int, progress: tqdm) -> None:
    """Distribute the tales over new Python processes, each of which prints a line per tale.

    Not with ``multiprocessing``: its new processes run the caller's script again unless that has a main guard, and its
    forks are unsafe once torch has started threads.
    """
    workers = min(os.cpu_count() or 1, 8)
    package_root = str(Path(__file__).parents[3])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")])),
        "STORYLIB_CACHE": str(cache_dir().absolute()),
    }
    read_end, write_end = os.pipe()
    processes = []
    for worker in range(workers):
        job = {
            "settings": dataclasses.asdict(settings),
            "size": size,
            "tales": [tale.number for tale in tales[worker::workers]],
        }
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import work; work()"],
            stdin=subprocess.PIPE, stdout=write_end, stderr=subprocess.DEVNULL, env=environment, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        processes.append(process)
    os.close(write_end)
    try:
        with os.fdopen(read_end) as lines:
            for line in lines:
                progress.update(int(line))
    finally:
        for process in processes:
            process.terminate()  # has no effect on a finished process
            process.wait()


def work() -> None:
    """The task of one process: read a job, draw its tales, and print the number of pictures of each."""
    job = json.load(sys.stdin)
    settings = Settings(**job["settings"])
    for number in job["tales"]:
        # Unlike print, one write is never mixed with the output of other processes.
        os.write(1, b"%d\n" % _draw(make_tale(settings, number), settings, job["size"]))
