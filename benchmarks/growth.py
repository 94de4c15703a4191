"""What grows, and with what: the parts of a training step, the number of frames, the batch, the processes.

    python -m benchmarks.growth [--parts profile encoding batch processes stories] [--device cpu] [--record FILE]

Each measurement is a process of its own with one thread, so that its peak memory is its own, and each part is recorded
as soon as it is there. On a CPU, seconds are those of the processor, to which whatever else the machine does adds
nothing, with those of the clock beside them; on a GPU, all are of the clock. Of several processes, those of the first.

profile: where the time of a training step goes. encoding: what the real encoders cost a page. batch, processes:
milliseconds a window. stories: each step of the way over more and more stand-in frames in StoryReasoning's schema, with
encoders that cost next to nothing in the place of the real ones, whose cost a page does not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from storylib.config import project_root
from storylib.pictures import write_atomically
from storylib.runs import provenance

FRAMES, FRAMES_A_STORY, PIXELS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000), 12, 96
BATCHES, PROCESSES = (8, 16, 32, 64, 128, 256), (1, 2)


def child(kind: str, launcher: Sequence[str] = (), environment: dict[str, str] | None = None, **options: Any) -> dict:
    """What a measurement in a process of its own says, which is its last line."""
    command = [sys.executable, *launcher, "-m", "benchmarks.measured_alone", kind, json.dumps(options)]
    threads = {"OMP_NUM_THREADS": "1", "CUDA_LAUNCH_BLOCKING": str(int(kind == "profile"))}  # each kernel to its part
    done = subprocess.run(command, env=os.environ | threads | (environment or {}), capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{kind} with {options} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def part_profile(options: argparse.Namespace) -> dict:
    """Where the time of a step goes."""
    return child("profile", source=options.source, device=options.device, windows=2 * options.windows, **options.set)


def part_encoding(options: argparse.Namespace) -> dict:
    """A page, by the real encoders."""
    return child("encoding", source=options.source, device=options.device, pages=options.pages, **options.set)


def part_batch(options: argparse.Namespace) -> dict:
    """A window by the size of its batch."""
    shared = {"source": options.source, "device": options.device, "rounds": options.rounds, **options.set}
    return {"source": options.source, "sizes": [
        child("batch", batch_size=size, windows=max(options.windows, 2 * size), **shared)
        for size in tqdm(options.batches, desc="batch", unit="size")
    ]}  # fmt: skip


def part_processes(options: argparse.Namespace) -> dict:
    """A window by the number of processes that share a batch."""
    shared = {"source": options.source, "device": options.device, "rounds": options.rounds, **options.set}
    found = []
    for count in tqdm(options.processes, desc="processes", unit="run"):
        launch = "-m accelerate.commands.launch --num_machines 1 --mixed_precision no --dynamo_backend no".split()
        launch += ["--main_process_port", "0", "--num_processes", str(count), *["--multi_gpu"] * (count > 1)]
        one = child("batch", launch, batch_size=64, windows=options.windows, **shared)
        found.append({"processes": count, **one})
    return {"source": options.source, "sizes": found}


def part_stories(options: argparse.Namespace) -> dict:
    """Each step of the way over more and more frames; one folder of shards, of which each size reads the first."""
    shared = {"device": options.device, "windows": options.windows, "rounds": options.rounds, **options.set}
    sizes = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "shards")
        command = [sys.executable, "-m", "storylib.sources.stand_in", folder]
        command += ["--pictures", "plain", "--size", str(PIXELS)]
        command += ["--stories", str(-(-max(options.frames) // FRAMES_A_STORY)), "--frames", str(FRAMES_A_STORY)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for frames in tqdm(options.frames, desc="stories", unit="size"):
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                asked = {"folder": folder, "stories": frames // FRAMES_A_STORY}
                sizes.append(child("stories", environment={"STORYLIB_CACHE": cache}, **asked, **shared))
    return {"pixels": PIXELS, "sizes": sizes}


PARTS = {
    "profile": part_profile,
    "encoding": part_encoding,
    "batch": part_batch,
    "processes": part_processes,
    "stories": part_stories,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--source", default="storyworld", help="of profile, batch and processes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--pages", type=int, default=256, help="that are encoded")
    parser.add_argument("--windows", type=int, default=512, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path, help="by default results/benchmarks/growth.json, or growth-cuda.json")
    parser.add_argument("--set", type=json.loads, default={}, help="fields of the configuration, as JSON")
    options = parser.parse_args(arguments)
    name = "growth.json" if options.device == "cpu" else f"growth-{options.device}.json"
    path = options.record or project_root() / "results" / "benchmarks" / name
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    command = shlex.join(["python", "-m", "benchmarks.growth", *(arguments or sys.argv[1:])])
    made = provenance(options.device)  # now: the record itself makes a clean checkout a changed one
    del made["peak_memory_mb"]  # of this process, which measures nothing
    for part in options.parts:
        found = PARTS[part](options)
        record[part] = {"command": command, **found, "load_of_the_machine": round(os.getloadavg()[0], 1), **made}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(record, indent=1) + "\n")
        print(f"{part}: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
