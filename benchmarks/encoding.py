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


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
    def bare(pictures: bool, words: bool) -> None:
        for batch in ready if pictures else ():
            image.network(batch)
        for batch in pieces if words else ():
            text.network(**batch)

    def whole() -> None:
        with TemporaryDirectory() as cache, mock.patch.dict(os.environ, STORYLIB_CACHE=cache):
            encode([story], image_size=size)

    times: dict[str, list[float]] = {"encode": [], "bare": [], "bare_pictures": [], "bare_texts": []}
    with (
        mock.patch("storylib.features.load_image_encoder", lambda *args: image),
        mock.patch("storylib.features.load_text_encoder", lambda *args: text),
    ):
        for turn in range(options.rounds + 1):
            order = [("encode", whole), ("bare", lambda: bare(True, True))]
            found = {name: seconds(work) for name, work in (order if turn % 2 else order[::-1])}
            found |= {
                "bare_pictures": seconds(lambda: bare(True, False)),
                "bare_texts": seconds(lambda: bare(False, True)),
            }
            if turn:  # the first warms up
                for name, value in found.items():
                    times[name].append(value)
            print({name: round(value, 3) for name, value in found.items()}, flush=True)
    shares = [b / e for b, e in zip(times["bare"], times["encode"], strict=True)]
    facts = provenance("cpu")
    record = {
        "command": "python -m benchmarks.encoding",
        "source": options.source,
        "pictures_and_texts": len(frames),
        "threads": options.threads,
        "rounds": options.rounds,
        "seconds": {name: [round(v, 3) for v in values] for name, values in times.items()},
        "pages_per_second": {name: round(len(frames) / median(values), 2) for name, values in times.items()},
        "share_of_bare": round(median(shares), 3),
        "share_of_bare_each_round": [round(s, 3) for s in shares],
        **facts,
        "machine": f"{facts['machine'].split(',')[0]}, {options.threads} threads",
    }
    write_atomically(options.out, json.dumps(record, indent=2) + "\n")
    print(
        f"{record['share_of_bare']:.1%} of the bare networks' throughput, {record['peak_memory_mb']} MB: {options.out}"
    )


if __name__ == "__main__":
    main()
