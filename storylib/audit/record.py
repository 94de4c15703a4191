"""Tables of the audit's record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

COLUMNS = {
    "a": {
        "top1": "top-1", "top1_majority": "majority token", "top1_copy_last": "copy-last",
        "top5": "top-5", "top5_majority": "majority 5", "top5_copy_last": "copy-last 5",
        "cosine": "cosine", "cosine_constant": "constant vector", "cosine_copy_last": "copy-last picture",
        "shuffled_pictures_change": "change when pictures are shuffled",
    },
    "b": {
        f"{metric}{suffix}": f"{title}{condition}"
        for metric, title in (("bleu", "BLEU"), ("rouge_l", "ROUGE-L"), ("meteor", "METEOR"))
        for suffix, condition in (("", ""), ("_shuffled", ", context shuffled"), ("_copy_last", ", copy-last"))
    },
}  # fmt: skip
HEADLINES = (("a", "top1"), ("a", "cosine"), ("b", "bleu"), ("b", "rouge_l"), ("b", "meteor"))


def table(record: dict[str, Any], system: str) -> pd.DataFrame:
    """One row per step, from the protocol as published to the fully repaired one: every score beside its baselines."""
    steps = record["ladders"][system]
    rows = [{title: step["mean"][name] for name, title in COLUMNS[system].items()} for step in steps]
    labels = [f"{i}  {step['label']}" for i, step in enumerate(steps)]
    return pd.DataFrame(rows, index=pd.Index(labels, name="protocol")).map("{:.3f}".format)


def headline(record: dict[str, Any], system: str, metric: str) -> dict[str, float]:
    """A metric under the published protocol and after the last repair, with its best baseline there."""
    first, last = (record["ladders"][system][i]["mean"] for i in (0, -1))
    names = [f"{metric}_{baseline}" for baseline in ("majority", "constant", "copy_last")]
    best = max(last[name] for name in names if name in last)
    return {"published": first[metric], "repaired": last[metric], "baseline": best}


def headlines(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per source and score: under the published protocol, fully repaired, and the best baseline there."""
    rows = []
    for record in records:
        for system, metric in HEADLINES:
            place = (record["source"].replace("_", " "), system.upper(), COLUMNS[system][metric])
            rows.append((*place, *headline(record, system, metric).values()))
    columns = ["source", "system", "score", "protocol as published", "protocol repaired", "best baseline, repaired"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:3]).map("{:.3f}".format)
