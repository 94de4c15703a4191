"""What reading costs: decoding against a bare loop, and 52,000 pictures looked at, streamed and grouped.

    python -m benchmarks.reading [--frames 52000] [--rounds 5] [--record results/benchmarks/reading.json]

Decoding: the pictures of African Storybook where it is, else of Storyworld; our reader (upright, RGB, checked), a bare
Pillow loop and torchvision's decoder take turns on the same files with two threads each. Scale: stand-in shards of
StoryReasoning in its exact schema, every picture and text different; each step in a process of its own, so that its
peak memory is its own. Two cores, whatever the machine has.
"""

from __future__ import annotations

import argparse
import json
import os
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

from PIL import Image
from tqdm import tqdm

from storylib.config import project_root
from storylib.pictures import open_picture, write_atomically
from storylib.runs import provenance
from storylib.sources import SourceError, load_stories

CORES, FRAMES_A_STORY = 2, 12
STEPS = {
    "stream": "n = sum(len(s.frames) for s in stream(root=folder))",
    "look": "n = len(inspect([p for s in stream(root=folder) for p in [f.image for f in s.frames]]))",
    "load and split": "n = sum(len(s.frames) for _, part in split_stories(load(root=folder)) for s in part)",
}
CHILD = r"""
import json, re, sys, time
from pathlib import Path
from storylib.pictures import inspect
from storylib.sources.story_reasoning import load, stream
from storylib.stories import split_stories
def peak():  # of this program; what getrusage says begins with the memory of the one that started it
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
folder = sys.argv[1]
before, started = peak(), time.perf_counter()
{step}
print(json.dumps({{"frames": n, "seconds": round(time.perf_counter() - started, 1),
                   "peak_memory_mb": round(peak()), "of_which_imports_mb": round(before)}}))
"""


def decoding(rounds: int, most: int = 2000) -> dict[str, Any]:
    """Pictures a second of three readers that take turns, and the ratio of ours to the faster bare loop."""
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
    seen: dict[str, list[float]] = {name: [] for name in readers}
    for _ in tqdm(range(rounds), desc="decode", unit="round"):
        for name, read in readers.items():
            seen[name].append(len(files) / timed(read, files))
    ratios = [ours / max(a, b) for ours, a, b in zip(*seen.values(), strict=True)]
    return {
        "source": source,
        "files": len(files),
        "frames_a_second": {name: round(statistics.median(values)) for name, values in seen.items()},
        "ratio_to_the_faster_bare_loop": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def timed(read: Callable[[Path], Any], files: Sequence[Path]) -> float:
    """Seconds to read all files with one thread a core."""
    started = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        deque(pool.map(read, files), maxlen=0)
    return time.perf_counter() - started


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
    record = {"decoding": decoding(options.rounds), "scale": scale(options.frames), **provenance("cpu")}
    options.record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.record, json.dumps(record, indent=2) + "\n")
    for name, value in record["decoding"]["frames_a_second"].items():
        print(f"decode, {name:12} {value:6} frames a second")
    low, high = record["decoding"]["ratio_range"]
    print(f"ours to the faster bare loop: {record['decoding']['ratio_to_the_faster_bare_loop']} ({low} to {high})")
    for name, step in record["scale"].items():
        print(f"{name:15} {step['frames']:7} frames  {step['seconds']:7} s  {step['peak_memory_mb']:5} MB at most")


if __name__ == "__main__":
    main()
