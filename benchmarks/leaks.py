"""How much does a split with leaks inflate the scores of a trained model?

    python -m benchmarks.leaks [--source picture_books] [--seeds 0 1 2] [--epochs 6]

Each seed draws a random split and a leak-free one and trains a model without decoders on each. The record holds
recall@10 of the model and of copy-last, over all seeds, with 95 % intervals over stories and seeds. The two test sets
contain different stories. The windows of the random split are therefore compared with each other, too: those whose
target has a near-duplicate in training, in picture or text, and the others.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.records import write_record
from storylib.analysis.leaks import WAYS, WINDOWS
from storylib.config import Config, configure, project_root
from storylib.data.features import encode
from storylib.data.splits import seen_frames, split_stories
from storylib.experiments.runs import Data, evaluate_run, train, with_available_encoders
from storylib.metrics.intervals import Reduce, interval, story_sums
from storylib.metrics.registry import METRICS, MODEL, Metric
from storylib.sources import load_stories

RECALL = {"picture": METRICS["image_recall@10"], "text": METRICS["text_recall@10"]}
BASELINE = "copy-last"
PAIRED_BY = ["way", "seed", "story", "frame"]


def scores(config: Config, data: Data) -> pd.DataFrame:
    """Per-window scores of a newly trained model and of copy-last, with columns ``seed``, ``way`` and ``seen``."""
    seen = seen_frames(data.splits).set_index(["story", "frame"])["leaked"]
    table = evaluate_run(train(config, data), data).per_window
    table = table[table["predictor"].isin([MODEL, BASELINE]) & table["image_rank"].notna()]
    targets = zip(table["story"], table["frame"], strict=True)
    return table.assign(seed=config.train.seed, way=config.data.split_by, seen=[bool(seen[key]) for key in targets])


def recalls(table: pd.DataFrame) -> list[dict[str, Any]]:
    """One row per split, group of windows and side; model, copy-last and gain are [value, low, high]."""
    leaked, clean, every = WINDOWS
    random = table[table["way"] == "story"]
    groups = [("group", every, table[table["way"] == "group"]), ("story", every, random)]
    groups += [("story", leaked, random[random["seen"]]), ("story", clean, random[~random["seen"]])]
    rows = []
    for way, name, windows in groups:
        if windows.empty:
            continue
        counts = {"windows": len(windows) // 2, "stories": len(windows[["seed", "story"]].drop_duplicates())}
        for side, metric in RECALL.items():
            estimates = intervals(*columns(metric, windows), metric.reduce)
            rows.append({"split": way, "windows_of": name, "side": side, **counts, **estimates})
    return rows


def differences(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The random split minus the leak-free one; within the random split, leaked minus other windows."""
    random = table[table["way"] == "story"]
    comparisons = [
        ("random less leak-free", table, table["way"] == "story"),
        ("seen less not seen", random, random["seen"]),
    ]
    rows = []
    for name, windows, in_first in comparisons:
        for side, metric in RECALL.items():
            values, pairs = columns(metric, windows)
            first = in_first[pairs.index].to_numpy()[:, None]
            if first.all() or not first.any():
                continue
            both = {what: np.concatenate([v * first, v * ~first], axis=1) for what, v in values.items()}  # (windows, 4)
            estimates = intervals(both, pairs, difference_of_means)
            if np.isfinite(list(estimates.values())).all():  # a single story gives no interval
                rows.append({"difference": name, "side": side, **estimates})
    return rows


def columns(metric: Metric, table: pd.DataFrame) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """(hits, windows) of the model, of copy-last and of their difference, with the rows of the model.

    Raises ValueError if the windows of the two are not the same.
    """
    model, baseline = (table[table["predictor"] == name] for name in (MODEL, BASELINE))
    model, baseline = model.sort_values(PAIRED_BY), baseline.sort_values(PAIRED_BY)
    if model[PAIRED_BY].to_numpy().tolist() != baseline[PAIRED_BY].to_numpy().tolist():
        raise ValueError("The windows of the model and of copy-last are not paired.")
    hits, baseline_hits = metric.columns(model), metric.columns(baseline)
    gain = np.stack([hits[:, 0] - baseline_hits[:, 0], hits[:, 1]], axis=1)
    values = {"model": hits, "copy_last": baseline_hits, "gain": gain}
    return values, model


def intervals(values: dict[str, np.ndarray], windows: pd.DataFrame, reduce: Reduce) -> dict[str, list[float]]:
    """[value, low, high] of each predictor, from columns (windows, C)."""
    stories, seeds = windows["story"].to_numpy(), windows["seed"].to_numpy()
    estimates = {what: interval(story_sums(v, stories, seeds), reduce) for what, v in values.items()}
    return {what: [round(x, 2) for x in estimate] for what, estimate in estimates.items()}


def difference_of_means(sums: np.ndarray) -> np.ndarray:
    """First mean minus second, from sums and counts (..., 4); NaN where a draw holds no window of one of them."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaks")
    parser.add_argument("--source", default="picture_books")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--stories", type=int, help="at most this many")
    parser.add_argument("--record", type=Path, default=project_root() / "results" / "leaks.json")
    options = parser.parse_args(arguments)
    settings = {"source": options.source, "text_weight": 0.0, "image_weight": 0.0, "epochs": options.epochs}
    if options.stories:
        settings["stories"] = options.stories
    base = with_available_encoders(configure("quick", **settings))
    stories = load_stories(options.source, limit=base.data.stories, **base.data.options)
    features = encode(stories, base.data.image_encoder, base.data.text_encoder, base.model.image_size)
    tables = []
    for seed in options.seeds:
        for way in WAYS:
            splits = split_stories(stories, seed=seed, by=way)
            config = base.replace(split_by=way, split_seed=seed, seed=seed)
            tables.append(scores(config, Data(stories, splits, features)))
            print(f"seed {seed}, split by {way}: {len(tables[-1]) // 2} windows", flush=True)
    table = pd.concat(tables, ignore_index=True)
    command = ["python", "-m", "benchmarks.leaks", *(sys.argv[1:] if arguments is None else arguments)]
    record = {"command": shlex.join(command), **settings, "seeds": options.seeds, "stories": len(stories)}
    record |= {"rows": recalls(table), "differences": differences(table)}
    write_record(options.record, record)
    print(pd.DataFrame(record["rows"]).to_string(index=False))
    print(pd.DataFrame(record["differences"]).to_string(index=False))


if __name__ == "__main__":
    main()
