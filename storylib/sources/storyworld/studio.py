"""Draws the pictures of a world to files: once, with all processors, and on from where it was stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from storylib.cache import damage, discard_damaged, seal
from storylib.config import cache_dir
from storylib.download import disk_error
from storylib.sources.storyworld import drawing
from storylib.sources.storyworld.tales import Tale, tell
from storylib.sources.storyworld.world import Settings

SMALL = 200  # pictures that are drawn before a second process would have started


def pictures(tales: Sequence[Tale], settings: Settings, size: int) -> list[list[Path]]:
    """A picture file for every scene of every tale; what is missing or damaged is drawn, a whole tale at a time."""
    folder = _folder(settings, size)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [t for t in tales if damage(folder / _name(t))]
    if missing:
        with FileLock(folder.with_suffix(".lock")):
            for tale in missing:
                discard_damaged(folder / _name(tale))
        count = sum(len(t.scenes) for t in missing)
        with tqdm(total=count, desc="draw Storyworld", unit="picture") as bar:
            if count > SMALL and (os.cpu_count() or 1) > 1:
                _draw_in_processes(missing, settings, size, bar)
            # Whatever a process that failed has left over is drawn here, where an error can be seen.
            for tale in missing:
                bar.update(_draw(tale, settings, size))
    return [[folder / _name(t) / f"{s.page}.png" for s in t.scenes] for t in tales]


def _folder(settings: Settings, size: int) -> Path:
    """The name changes with every parameter and with the code, so that no picture outlives its drawing."""
    key = json.dumps([dataclasses.asdict(settings), size, drawing.version()], sort_keys=True)
    return cache_dir("storyworld", hashlib.sha256(key.encode()).hexdigest()[:12])


def _name(tale: Tale) -> str:
    return f"{tale.number:05d}"


def _draw(tale: Tale, settings: Settings, size: int) -> int:
    """Draw a tale unless it is there; its folder appears only when it is whole. Returns how many were drawn."""
    folder = _folder(settings, size) / _name(tale)
    if damage(folder) is None:
        return 0
    partial = folder.with_suffix(f".{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for scene in tale.scenes:
            drawing.render(scene, settings, size).save(partial / f"{scene.page}.png", "PNG", compress_level=3)
        seal(partial)
        os.rename(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if damage(folder):  # otherwise another process was faster
            raise disk_error(error, folder) from error
    return len(tale.scenes)


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
