"""What reading costs: decoding against a bare loop, and 52,000 pictures looked at, streamed and grouped.

    python -m benchmarks.reading [--frames 52000] [--rounds 5] [--record results/benchmarks/reading.json]

Decoding: the pictures of African Storybook where it is, else of Storyworld; our reader (upright, RGB, checked), a bare
Pillow loop and torchvision's decoder take turns, every hundred files, with two threads each; the ratio is of seconds of
work, since the machine may be shared. Scale: stand-in shards of
StoryReasoning in its exact schema, every picture and text different; each step in a process of its own, so that its
peak memory is its own. Two cores, whatever the machine has.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from storylib.cache import damage, seal
from storylib.config import project_root
from storylib.pictures import open_picture, write_atomically
from storylib.runs import provenance
from storylib.sources import SourceError, load_stories

CORES, CHUNK, FRAMES_A_STORY = 2, 100, 12
STEPS = {
    "stream": "n = sum(len(s.frames) for s in stream(root=folder))",
    "look": "n = len(inspect([p for s in stream(root=folder) for p in [f.image for f in s.frames]]))",
    "load and split": "n = sum(len(s.frames) for _, part in split_stories(load(root=folder)) for s in part)",
}
CHILD = r"""
import json, re, sys, time
from pathlib import Path
import datasets  # otherwise imported by the first that reads Parquet
from storylib.pictures import inspect
from storylib.sources.story_reasoning import load, stream
from storylib.stories import split_stories
def peak():  # of this program; what getrusage says begins with the memory of the one that started it
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
folder = sys.argv[1]
before, started, worked = peak(), time.perf_counter(), time.process_time()
{step}
print(json.dumps({{"frames": n, "seconds": round(time.perf_counter() - started, 1),
                   "seconds_of_work": round(time.process_time() - worked, 1),
                   "peak_memory_mb": round(peak()), "of_which_imports_mb": round(before)}}))
"""


def decoding(rounds: int, most: int = 2000) -> dict[str, Any]:
    """Pictures a second of three readers, and how fast ours is as a share of the faster bare loop, by work done."""
    from torchvision.io import ImageReadMode, decode_image

    try:
        source, stories = "african_storybook", load_stories("african_storybook")
    except SourceError:
        source, stories = "storyworld", load_stories("storyworld", limit=200)
    files = sorted({f.image for s in stories for f in s.frames if isinstance(f.image, Path)})[:most]
    readers: dict[str, Callable[[Path], Any]] = {
        "storylib": open_picture,
        "Pillow": lambda path: Image.open(path).convert("RGB"),
        "torchvision": lambda path: decode_image(str(path), ImageReadMode.RGB),
    }
    spent: list[dict[str, tuple[float, float]]] = []  # of each round: seconds, and seconds of work, of each reader
    names = list(readers)
    for _ in tqdm(range(rounds), desc="decode", unit="round"):
        total = dict.fromkeys(names, (0.0, 0.0))
        for turn, start in enumerate(range(0, len(files), CHUNK)):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:  # whoever is first finds cold files
                seconds, work = timed(readers[name], files[start : start + CHUNK])
                total[name] = (total[name][0] + seconds, total[name][1] + work)
        spent.append(total)
    work = {name: [round_[name][1] for round_ in spent] for name in names}
    ratios = [min(a, b) / ours for ours, a, b in zip(*work.values(), strict=True)]
    return {
        "source": source,
        "files": len(files),
        "rounds": rounds,
        "frames_a_second": {n: round(len(files) / statistics.median(r[n][0] for r in spent)) for n in names},
        "frames_a_second_of_work": {n: round(len(files) / statistics.median(work[n])) for n in names},
        "ratio_to_the_faster_bare_loop": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def timed(read: Callable[[Path], Any], files: Sequence[Path]) -> tuple[float, float]:
    """Seconds to read all files with one thread a core, and seconds of work, to which other programs add nothing."""
    started, worked = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(CORES) as pool:
        deque(pool.map(read, files), maxlen=0)
    return time.perf_counter() - started, time.process_time() - worked


def checking(frames: int) -> dict[str, Any]:
    """What comparing the stored features of so many frames with their digests costs; each process does it once."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, found = Path(scratch) / "sealed", Path(scratch) / "opened"
        folder.mkdir()
        for name, size in {"images": 4 * 1280, "texts": 4 * 384, "thumbnails": 64 * 64 * 3}.items():
            np.save(folder / name, np.random.default_rng(0).integers(0, 256, (frames, size), dtype=np.uint8))
        seal(folder)
        folder.rename(found)  # a new name, so that no digest is remembered
        started, worked = time.perf_counter(), time.process_time()
        assert damage(found) is None
        seconds, work = time.perf_counter() - started, time.process_time() - worked
        megabytes = round(sum(path.stat().st_size for path in found.iterdir()) / 1e6)
    return {"frames": frames, "megabytes": megabytes, "seconds": round(seconds, 2), "seconds_of_work": round(work, 2)}


def scale(frames: int) -> dict[str, Any]:
    """Seconds and peak memory of each step over ``frames`` stand-in frames; the first also fills the store."""
    stories = -(-frames // FRAMES_A_STORY)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shards"
        command = [sys.executable, "-m", "storylib.sources.stand_in", str(folder), "--stories", str(stories)]
        subprocess.run([*command, "--pictures", "plain"], check=True, stdout=subprocess.DEVNULL)
        environment = os.environ | {"STORYLIB_CACHE": str(Path(scratch) / "cache"), "OMP_NUM_THREADS": str(CORES)}
        found = {}
        for name, step in STEPS.items():
            print(f"{name} ...", flush=True)
            child = [sys.executable, "-c", CHILD.format(step=step), str(folder)]
            done = subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            found[name] = json.loads(done.stdout)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=52_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path, default=project_root() / "results/benchmarks/reading.json")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    command = shlex.join(["python", "-m", "benchmarks.reading", *sys.argv[1:]])
    record = {"command": command, "decoding": decoding(options.rounds), "checking": checking(options.frames)}
    record |= {"scale": scale(options.frames), **provenance("cpu")}
    options.record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.record, json.dumps(record, indent=2) + "\n")
    for name, value in record["decoding"]["frames_a_second"].items():
        print(f"decode, {name:12} {value:6} frames a second")
    low, high = record["decoding"]["ratio_range"]
    print(f"ours to the faster bare loop: {record['decoding']['ratio_to_the_faster_bare_loop']} ({low} to {high})")
    check = record["checking"]
    print(f"check the digests of {check['megabytes']} MB: {check['seconds_of_work']} s of work")
    for name, step in record["scale"].items():
        print(f"{name:15} {step['frames']:7} frames  {step['seconds']:7} s  {step['peak_memory_mb']:5} MB at most")


if __name__ == "__main__":
    main()
