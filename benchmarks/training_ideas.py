"""Ideas for finding the next page that no setting says: each a small change of the code, judged on validation stories.

    python -m benchmarks.training_ideas [--sources african_storybook storyworld] [--seeds 0 1 2]

Decoders are off, as in benchmarks.storyteller_ideas. Scores are kept in runs/, so that a command that was cut off goes
on, and results/ideas/training.json is written after each idea. No test story is looked at.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.storyteller_ideas import HYPOTHESIS, WITHOUT_DECODERS, rows, summary
from storylib.config import configure, digest, project_root, runs_dir
from storylib.evaluation import evaluate
from storylib.model import NextEmbedding, StoryModel
from storylib.pictures import write_atomically
from storylib.runs import EVALUATION_CODE, Data, code_fingerprint, prepare, provenance
from storylib.training import Batch, EpochSampler, WindowDataset, build_model, build_vocabulary, cpu_threads, fit

PAGES = 64  # page numbers that are told apart


class Paged(WindowDataset):
    """Windows that also say which page of its story is asked for."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        target = self.frames[torch.as_tensor(indices), -1]
        pages = torch.tensor([self.keys[i][1] for i in target.tolist()])
        return super().__getitems__(indices) | {"page": pages.clamp(max=PAGES - 1)}


class Shortened(WindowDataset):
    """Windows of two to four frames: those before are as if they had not been read (the mean of all pages)."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        batch = super().__getitems__(indices)
        frames = batch["image"].shape[1]  # the context and the target
        hidden = torch.arange(frames) < torch.randint(0, frames - 2, (len(indices), 1))  # (B, K + 1)
        means = {"image": self.image[:].mean(0), "text": self.text[:].mean(0)}
        return batch | {k: torch.where(hidden[..., None], mean, batch[k]) for k, mean in means.items()}


class PageNumber(StoryModel):
    """The mixture also depends on how far the story has come."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for head in (self.next_image, self.next_text):
            head.by_page = nn.Embedding(PAGES, head.mixture.out_features)
            nn.init.zeros_(head.by_page.weight)

    def texts(self, batch: Batch) -> Tensor:
        """Called before each reading, which is when the page is known."""
        for head in (self.next_image, self.next_text):
            head.page = batch.get("page")
        return super().texts(batch)


def mixture_by_page(self: NextEmbedding, state: Tensor, context: Tensor, likeness: Tensor) -> Tensor:
    """``NextEmbedding.forward`` and the weights of the page."""
    return READ(self, state, context, likeness) + torch.einsum("bk,bkd->bd", self.by_page(self.page), context)


READ = NextEmbedding.forward


class LastText(StoryModel):
    """The next picture may also be read off the last text, through a matrix of its own that starts at zero."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.across = nn.Linear(len(self.text_space.mean), len(self.image_space.basis))
        nn.init.zeros_(self.across.weight)
        nn.init.zeros_(self.across.bias)

    def read(self, image: Tensor, text: Tensor, *rest: Any, **more: Any) -> dict[str, Tensor]:
        out = super().read(image, text, *rest, **more)
        last = self.across(self.text_space(text[:, -1])) @ self.image_space.basis
        return out | {"next_image": out["next_image"] + last}


class OneMixture(StoryModel):
    """Pictures and texts are mixed with the same weights."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.next_text.mixture = self.next_image.mixture


class Spread(EpochSampler):
    """An order in which no story comes again before all others have come: a batch holds one window a story."""

    stories: Sequence[str] = ()

    def __iter__(self) -> Iterator[int]:
        mixed = list(super().__iter__())
        turn, seen = {}, Counter[str]()
        for i in mixed:
            turn[i] = seen[self.stories[i]]
            seen[self.stories[i]] += 1
        return iter(sorted(mixed, key=turn.__getitem__))


IDEAS: dict[str, Callable[[ExitStack], type[WindowDataset]]] = {
    "default": lambda stack: WindowDataset,
    "one window a story in each batch": lambda stack: changed(stack, "storylib.training.EpochSampler", Spread),
    "the page number is known": lambda stack: changed(
        stack, "storylib.training.StoryModel", PageNumber, Paged, (NextEmbedding, "forward", mixture_by_page)
    ),
    "windows of two to four frames": lambda stack: Shortened,
    "next picture also from the last text": lambda stack: changed(stack, "storylib.training.StoryModel", LastText),
    "one mixture for pictures and texts": lambda stack: changed(stack, "storylib.training.StoryModel", OneMixture),
}


def changed(
    stack: ExitStack,
    name: str,
    value: Any,
    dataset: type[WindowDataset] = WindowDataset,
    *methods: tuple[Any, str, Any],
) -> type[WindowDataset]:
    """Train with another class under a name, and with other methods; the data set that goes with it."""
    stack.enter_context(mock.patch(name, value))
    for method in methods:
        stack.enter_context(mock.patch.object(*method))
    return dataset


def scored(idea: str, source: str, seed: int, data: Data) -> pd.DataFrame:
    """One row per predictor and page of the validation stories, for one training with an idea."""
    config = configure("quick", source=source, seed=seed, **WITHOUT_DECODERS)
    code = [code_fingerprint(EVALUATION_CODE), Path(__file__).read_text()]
    folder = runs_dir() / "ideas" / digest([config.flat(), idea, code])
    path = folder / "validation.parquet"
    if path.exists():
        return pd.read_parquet(path)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    parts = (data.splits.train, data.splits.validation)
    with ExitStack() as stack, cpu_threads(config.train.threads):
        trained_on = IDEAS[idea](stack)
        judged_on = Paged if trained_on is Paged else WindowDataset
        model = build_model(config, data.features, data.splits, vocabulary)
        train = trained_on(data.features, parts[0], vocabulary, config)
        known, held = (judged_on(data.features, part, vocabulary, config) for part in parts)
        Spread.stories = [w.story.id for w in train.windows]
        model = fit(model, train, held, config.train, folder).model
        found = evaluate(model, vocabulary, known, held)[0].assign(seed=seed)
    found.to_parquet(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sources", nargs="+", default=["african_storybook", "storyworld"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--record", type=Path, default=project_root() / "results/ideas/training.json")
    options = parser.parse_args()
    record: dict[str, Any] = {"command": "python -m benchmarks.training_ideas", "title": "Training otherwise"}
    record |= {"hypothesis": HYPOTHESIS.format(seeds=len(options.seeds)), "seeds": options.seeds, "validation": {}}
    for source in options.sources:
        data = prepare(configure("quick", source=source, **WITHOUT_DECODERS))
        done = record["validation"].setdefault(source, {})
        tables: dict[str, pd.DataFrame] = {}
        for idea in tqdm(IDEAS, desc=source, unit="idea"):
            tables[idea] = pd.concat([scored(idea, source, s, data) for s in options.seeds], ignore_index=True)
            done[idea] = summary(tables[idea], tables["default"])
            record |= {"rows": rows(record["validation"]), "provenance": provenance("cpu")}
            options.record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(options.record, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
