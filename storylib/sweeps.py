"""Where the contrastive loss matters: one thing changed at a time, with the loss and without it.

python -m storylib.sweeps --source african_storybook --profile full    # trains what is missing and writes the record

Training happens here; the chapter only reads the record. Points are in experiments.yml under ``sweeps``. Several of
these commands may run beside each other with different ``--only``: they share runs and the record.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from filelock import FileLock

from storylib.ablation import publish_command, published
from storylib.comparison import compare, identical
from storylib.config import Config, configure, experiments, seeds
from storylib.encoders import EncoderError
from storylib.pictures import write_atomically
from storylib.protocol import METRICS
from storylib.runs import Data, Run, RunError, describe, evaluate_run, pooled_metrics, prepare, publishable, train

# Without decoders; and the story state may correct the next embedding, else neither the loss nor the fusion reached it.
WITHOUT_DECODERS: dict[str, Any] = {"text_weight": 0.0, "image_weight": 0.0, "state_dropout": 0.5}
SHOWN = ("image_to_text_recall@10", "image_to_text_mrr", "image_recall@10", "text_recall@10", "page_mrr",
         "page_recall@10", "page_story_recall@1", "alignment", "modality_gap")  # fmt: skip
LOSS_ONLY = {"contrastive_weight", "contrastive_loss", "temperature", "learned_temperature"}


def points(profile: str, source: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(sweep, value, diff) of every point of ``experiments.yml``."""
    for sweep, values in experiments().get("sweeps", {}).items():
        for value, diff in values.items():
            configure(profile, source=source, **WITHOUT_DECODERS, **diff)  # a misspelt field costs no training
            yield sweep, str(value), dict(diff)


def arm_configs(profile: str, source: str, diff: Mapping[str, Any], on: bool) -> list[Config]:
    """One configuration a seed. Without the loss, what only shapes the loss makes no difference and is left out."""
    changes = {"contrastive_weight": 1.0} | dict(diff)
    if not on:
        changes = {k: v for k, v in diff.items() if k not in LOSS_ONLY} | {"contrastive_weight": 0.0}
    return [configure(profile, source=source, seed=s, **WITHOUT_DECODERS, **changes) for s in seeds(profile)]


def run_arm(configs: Sequence[Config]) -> list[Run]:
    """Train and evaluate what is not there yet; the seeds of an arm share their data."""
    data = _prepared(configs[0].replace(seed=0, contrastive_weight=0.0, batch_size=1))
    return [evaluate_run(train(config, data), data) for config in configs]


@lru_cache(maxsize=2)
def _prepared(config: Config) -> Data:
    return prepare(config)


def run_sweeps(profile: str, source: str, path: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Every point in both arms; the record is written after each point, so that a killed run loses at most one.

    Raises RunError before anything is trained if the code is not committed.
    """
    made = publishable()
    order = [(s, v) for s, v, _ in points(profile, source)]
    head = {"command": f"python -m storylib.sweeps --source {source} --profile {profile}"}
    for sweep, value, diff in points(profile, source):
        if only and sweep not in only:
            continue
        try:
            arms = {arm: run_arm(arm_configs(profile, source, diff, arm == "on")) for arm in ("on", "off")}
        except EncoderError as error:  # the record says so rather than leaving the point out in silence
            entry: dict[str, Any] = {"sweep": sweep, "value": value, "diff": diff, "not run": str(error)}
        else:
            entry = {"sweep": sweep, "value": value, "diff": diff, **measured(arms["on"], arms["off"])}
        with FileLock(f"{path}.lock"):
            done = json.loads(path.read_text())["points"] if path.exists() else []
            done = [p for p in done if (p["sweep"], p["value"]) in order and (p["sweep"], p["value"]) != (sweep, value)]
            done = sorted([*done, entry], key=lambda p: order.index((p["sweep"], p["value"])))
            facts = {"source": source, "profile": profile, "seeds": seeds(profile)}
            record = head | facts | made | {"points": done}
            write_atomically(path, json.dumps(record, indent=1) + "\n")
        logging.info("%s = %s is done", sweep, value)
    return record


def measured(on: Sequence[Run], off: Sequence[Run]) -> dict[str, Any]:
    """The shown metrics of both arms with intervals and floors, and their paired difference."""
    arms = {"on": pooled_metrics(on), "off": pooled_metrics(off)}
    compared = compare(on, off).frame.set_index("metric")
    entries: dict[str, Any] = {}
    for metric in (m for m in SHOWN if m in compared.index):
        row = compared.loc[metric]
        entries[metric] = {
            arm: {"value": scores[metric]["value"], "interval": scores[metric]["interval"]}
            for arm, scores in arms.items()
        }
        entries[metric]["floors"] = arms["on"][metric]["floors"]
        keys = ("difference", "low", "high", "p_holm", "detectable")
        entries[metric] |= {k: round(float(row[k]), 6) for k in keys} | {"verdict": row["verdict"]}
    return {"runs": {"on": costs(on), "off": costs(off)}, "metrics": entries}


def costs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs behind a record: seed, commit, device, seconds and memory of each."""
    return json.loads(describe(runs).reset_index().to_json(orient="records"))


def load_sweeps(source: str, profile: str = "full") -> dict[str, Any]:
    """The published record. Raises RunError, which names the command that makes it."""
    path = published("sweeps", source, profile)
    if not path.exists():
        command = f"python -m storylib.sweeps --source {source} --profile {profile}"
        raise RunError(f"There is no record of sweeps over {source!r}. `{command}` makes it.")
    return dict(json.loads(path.read_text()))


def sweep_tables(record: Mapping[str, Any], metric: str, floors: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """By sweep, the rows that ``plots.sweeps`` draws. floors: those to draw; the best ones and chance by default."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for point in record["points"]:
        if metric not in point.get("metrics", {}):
            continue
        entry = point["metrics"][metric]
        honest = {k: v for k, v in entry["floors"].items() if k != "best of context"}
        best = max(honest, key=lambda name: METRICS[metric].merit(honest[name]))
        shown = {
            f"floor: {name}": honest[name] for name in (floors or dict.fromkeys(("chance", best))) if name in honest
        }
        for arm in ("off", "on"):
            low, high = entry[arm]["interval"]
            row = {"value": point["value"], "arm": arm, "low": low, "mean": entry[arm]["value"], "high": high}
            tables.setdefault(point["sweep"], []).append(row | shown)
    return {sweep: pd.DataFrame(rows) for sweep, rows in tables.items()}


def sweep_sentences(record: Mapping[str, Any], metric: str) -> list[str]:
    """What the record says of one metric, in words chosen by the verdicts: where the loss helps, hurts, or neither."""
    digits, title = METRICS[metric].digits, METRICS[metric].title
    found = [(p["sweep"], p["value"], p["metrics"][metric]) for p in record["points"] if metric in p.get("metrics", {})]
    if not found:
        return [f"{title.capitalize()}: not measured."]
    count = {v: sum(e["verdict"] == v for _, _, e in found) for v in ("better", "worse", "no difference")}
    said = [
        f"{title.capitalize()}: of {len(found)} settings the loss makes {count['better']} better and {count['worse']} "
        f"worse; in {count['no difference']} no difference is seen."
    ]
    largest = max(found, key=lambda f: abs(f[2]["difference"]))
    sweep, value, entry = largest
    span = (
        f"{entry['difference']:+.{digits}f} (95 % interval {entry['low']:+.{digits}f} to {entry['high']:+.{digits}f})"
    )
    said.append(f"The largest difference is {span}, at {sweep} = {value}: {entry['verdict']}.")
    same = sum(identical(e) for _, _, e in found)
    if same:
        said.append(f"In {same} of them both arms score exactly the same in every story.")
    blind = [e["detectable"] for _, _, e in found if e["verdict"] == "no difference" and not identical(e)]
    if blind:
        middle = f"{median(blind):.{digits}f}"  # a few seeds that happen to differ make single ones huge
        said.append(f"Where none is seen, one of {middle} (the median setting) would have been, four times in five.")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.sweeps", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="some of the sweeps of experiments.yml")
    return publish_command(parser, "sweeps", lambda o, path: run_sweeps(o.profile, o.source, path, o.only), arguments)


if __name__ == "__main__":
    sys.exit(main())
