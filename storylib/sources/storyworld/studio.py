"""Draws the pictures of a world to files: once, with all processors, and on from where it was stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from storylib.config import cache_dir
from storylib.sources.storyworld import drawing
from storylib.sources.storyworld.tales import Tale, tell
from storylib.sources.storyworld.world import Settings

SMALL = 200  # pictures that are drawn before a second process would have started


def pictures(tales: Sequence[Tale], settings: Settings, size: int) -> list[list[Path]]:
    """A picture file for every scene of every tale; the missing ones are drawn."""
    folder = _folder(settings, size)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [[folder / _name(t.number, s.page) for s in t.scenes] for t in tales]
    there = set(os.listdir(folder))
    missing = [t for t, files in zip(tales, paths, strict=True) if any(p.name not in there for p in files)]
    if missing:
        count = sum(p.name not in there for files in paths for p in files)
        with tqdm(total=count, desc="draw Storyworld", unit="picture") as bar:
            if count > SMALL and (os.cpu_count() or 1) > 1:
                _draw_in_processes(missing, settings, size, bar)
            # Whatever a process that failed has left over is drawn here, where an error can be seen.
            for tale in missing:
                bar.update(_draw(tale, settings, size))
    return paths


def _folder(settings: Settings, size: int) -> Path:
    """The name changes with every parameter and with the code, so that no picture outlives its drawing."""
    key = json.dumps([dataclasses.asdict(settings), size, drawing.version()], sort_keys=True)
    return cache_dir("storyworld", hashlib.sha256(key.encode()).hexdigest()[:12])


def _name(number: int, page: int) -> str:
    return f"{number:05d}-{page}.png"


def _draw(tale: Tale, settings: Settings, size: int) -> int:
    """Draw the missing pictures of a tale; a file appears only when it is whole. Returns how many were drawn."""
    drawn, folder = 0, _folder(settings, size)
    for scene in tale.scenes:
        path = folder / _name(tale.number, scene.page)
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.partial")
            drawing.render(scene, settings, size).save(partial, "PNG", compress_level=3)
            os.replace(partial, path)
            drawn += 1
    return drawn


def _draw_in_processes(tales: Sequence[Tale], settings: Settings, size: int, bar: tqdm) -> None:
    """Deal the tales out to fresh Python processes, which say a line for every tale they have drawn.

    Not ``multiprocessing``: its fresh processes run the caller's script again if that has no main guard, and its
    forks are unsafe once torch has started threads.
    """
    workers = min(os.cpu_count() or 1, 8)
    package_root = str(Path(__file__).parents[3])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")])),
        "STORYLIB_CACHE": str(cache_dir().absolute()),
    }
    reading, writing = os.pipe()
    processes = []
    for worker in range(workers):
        job = {
            "settings": dataclasses.asdict(settings),
            "size": size,
            "tales": [t.number for t in tales[worker::workers]],
        }
        process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import work; work()"],
            stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.DEVNULL, env=environment, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        processes.append(process)
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            for line in said:
                bar.update(int(line))
    finally:
        for process in processes:
            process.terminate()  # nothing to do for those that have finished
            process.wait()


def work() -> None:
    """What a process does: read a job, draw its tales, and say how many pictures each needed."""
    job = json.load(sys.stdin)
    settings = Settings(**job["settings"])
    for number in job["tales"]:
        # One write is never mixed with those of other processes; print may make two of it.
        os.write(1, b"%d\n" % _draw(tell(settings, number), settings, job["size"]))
