"""One measurement in a process of its own, with one thread, so that its peak memory is its own.

``benchmarks.growth`` starts it:

    python -m benchmarks.measured_alone batch '{"source": "storyworld", "device": "cpu", "batch_size": 32, ...}'

The result is one line of JSON. Under ``accelerate launch`` only the main process prints it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import torch

from storylib import training
from storylib.config import Config, configure
from storylib.data.features import encode
from storylib.data.splits import split_stories
from storylib.data.types import Story
from storylib.data.windows import WindowDataset
from storylib.experiments.runs import Data, prepare
from storylib.model import StoryModel
from storylib.sources import load_stories
from storylib.sources.story_reasoning import load

FEATURE_SIZES = {"image": 1280, "text": 384}  # of the default encoders
EVERYTHING = "all losses"
LOSSES = {"text decoder": "text_weight", "image decoder": "image_weight", "contrastive loss": "contrastive_weight"}


def clock(device: str) -> float:
    """Processor seconds on a CPU; elsewhere wall-clock seconds, after the device has finished its work."""
    if device == "cpu":
        return time.process_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def peak_memory() -> int:
    """Peak memory of this process in MB of 2^20 bytes: of the GPU where one is used, else resident memory."""
    if torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    if peak:  # getrusage would count the memory of the parent process, too
        return round(int(peak[1]) / 2**10)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def build(config: Config, data: Data) -> tuple[StoryModel, dict[str, WindowDataset]]:
    """An untrained model, and the windows of each split."""
    vocabulary = training.build_vocabulary(data.features, data.splits, config)
    parts = {name: WindowDataset(data.features, part, vocabulary, config) for name, part in data.splits}
    return training.build_model(config, data.features, data.splits, vocabulary), parts


def steps(model: StoryModel, parts: dict[str, WindowDataset], config: Config) -> Iterator[int]:
    """Endless training steps, in as many processes as there are; yields the windows of each step."""
    with TemporaryDirectory() as folder:
        trainer = training.Trainer(model, parts["train"], parts["validation"], config.train, Path(folder))
        trainer.network.train()
        try:
            for trainer.sampler.epoch in itertools.count():
                for batch in trainer.loader:
                    batch = {name: value.to(trainer.engine.device) for name, value in batch.items()}
                    loss = sum(trainer.network(batch).values())
                    trainer.engine.backward(loss)
                    trainer._update(batch)
                    windows = torch.tensor(len(batch["target"]), device=trainer.engine.device)
                    yield int(trainer.group.total(windows))
        finally:
            trainer.bar.close()


def cost(loop: Iterator[int], windows: int, rounds: int, device: str) -> dict[str, Any]:
    """Milliseconds per window, the median of rounds of at least so many windows, after one step that allocates."""
    next(loop)
    measured, wall_clock = [], []
    for _ in range(rounds):
        started, wall_started, count = clock(device), time.perf_counter(), 0
        while count < windows:
            count += next(loop)
        measured.append(round(1000 * (clock(device) - started) / count, 3))
        wall_clock.append(round(1000 * (time.perf_counter() - wall_started) / count, 3))
    return {"milliseconds_per_window": statistics.median(measured), "by_round": measured, "by_the_clock": wall_clock}


def measure_batch(source: str, device: str, batch_size: int, windows: int, rounds: int, **changes: Any) -> dict:
    """Cost of a window, and peak memory; of several processes, those of the main one."""
    settings = {"pretraining": 0, "batch_size": batch_size, "device": device, **changes}
    config = configure("quick", source=source, **settings)
    loop = steps(*build(config, prepare(config)), config)
    return {"batch": batch_size, **cost(loop, windows, rounds, device), "peak_memory_mb": peak_memory()}


def measure_encoding(source: str, device: str, frames: int, **changes: Any) -> dict:
    """Cost of a frame with the real encoders, from files to stored features; all pictures and texts are new."""
    config = configure("quick", source=source, **changes)
    stories = load_stories(source, limit=config.data.stories, **config.data.options)
    unique_pictures = {str(frame.image): frame for story in stories for frame in story.frames}
    unique = list({frame.text: frame for frame in unique_pictures.values()}.values())[: frames + 8]
    warm_up, measured = (Story(name, "", tuple(part)) for name, part in (("first", unique[:8]), ("rest", unique[8:])))
    count = len(measured.frames)
    with TemporaryDirectory() as cache, mock.patch.dict(os.environ, STORYLIB_CACHE=cache):
        encode([warm_up], device=device)  # loads the networks
        started, wall_started = clock(device), time.perf_counter()
        encode([measured], device=device)
        seconds, wall_seconds = clock(device) - started, time.perf_counter() - wall_started
    return {
        "source": source,
        "frames": count,
        "milliseconds_per_frame": round(1000 * seconds / count, 2),
        "by_the_clock": round(1000 * wall_seconds / count, 2),
        "peak_memory_mb": peak_memory(),
    }


def measure_stories(folder: str, device: str, stories: int, windows: int, rounds: int, **changes: Any) -> dict:
    """Seconds of each step with so many stories, the cost of a window, and the peak memory after each step."""
    config = configure("full", source="story_reasoning", **{"pretraining": 0, "device": device, **changes})
    load(2, root=folder)  # imports what reads Parquet
    seconds, memory = {}, {"imports": peak_memory()}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = clock(device)
        result = work()
        seconds[step], memory[step] = round(clock(device) - started, 3), peak_memory()
        return result

    loaded = timed("load", lambda: load(stories, root=folder))
    splits = timed("group and split", lambda: split_stories(loaded))
    features = timed("store features", lambda: encode(loaded, image_size=config.model.image_size))
    model, parts = timed("build windows", lambda: build(config, Data(loaded, splits, features)))
    loop = steps(model, parts, config)
    per_window = {"train": timed("train", lambda: cost(loop, windows, rounds, device)["milliseconds_per_window"])}
    parts["test"].embed_bank(model.image_space.cpu(), model.text_space.cpu())
    retrieval = [timed("find", lambda: rank(model, parts["test"], windows, device)) for _ in range(rounds)]
    per_window["find"] = round(statistics.median(retrieval), 3)
    for step, part in (("train", parts["train"]), ("find", parts["test"])):
        seconds[step] = round(per_window[step] * len(part) / 1000, 3)
    return {
        "frames": sum(len(story.frames) for story in loaded),
        "windows": {name: len(part) for name, part in parts.items()},
        "candidates": {name: min(part.most_candidates, len(part.keys)) for name, part in parts.items()},
        "seconds": seconds,
        "milliseconds_per_window": per_window,
        "peak_memory_mb": memory,
    }


@torch.inference_mode()
def rank(model: StoryModel, test: WindowDataset, windows: int, device: str) -> float:
    """Milliseconds per window to read held-out windows and rank all held-out frames."""
    model.to(device).eval()
    started, count = clock(device), 0
    for batch in itertools.islice(test.batches(device), max(1, windows // 64)):
        reading: Any = model.read(batch["image"][:, :-1], batch["text"][:, :-1])
        count += len(training.frame_ranks(reading, batch))
    return 1000 * (clock(device) - started) / count


class CheapEncoder:
    """Vectors as long as the real ones, from eight by eight pixels or from the letters of a text."""

    def __init__(self, size: int) -> None:
        self.matrix = torch.randn(64, size, generator=torch.Generator().manual_seed(size))
        self.tokenizer, self.unk_token_id = self, None  # it reads every text

    def __call__(self, texts: Any, **_: Any) -> dict[str, list[list[str]]]:
        return {"input_ids": [text.split() for text in texts]}

    def prepare(self, picture: Any) -> np.ndarray:
        return np.asarray(picture.resize((8, 8)).convert("L"), np.float32).ravel() / 255

    def embed(self, items: Sequence[Any]) -> torch.Tensor:
        rows = [letters(item) if isinstance(item, str) else item for item in items]
        return torch.from_numpy(np.stack(rows)) @ self.matrix


def letters(text: str) -> np.ndarray:
    """(64,) the bytes of a text, cut or repeated, in 0..1."""
    return np.resize(np.frombuffer(text.encode(), np.uint8), 64).astype(np.float32) / 255


def measure_profile(source: str, device: str, windows: int, rounds: int, **changes: Any) -> dict:
    """Share of a training step that each loss takes with its decoder, in percent: what a step saves without it.

    The models take turns in one process, so that a slow minute of the machine slows all of them.
    """
    settings: dict[str, Any] = {"device": device, "pretraining": 0, **changes}
    loops = {}
    for name, weight in {EVERYTHING: None, **LOSSES}.items():
        change: dict[str, Any] = {weight: 0.0} if weight else {}
        config = configure("quick", source=source, **settings, **change)
        loops[name] = steps(*build(config, prepare(config)), config)
    measured: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            measured[name].append(cost(loop, windows, 1, device)["milliseconds_per_window"])
    shares = {}
    for name in LOSSES:
        saved = [1 - without / whole for without, whole in zip(measured[name], measured[EVERYTHING], strict=True)]
        shares[name] = round(100 * statistics.median(saved), 1)
    shares["everything else"] = round(100 - sum(shares.values()), 1)
    return {"windows": windows * rounds, "shares": dict(sorted(shares.items(), key=lambda item: -item[1]))}


MEASUREMENTS: dict[str, Callable[..., dict]] = {
    "profile": measure_profile,
    "encoding": measure_encoding,
    "batch": measure_batch,
    "stories": measure_stories,
}


def main(kind: str, options: dict[str, Any]) -> None:
    with ExitStack() as stack:
        stack.enter_context(training.cpu_threads(1))
        if kind == "stories":
            for side, size in FEATURE_SIZES.items():
                cheap = mock.Mock(return_value=CheapEncoder(size))
                stack.enter_context(mock.patch(f"storylib.data.features.load_{side}_encoder", cheap))
        result = MEASUREMENTS[kind](**options)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
