"""How the cost of storylib grows with the number of frames, the batch and the processes.

    python -m benchmarks.growth [--parts profile encoding batch processes stories] [--device cpu] [--record FILE]

profile: the share of a training step that each loss takes. encoding: cost of a frame with the real encoders. batch,
processes: cost of a training window. stories: each step from reading to ranking, over more and more stand-in frames in
StoryReasoning's schema, with cheap encoders in the place of the real ones, whose cost per frame is constant.

Each measurement runs in a process of its own with one thread, so that its peak memory is its own, and each part is
recorded as soon as it is measured. On a CPU, seconds are processor time, with the wall clock beside them; on a GPU they
are wall-clock time. With several processes, the main one is measured.
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

from benchmarks.records import record_path, write_json
from storylib.experiments.provenance import provenance

ROOT = Path(__file__).parents[1]
FRAMES, FRAMES_PER_STORY, PIXELS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000), 12, 96
BATCHES, PROCESSES = (8, 16, 32, 64, 128, 256), (1, 2)


def measure(kind: str, launcher: Sequence[str] = (), cache: str | None = None, **options: Any) -> dict:
    """Run one measurement of ``benchmarks.measured_alone``. Raises RuntimeError if it fails."""
    command = [sys.executable, *launcher, "-m", "benchmarks.measured_alone", kind, json.dumps(options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if cache:
        environment["STORYLIB_CACHE"] = cache
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if result.returncode:
        raise RuntimeError(f"The measurement {kind} with {options} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def measure_profile(options: argparse.Namespace) -> dict:
    shared = {"source": options.source, "device": options.device, **options.set}
    return measure("profile", windows=options.windows, rounds=3 * options.rounds, **shared)


def measure_encoding(options: argparse.Namespace) -> dict:
    frames = options.encoded_frames
    return measure("encoding", source=options.source, device=options.device, frames=frames, **options.set)


def measure_batches(options: argparse.Namespace) -> dict:
    shared = {"source": options.source, "device": options.device, "rounds": options.rounds, **options.set}
    sizes = []
    for size in tqdm(options.batches, desc="batch", unit="size"):
        windows = max(options.windows, 2 * size)
        sizes.append(measure("batch", batch_size=size, windows=windows, **shared))
    return {"source": options.source, "sizes": sizes}


def measure_processes(options: argparse.Namespace) -> dict:
    shared = {"source": options.source, "device": options.device, "rounds": options.rounds, **options.set}
    sizes = []
    for count in tqdm(options.processes, desc="processes", unit="run"):
        launcher = "-m accelerate.commands.launch --num_machines 1 --mixed_precision no --dynamo_backend no".split()
        launcher += ["--main_process_port", "0", "--num_processes", str(count)]
        if count > 1:
            launcher.append("--multi_gpu")
        size = measure("batch", launcher, batch_size=64, windows=options.windows, **shared)
        sizes.append({"processes": count, **size})
    return {"source": options.source, "sizes": sizes}


def measure_stories(options: argparse.Namespace) -> dict:
    from tests.stand_in import plain_stories, write_shards

    shared = {"device": options.device, "windows": options.windows, "rounds": options.rounds, **options.set}
    sizes = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "shards"  # each size reads the first stories of it
        write_shards(folder, plain_stories(-(-max(options.frames) // FRAMES_PER_STORY), FRAMES_PER_STORY, PIXELS))
        for frames in tqdm(options.frames, desc="stories", unit="size"):
            with tempfile.TemporaryDirectory(dir=scratch) as cache:
                stories = frames // FRAMES_PER_STORY
                sizes.append(measure("stories", cache=cache, folder=str(folder), stories=stories, **shared))
    return {"pixels": PIXELS, "sizes": sizes}


PARTS = {
    "profile": measure_profile,
    "encoding": measure_encoding,
    "batch": measure_batches,
    "processes": measure_processes,
    "stories": measure_stories,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--source", default="storyworld", help="stories of all parts but the last")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", nargs="+", type=int, default=FRAMES, help="sizes of the part stories")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--processes", nargs="+", type=int, default=PROCESSES)
    parser.add_argument("--encoded-frames", type=int, default=256)
    parser.add_argument("--windows", type=int, default=512, help="windows per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path, help="by default results/benchmarks/growth.json, or growth-cuda.json")
    parser.add_argument("--set", type=json.loads, default={}, help="fields of the configuration, as JSON")
    options = parser.parse_args(arguments)
    path = options.record or record_path("growth", options.device)
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    command = ["python", "-m", "benchmarks.growth", *(sys.argv[1:] if arguments is None else arguments)]
    for part in options.parts:
        result = PARTS[part](options)
        machine = {"load_of_the_machine": round(os.getloadavg()[0], 1), **provenance(options.device)}
        del machine["peak_memory_mb"]  # of this process, which measures nothing
        record[part] = {"command": shlex.join(command), **result, **machine}
        write_json(path, record)
        print(f"{part}: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
