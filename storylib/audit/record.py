"""Tables of the audit's record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

COLUMNS = {
    "a": {
        "top1": "top-1",
        "top1_majority": "majority token",
        "top1_copy_last": "copy-last",
        "top5": "top-5",
        "top5_majority": "majority 5",
        "top5_copy_last": "copy-last 5",
        "cosine": "cosine",
        "cosine_constant": "constant vector",
        "cosine_copy_last": "copy-last picture",
        "shuffled_pictures_change": "change when pictures are shuffled",
    },
    "b": {
        f"{metric}{suffix}": f"{title}{condition}"
        for metric, title in (("bleu", "BLEU"), ("rouge_l", "ROUGE-L"), ("meteor", "METEOR"))
        for suffix, condition in (("", ""), ("_shuffled", ", context shuffled"), ("_copy_last", ", copy-last"))
    },
}
BASELINES = ("majority", "constant", "copy_last")


def table(record: dict[str, Any], system: str, digits: int = 3) -> pd.DataFrame:
    """One row per step, from the protocol as published to the fully repaired one: every score beside its baselines."""
    steps = record["ladders"][system]
    rows = [{title: step["mean"][name] for name, title in COLUMNS[system].items()} for step in steps]
    labels = [f"{i}  {step['label']}" for i, step in enumerate(steps)]
    return pd.DataFrame(rows, index=pd.Index(labels, name="protocol")).map(lambda value: f"{value:.{digits}f}")


def headline(record: dict[str, Any], system: str, metric: str) -> dict[str, float]:
    """A metric under the published protocol and after the last repair, with its best baseline there."""
    first, last = (record["ladders"][system][i]["mean"] for i in (0, -1))
    baselines = [last[f"{metric}_{name}"] for name in BASELINES if f"{metric}_{name}" in last]
    return {"published": first[metric], "repaired": last[metric], "baseline": max(baselines)}


def headlines(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per source and score: under the published protocol, fully repaired, and the best baseline there."""
    rows = []
    for record in records:
        for system, metric in (("a", "top1"), ("a", "cosine"), ("b", "bleu"), ("b", "rouge_l"), ("b", "meteor")):
            scores = headline(record, system, metric)
            row = {
                "source": record["source"].replace("_", " "),
                "system": system.upper(),
                "score": COLUMNS[system][metric],
                "protocol as published": f"{scores['published']:.3f}",
                "protocol repaired": f"{scores['repaired']:.3f}",
                "best baseline, repaired": f"{scores['baseline']:.3f}",
            }
            rows.append(row)
    return pd.DataFrame(rows).set_index(["source", "system", "score"])
