"""How much does each context frame's picture and text matter to the predictions, with the contrastive loss and without?

    python -m benchmarks.influence [--source picture_books] [--profile full] [--seeds 3]

It trains nothing: the runs of the ablation must be there. A pretrained text decoder takes minutes per run.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from benchmarks.records import publish_study
from storylib.analysis.influence import influence
from storylib.config import configure, seeds
from storylib.experiments.runs import find_run, prepare
from storylib.experiments.studies import ablation_factor


def measure(source: str, profile: str, count: int) -> dict[str, Any]:
    """``influence`` by arm of the ablation, of the runs of the first seeds. Raises RunError if one is missing."""
    factor, tables = ablation_factor(), {}
    for arm, words in zip(factor.arms, factor.words, strict=True):
        configs = [configure(profile, arm, source=source, seed=seed) for seed in seeds(profile)[:count]]
        tables[words] = influence([find_run(config) for config in configs], prepare(configs[0]))
    table = pd.concat(tables, names=["arm"]).astype(float).round(6).rename(columns=str)
    return {"rows": table.reset_index().to_dict("records")}


if __name__ == "__main__":
    publish_study("influence", measure)
