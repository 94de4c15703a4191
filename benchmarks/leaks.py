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

import numpy as np
import pandas as pd

from storylib.config import Config, configure, project_root
from storylib.evaluation import MODEL
from storylib.features import encode
from storylib.leaks import WAYS, WINDOWS
from storylib.pictures import write_atomically
from storylib.protocol import METRICS, Metric
from storylib.runs import Data, evaluate_run, provenance, train, with_available_encoders
from storylib.sources import load_stories
from storylib.statistics import Interval, interval, story_sums
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
    table = table.sort_values(["story", "page"], kind="stable")
    keys = zip(table["story"], table["page"], strict=True)
    return table.assign(seed=config.train.seed, way=config.data.split_by, seen=[seen[key] for key in keys])


def measured(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row for each kind of split, group of windows and side: recalls and the gain, [value, low, high] each."""
    rows = []
    leaked, clean, every = WINDOWS
    random, apart = (table[table["way"] == way] for way in WAYS)
    groups = [("group", every, apart), ("story", every, random)]
    groups += [("story", leaked, random[random["seen"]]), ("story", clean, random[~random["seen"]])]
    for way, windows, chosen in groups:
        stories = chosen[["seed", "story"]].drop_duplicates()
        for side, metric in RECALL.items() if len(chosen) else ():
            found = {
                name: interval(story_sums(c, *keys), metric.reduce) for name, c, keys in columns_of(metric, chosen)
            }
            counts = {"windows": len(chosen) // 2, "stories": len(stories)}
            rows.append({"split": way, "windows_of": windows, "side": side, **counts, **rounded(found)})
    return rows


def differences(table: pd.DataFrame) -> list[dict[str, Any]]:
    """How far the same scores are apart: random less group split, and in the random one leaked less clean windows."""
    rows = []
    random = table[table["way"] == "story"]
    for name, chosen, first in (
        ("random less leak-free", table, table["way"] == "story"),
        ("seen less not seen", random, random["seen"]),
    ):
        flag = first[chosen["predictor"] == MODEL].to_numpy()[:, None]
        for side, metric in RECALL.items() if 0 < flag.sum() < len(flag) else ():
            found = {}
            for what, columns, keys in columns_of(metric, chosen):
                both = np.concatenate([columns * flag, columns * ~flag], axis=1)  # (windows, 4)
                found[what] = interval(story_sums(both, *keys), apart_by)
            if all(np.isfinite([v.value, v.low, v.high]).all() for v in found.values()):  # not with a single story
                rows.append({"difference": name, "side": side, **rounded(found)})
    return rows


def apart_by(sums: np.ndarray) -> np.ndarray:
    """Two means from (..., 4) sums and counts, the first less the second; none where a draw holds no such window."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


def columns_of(metric: Metric, table: pd.DataFrame) -> list[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray]]]:
    """(hits, windows) of the model, of copy-last and of what one gains over the other; with stories and seeds."""
    model, copied = (table[table["predictor"] == name] for name in (MODEL, COPY))
    where = ["way", "seed", "story", "page"]
    assert model[where].to_numpy().tolist() == copied[where].to_numpy().tolist(), "the windows are not paired"
    keys = (model["story"].to_numpy(), model["seed"].to_numpy())
    a, b = metric.columns(model), metric.columns(copied)
    gained = np.stack([a[:, 0] - b[:, 0], a[:, 1]], axis=1)
    return [("model", a, keys), ("copy_last", b, keys), ("gain", gained, keys)]


def rounded(found: dict[str, Interval]) -> dict[str, list[float]]:
    return {name: [round(x, 2) for x in (v.value, v.low, v.high)] for name, v in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--stories", type=int, help="at most this many")
    parser.add_argument("--record", type=Path, default=project_root() / "results" / "leaks.json")
    options = parser.parse_args(arguments)
    settings = {"source": options.source, "text_weight": 0.0, "image_weight": 0.0, "epochs": options.epochs}
    settings |= {"stories": options.stories} if options.stories else {}
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
    table = pd.concat(tables, ignore_index=True)
    rows, apart = measured(table), differences(table)
    asked = sys.argv[1:] if arguments is None else arguments
    record = {
        "command": shlex.join(["python", "-m", "benchmarks.leaks", *asked]),
        **settings,
        "seeds": options.seeds,
        "stories": len(stories),
        "rows": rows,
        "differences": apart,
        **provenance("cpu"),
    }
    write_atomically(options.record, json.dumps(record, indent=1) + "\n")
    for found in (rows, apart):
        print(pd.DataFrame(found).to_string(index=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
