"""How near encoding comes to the bare networks: storylib.encode from files to disk, against forward passes alone.

python -m benchmarks.encoding [--source african_storybook] [--pictures 192] [--rounds 5]

Both take turns on the same pictures and texts, in one process and on the same threads. The bare side gets tensors
that lie ready in memory and does nothing but call the network; encode opens, resizes, batches, stores and flushes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch

from storylib.config import project_root
from storylib.encoders import load_image_encoder, load_text_encoder
from storylib.features import BATCH, encode
from storylib.pictures import open_picture, write_atomically
from storylib.runs import provenance
from storylib.sources import load_stories
from storylib.stories import Story


def cost(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock, and of computing on all cores together: the latter does not mind a busy machine."""
    start, computed = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - computed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=project_root() / "results" / "benchmarks" / "encoding.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    image, text = load_image_encoder(), load_text_encoder()  # once: a second or two, however many pictures follow
    pages = {(str(f.image), f.text): f for s in load_stories(options.source) for f in s.frames}
    pictures = {str(f.image): f for f in pages.values()}
    frames = list({f.text: f for f in pictures.values()}.values())[: options.pictures]  # each with its own of both
    story = Story("benchmark", "", tuple(frames))
    size = 64

    batches = [frames[i : i + BATCH] for i in range(0, len(frames), BATCH)]
    half = torch.full((1, 3, 1, 1), 0.5)
    ready = [torch.stack([image.prepare(open_picture(f.image)) for f in b]).float().div_(255) for b in batches]
    ready = [((b - half) / half).contiguous(memory_format=torch.channels_last) for b in ready]
    texts = sorted((f.text for f in frames), key=lambda t: (len(t), t))  # as encode sorts them
    pieces = [text.pieces(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]

    @torch.inference_mode()
    def bare() -> None:
        for batch in ready:
            image.network(batch)
        for batch in pieces:
            text.network(**batch)

    def whole() -> None:
        with TemporaryDirectory() as cache, mock.patch.dict(os.environ, STORYLIB_CACHE=cache):
            encode([story], image_size=size)

    turns = []
    with (
        mock.patch("storylib.features.load_image_encoder", lambda *args: image),
        mock.patch("storylib.features.load_text_encoder", lambda *args: text),
    ):
        for turn in range(options.rounds + 1):
            sides = [("encode", whole), ("bare", bare)]
            found = {name: cost(work) for name, work in (sides if turn % 2 else sides[::-1])}
            print({name: [round(v, 2) for v in values] for name, values in found.items()}, flush=True)
            turns += [found] if turn else []  # the first warms up
    facts = provenance("cpu")
    record: dict[str, Any] = {
        "command": "python -m benchmarks.encoding",
        "source": options.source,
        "pages": len(frames),
        "threads": options.threads,
        "pages_a_second": {n: round(len(frames) / median(t[n][0] for t in turns), 2) for n in ("encode", "bare")},
    }
    for column, name in enumerate(("throughput", "computing")):
        shares = [t["bare"][column] / t["encode"][column] for t in turns]
        record[f"share_of_bare_{name}"] = round(median(shares), 3)
        record[f"share_of_bare_{name}_by_round"] = [round(s, 3) for s in shares]
    record |= facts | {"machine": f"{facts['machine'].split(',')[0]}, {options.threads} threads"}
    write_atomically(options.out, json.dumps(record, indent=2) + "\n")
    shares = [record[f"share_of_bare_{name}"] for name in ("throughput", "computing")]
    print(f"{shares[0]:.1%} of the bare throughput, {shares[1]:.1%} by computing time: {options.out}")


if __name__ == "__main__":
    main()
