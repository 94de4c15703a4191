"""The real picture books in numbers: sizes and near-duplicates by source, and how far baselines get on each.

    python -m benchmarks.shelves [--source picture_books] [--stories N]

The record holds stories, frames and windows of each source in each part of two splits, the leak-free one and the one
that tests on the sources it does not train on; near-duplicates within and across sources; how many test frames a random
split leaks; and the baselines on the test stories of each source.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.records import write_record
from storylib.analysis.leaks import leak_shares
from storylib.config import Config, configure, project_root
from storylib.data.duplicates import frame_clusters, story_indices
from storylib.data.splits import Splits, split_stories
from storylib.data.types import Story, windows
from storylib.data.windows import WindowDataset
from storylib.evaluation import score_baselines
from storylib.experiments.runs import prepare
from storylib.metrics.registry import METRICS
from storylib.training import build_model, build_vocabulary

SPLITS = {"group": "leak-free", "source": "other shelf"}
BASELINES = ("chance", "copy-last", "mean", "recency", "linear map")
SHOWN = ("image_recall@10", "text_recall@10", "frame_in_story_recall@1", "frame_mrr", "image_to_text_recall@10",
         "image_to_description_recall@10", "described_image_to_text_recall@10")  # fmt: skip


def sizes(splits: Splits) -> Iterator[dict[str, Any]]:
    """One row per part and source: stories, frames, windows of five frames, and frames with a description."""
    for part, stories in (*splits, ("left out", splits.left_out)):
        for source in sorted({story.source for story in stories}):
            own = [story for story in stories if story.source == source]
            frames = [frame for story in own for frame in story.frames]
            yield {"part": part, "source": source, "stories": len(own), "frames": len(frames),
                   "windows": sum(1 for _ in windows(own)),
                   "described": sum(frame.description is not None for frame in frames)}  # fmt: skip


def duplicates(stories: Sequence[Story]) -> Iterator[dict[str, Any]]:
    """One row per source and kind: frames with a near-duplicate in another story of the source, and of another one."""
    owners = story_indices(stories)  # (frames,)
    sources = np.array([stories[owner].source for owner in owners])
    for kind in ("picture", "text"):
        frames = pd.DataFrame({"cluster": frame_clusters(stories, [kind]), "story": owners, "source": sources})
        by_cluster = frames.groupby("cluster")
        stories_of = by_cluster["story"].nunique()[frames["cluster"]].to_numpy()
        own = frames.groupby(["cluster", "source"])["story"].nunique()
        in_source = own[list(zip(frames["cluster"], frames["source"], strict=True))].to_numpy()
        for source in np.unique(sources):
            of_source = sources == source
            within, across = int((in_source[of_source] > 1).sum()), int((stories_of > in_source)[of_source].sum())
            yield {"source": source, "kind": kind, "within": within, "across": across}


def baseline_scores(config: Config) -> Iterator[dict[str, Any]]:
    """One row per source of the test stories, and for all of them: each shown metric of each baseline."""
    data = prepare(config)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    model = build_model(config, data.features, data.splits, vocabulary)
    parts = (data.splits.train, data.splits.test)
    train, held_out = (WindowDataset(data.features, part, vocabulary, config) for part in parts)
    table = score_baselines(model, vocabulary, train, held_out)
    source_of = {story.id: story.source for story in data.splits.test}
    for source in ("all", *sorted(set(source_of.values()))):
        rows = table if source == "all" else table[table["story"].map(source_of) == source]
        by_name = {str(name): part for name, part in rows.groupby("predictor") if name in BASELINES}
        scores = {name: METRICS[name].values(by_name) for name in SHOWN}
        count = int((rows["predictor"] == "copy-last").sum())
        yield {"split": config.data.split_by, "source": source, "windows": count, "scores": scores}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shelves")
    parser.add_argument("--source", default="picture_books")
    parser.add_argument("--stories", type=int, help="at most this many")
    parser.add_argument("--record", type=Path, default=project_root() / "results" / "shelves.json")
    options = parser.parse_args(arguments)
    limit = {"stories": options.stories} if options.stories else {}
    config = configure("full", source=options.source, text_weight=0.0, image_weight=0.0, **limit)
    stories = prepare(config).stories
    record: dict[str, Any] = {"source": options.source, "stories": len(stories)}
    record["sizes"] = {way: [*sizes(split_stories(stories, config.data.split_seed, way))] for way in SPLITS}
    record["duplicates"] = [*duplicates(stories)]
    record["leaks"] = leak_shares(stories, config.data.split_seed)
    record["baselines"] = [row for way in SPLITS for row in baseline_scores(config.replace(split_by=way))]
    write_record(options.record, record)
    for rows in (*record["sizes"].values(), record["duplicates"], record["leaks"]):
        print(pd.DataFrame(rows).round(1).to_string(index=False))
    for row in record["baselines"]:
        print(row["split"], row["source"], row["windows"])
        print(pd.DataFrame(row["scores"]).round(2).T.to_string())


if __name__ == "__main__":
    main()
