"""How much does each context frame's picture and text matter to the predictions, with the contrastive loss and without?

    python -m benchmarks.influence [--source picture_books] [--profile full] [--seeds 3]

It trains nothing: the runs of the ablation must be there. A pretrained text decoder takes minutes per run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.records import write_record
from storylib.analysis.influence import arm_influences
from storylib.config import build_name, project_root, seeds


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
