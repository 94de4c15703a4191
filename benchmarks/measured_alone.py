"""One measurement in a process of its own, with one thread, so that its peak memory is its own: for benchmarks.growth.

    python -m benchmarks.measured_alone batch '{"source": "storyworld", "device": "cpu", "batch_size": 32, ...}'

prints what it found as one line of JSON; under ``accelerate launch`` only the main process does.
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
from torch.profiler import ProfilerActivity, profile, record_function

from storylib import decoders, losses, training
from storylib.config import Config, configure
from storylib.features import encode
from storylib.model import StoryModel
from storylib.parallel import Group, accelerator
from storylib.runs import Data, prepare
from storylib.sources import load_stories
from storylib.sources.story_reasoning import load
from storylib.stories import Splits, Story, split_stories
from storylib.training import EpochSampler, Objective, WindowDataset, adamw, batches, build_model, build_vocabulary

SIZES = {"image": 1280, "text": 384}  # of the real encoders' vectors
OPTIMISER, BACKWARD, REST = "optimiser", "backward pass of what is shared", "everything else"


def clock(device: str) -> float:
    """Seconds of work on a CPU; elsewhere seconds of the clock, once the device has done what it was given."""
    if device == "cpu":
        return time.process_time()
    torch.get_device_module(device).synchronize()
    return time.perf_counter()


def peak_memory() -> int:
    """Megabytes of this program alone; what getrusage says begins with the memory of the one that started it."""
    if torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return round(int(found[1]) / 2**10)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def datasets(config: Config, data: Data) -> tuple[StoryModel, dict[str, WindowDataset]]:
    """An untrained model, and the windows of each part with their candidates."""
    vocabulary = build_vocabulary(data.features, data.splits, config)
    parts = {name: WindowDataset(data.features, part, vocabulary, config) for name, part in data.splits}
    model = build_model(config, data.features, data.splits, vocabulary)
    for name, part in parts.items():
        part.embed_bank(model, config.train.candidates if name == "train" else None)
    return model, parts


def steps(model: StoryModel, train: WindowDataset, config: Config) -> Iterator[int]:
    """The steps of ``storylib.training``, without end, in as many processes as there are; yields windows of each."""
    engine = accelerator(config.train.device)
    group = Group(engine.process_index, engine.num_processes)
    network, optimiser = engine.prepare(Objective(model, config.train, group), adamw(model, config.train))
    sampler = EpochSampler(len(train), config.train.seed)
    network.train()
    for sampler.epoch in itertools.count():
        for batch in batches(train, config.train.batch_size, sampler, group):
            batch = {name: value.to(engine.device) for name, value in batch.items()}
            engine.backward(sum(network(batch).values()))
            engine.clip_grad_norm_(network.parameters(), config.train.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            yield int(group.total(torch.tensor(len(batch["target"]), device=engine.device)))


def cost(loop: Iterator[int], windows: int, rounds: int, device: str) -> dict[str, Any]:
    """Milliseconds a window over rounds of so many windows at least, after a step that allocates."""
    next(loop)
    found, walls = [], []
    for _ in range(rounds):
        started, began, seen = clock(device), time.perf_counter(), 0
        while seen < windows:
            seen += next(loop)
        found.append(round(1000 * (clock(device) - started) / seen, 3))
        walls.append(round(1000 * (time.perf_counter() - began) / seen, 3))
    return {"milliseconds_a_window": statistics.median(found), "by_round": found, "by_the_clock": walls}


def measure_batch(source: str, device: str, batch_size: int, windows: int, rounds: int, **changes: Any) -> dict:
    """The cost of a window and peak memory; under ``accelerate launch``, of the main process."""
    config = configure("quick", source=source, device=device, batch_size=batch_size, **changes)
    model, parts = datasets(config, prepare(config))
    found = cost(steps(model, parts["train"], config), windows, rounds, device)
    return {"batch": batch_size, **found, "peak_memory_mb": peak_memory()}


def measure_encoding(source: str, device: str, pages: int, **changes: Any) -> dict:
    """What the real encoders cost a page, from the files to the store, each picture and text new to them."""
    data = configure("quick", source=source, **changes).data
    frames = [f for s in load_stories(source, limit=data.stories) for f in s.frames]
    pictures = {str(f.image): f for f in frames}.values()
    distinct = list({f.text: f for f in pictures}.values())[: pages + 8]
    pages = len(distinct) - 8
    with TemporaryDirectory() as cache, mock.patch.dict(os.environ, STORYLIB_CACHE=cache):
        encode([Story("first", "", tuple(distinct[:8]))], device=device)  # loads the networks
        started, began = clock(device), time.perf_counter()
        encode([Story("then", "", tuple(distinct[8:]))], device=device)
        taken, wall = clock(device) - started, time.perf_counter() - began
    found = {"milliseconds_a_page": round(1000 * taken / pages, 2), "by_the_clock": round(1000 * wall / pages, 2)}
    return {"source": source, "pages": pages, **found, "peak_memory_mb": peak_memory()}


def measure_stories(folder: str, device: str, stories: int, windows: int, rounds: int, **changes: Any) -> dict:
    """Seconds of each step over so many stories, what of it is one window's, and the peak of memory until then."""
    config = configure("full", source="story_reasoning", device=device, **changes)
    load(2, root=folder)  # imports what reads Parquet
    seconds, memory = {}, {"imports": peak_memory()}

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = clock(device)
        result = work()
        seconds[step], memory[step] = round(clock(device) - started, 3), peak_memory()
        return result

    asked = timed("load", lambda: load(stories, root=folder))
    splits: Splits = timed("group and split", lambda: split_stories(asked))
    features = timed("store features", lambda: encode(asked, image_size=config.model.image_size))
    model, parts = timed("build windows", lambda: datasets(config, Data(asked, splits, features)))
    train, test = parts["train"], parts["test"]
    loop = steps(model, train, config)
    trained = timed("train", lambda: cost(loop, windows, rounds, device)["milliseconds_a_window"])
    found = statistics.median(timed("find", lambda: ranking(model, test, windows, device)) for _ in range(rounds))
    seconds |= {"train": round(trained * len(train) / 1000, 3), "find": round(found * len(test) / 1000, 3)}
    return {"frames": sum(len(s.frames) for s in asked), "windows": {name: len(part) for name, part in parts.items()},
            "candidates": {name: min(part.at_most, len(part.keys)) for name, part in parts.items()}, "seconds": seconds,
            "milliseconds_a_window": {"train": trained, "find": round(found, 3)},
            "peak_memory_mb": memory}  # fmt: skip


@torch.inference_mode()
def ranking(model: StoryModel, test: WindowDataset, windows: int, device: str) -> float:
    """Milliseconds a window to read held-out windows and rank their next page among all held-out pages."""
    model.to(training.pick_device(device)).eval()
    batches, started, seen = training.forward_batches(model, test), clock(device), 0
    for batch in itertools.islice(batches, max(1, windows // 64)):
        read = model.read(batch["image"][:, :-1], batch["text"][:, :-1])
        seen += len(training.page_ranks(read, batch))
    return 1000 * (clock(device) - started) / seen


class CheapEncoder:
    """Vectors as long as the real ones, from eight by eight pixels or from the letters of a text."""

    def __init__(self, size: int) -> None:
        self.matrix = torch.randn(64, size, generator=torch.Generator().manual_seed(size))

    def prepare(self, picture: Any) -> np.ndarray:
        return np.asarray(picture.resize((8, 8)).convert("L"), np.float32).ravel() / 255

    def embed(self, items: Sequence[Any]) -> torch.Tensor:
        rows = [np.resize(np.frombuffer(i.encode(), np.uint8), 64) / 255 if isinstance(i, str) else i for i in items]
        return torch.from_numpy(np.stack(rows).astype(np.float32)) @ self.matrix


def sections(model: StoryModel) -> list[tuple[Any, str, str]]:
    """The functions of a step, each with the part of the profile that it and its backward pass belong to."""
    return [
        (WindowDataset, "__getitems__", "gathering the batch"),
        (StoryModel, "project", "reading the frames"),
        (StoryModel, "read", "reading the frames"),
        (losses, "next_embedding_loss", "next page, of all pages"),
        (losses, "contrastive_loss", "contrastive loss"),
        (decoders.TextDecoder, "forward", "text decoder"),
        (losses, "text_loss", "text decoder"),
        (type(model.image_decoder), "learn", "image decoder"),
        (losses, "image_loss", "image decoder"),
        (torch.nn.utils, "clip_grad_norm_", OPTIMISER),
        (torch.optim.AdamW, "step", OPTIMISER),
    ]


def measure_profile(source: str, device: str, windows: int, **changes: Any) -> dict:
    """Shares of a step's time, in percent; a backward pass belongs to the part whose forward pass made it."""
    config = configure("quick", source=source, device=device, **changes)
    model, parts = datasets(config, prepare(config))
    loop = steps(model, parts["train"], config)
    with ExitStack() as patched:
        for owner, name, label in sections(model):
            patched.enter_context(mock.patch.object(owner, name, labelled(getattr(owner, name), f"part: {label}")))
        next(loop)  # allocates
        seen = 0
        with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("part: whole"):
            while seen < windows:
                seen += next(loop)
    return {"windows": seen, "shares": shares(profiler.events())}


def labelled(function: Callable, label: str) -> Callable:
    """The same function, its calls named in the profile."""

    def call(*args: Any, **options: Any) -> Any:
        with record_function(label):
            return function(*args, **options)

    call.__dict__.update(getattr(function, "__dict__", {}))  # torch marks a step that it watches already
    return call


def shares(events: Sequence[Any]) -> dict[str, float]:
    """Percent of the time by part, from the events of a profile."""
    spans = [(e.time_range.start, e.time_range.end, e.name.removeprefix("part: ")) for e in events
             if e.name.startswith("part: ")]  # fmt: skip
    (whole,) = [end - start for start, end, name in spans if name == "whole"]
    spans = sorted(span for span in spans if span[2] != "whole")
    starts = [start for start, *_ in spans]
    made_by = {}
    for event in events:
        place = np.searchsorted(starts, event.time_range.start, side="right") - 1
        if event.sequence_nr >= 0 and place >= 0 and event.time_range.end <= spans[place][1]:
            made_by.setdefault(event.sequence_nr, spans[place][2])
    spent = dict.fromkeys(dict.fromkeys(name for *_, name in spans), 0.0) | {BACKWARD: 0.0}
    for start, end, name in spans:
        spent[name] += end - start
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function"):
            spent[made_by.get(event.sequence_nr, BACKWARD)] += event.time_range.end - event.time_range.start
    spent[REST] = whole - sum(spent.values())
    return {name: round(100 * value / whole, 2) for name, value in sorted(spent.items(), key=lambda item: -item[1])}


MEASURES: dict[str, Callable[..., dict]] = {
    "profile": measure_profile,
    "encoding": measure_encoding,
    "batch": measure_batch,
    "stories": measure_stories,
}


def main(kind: str, options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    with ExitStack() as patched:
        for side, size in SIZES.items() if kind == "stories" else ():
            cheap = mock.Mock(return_value=CheapEncoder(size))
            patched.enter_context(mock.patch(f"storylib.features.load_{side}_encoder", cheap))
        found = MEASURES[kind](**options)
    if int(os.environ.get("RANK", 0)) == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
