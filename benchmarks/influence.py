"""How much does each context frame's picture and text matter to the predictions, with the contrastive loss and without?

    python -m benchmarks.influence [--source picture_books] [--profile full] [--seeds 3]

It trains nothing: the runs of the ablation must be there. A pretrained text decoder takes minutes per run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.records import write_record
from storylib.analysis.influence import influence
from storylib.config import build_name, configure, project_root, seeds
from storylib.experiments.runs import find_run, prepare
from storylib.experiments.studies import ablation_factor


def arm_influences(source: str, profile: str, count: int) -> pd.DataFrame:
    """``influence`` by arm of the ablation, of the runs of the first seeds. Raises RunError if one is missing."""
    factor, tables = ablation_factor(), {}
    for arm, words in zip(factor.arms, factor.words, strict=True):
        configs = [configure(profile, arm, source=source, seed=seed) for seed in seeds(profile)[:count]]
        tables[words] = influence([find_run(config) for config in configs], prepare(configs[0]))
    return pd.concat(tables, names=["arm"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.influence")
    parser.add_argument("--source", default="picture_books")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--seeds", type=int, default=3, help="the first so many of the profile")
    parser.add_argument("--record", type=Path, help="default: results/influence/<source>-<profile>.json")
    options = parser.parse_args(arguments)
    source, profile, count = options.source, options.profile, options.seeds
    table = arm_influences(source, profile, count).astype(float).round(6).rename(columns=str)
    print(table)
    name = build_name(source, profile)
    command = f"python -m benchmarks.influence --source {source} --profile {profile} --seeds {count}"
    head = {"command": command, "source": source, "profile": profile, "seeds": seeds(profile)[:count]}
    rows = table.reset_index().to_dict("records")
    write_record(options.record or project_root() / "results" / "influence" / f"{name}.json", head | {"rows": rows})


if __name__ == "__main__":
    main()
