"""What a leak is worth to a trained model: the same stories, split at random by story and by leak-free groups.

    python -m benchmarks.leaks [--source african_storybook] [--seeds 0 1 2] [--epochs 6] [--record results/leaks.json]

For every seed, which draws the split, the weights and the batches, one model is trained on each kind of split, for
retrieval only. Recall@10 of the model and of copying the last frame, over all seeds, with 95 % intervals over stories
and seeds. The two test sets hold different stories, so the random split's own windows are compared too: those whose
page, its picture or its text, a training story shows or says almost the same, and the others.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.config import Config, configure, project_root
from storylib.evaluation import METRICS, MODEL, sums_of
from storylib.features import encode
from storylib.leaks import WAYS, WINDOWS
from storylib.pictures import write_atomically
from storylib.runs import Data, evaluate_run, provenance, train, with_available_encoders
from storylib.sources import load_stories
from storylib.statistics import interval, paired_difference
from storylib.stories import seen_pages, split_stories

RECALL = {"picture": METRICS["image_recall@10"], "text": METRICS["text_recall@10"]}
COPY = "copy-last"


def windows_of(config: Config, data: Data) -> pd.DataFrame:
    """Scores of a model trained on ``data`` and of copy-last, one row a predictor and window, with ``seen``."""
    by_picture, by_text = seen_pages(data.splits)
    pages = [(story.id, frame.page) for story in data.splits.test for frame in story.frames]
    seen = dict(zip(pages, (by_picture | by_text).tolist(), strict=True))
    table = evaluate_run(train(config, data), data).per_window
    table = table[table["predictor"].isin([MODEL, COPY]) & table["image_rank"].notna()]
    keys = zip(table["story"], table["page"], strict=True)
    return table.assign(seed=config.train.seed, way=config.data.split_by, seen=[seen[key] for key in keys])


def measured(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each kind of split, group of windows and side: both recalls and the gain, [value, low, high] each."""
    rows = []
    for (way, windows), chosen in groups(table).items():
        model, copied = (chosen[chosen["predictor"] == name] for name in (MODEL, COPY))
        counts = {"windows": len(model), "stories": model[["seed", "story"]].drop_duplicates().shape[0]}
        for side, metric in RECALL.items():
            found: dict[str, Any] = {}
            if len(model):
                for name, part in (("model", model), ("copy_last", copied)):
                    found[name] = interval(sums_of(metric, part), metric.reduce)
                found["gain"] = paired_difference(sums_of(metric, model), sums_of(metric, copied), metric.reduce)
            numbers = {k: [round(x, 2) for x in (v.value, v.low, v.high)] for k, v in found.items()}
            rows.append({"split": way, "windows_of": windows, "side": side, **counts, **numbers})
    return rows


def groups(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each kind of split, and of the random split those that leaked and those that did not."""
    random, apart = (table[table["way"] == way] for way in WAYS)
    leaked, clean, every = WINDOWS
    return {
        ("group", every): apart,
        ("story", every): random,
        ("story", leaked): random[random["seen"]],
        ("story", clean): random[~random["seen"]],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--record", type=Path, default=project_root() / "results" / "leaks.json")
    options = parser.parse_args(arguments)
    settings = {"source": options.source, "text_weight": 0.0, "image_weight": 0.0, "epochs": options.epochs}
    base = with_available_encoders(configure("quick", **settings))
    stories = load_stories(options.source, limit=base.data.stories)
    features = encode(stories, base.data.image_encoder, base.data.text_encoder, base.model.image_size)
    tables = []
    for seed in options.seeds:
        for way in WAYS:
            splits = split_stories(stories, seed=seed, by=way)
            config = base.replace(split_by=way, split_seed=seed, seed=seed)
            tables.append(windows_of(config, Data(stories, splits, features)))
            print(f"seed {seed}, split by {way}: {len(tables[-1]) // 2} windows", flush=True)
    rows = measured(pd.concat(tables, ignore_index=True))
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.leaks", *(sys.argv[1:] if arguments is None else arguments)]),
        **settings,
        "seeds": options.seeds,
        "stories": len(stories),
        "rows": rows,
        **provenance("cpu"),
    }
    write_atomically(options.record, json.dumps(record, indent=1) + "\n")
    print(pd.DataFrame(rows).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
