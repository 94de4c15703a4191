"""What could an alignment of pictures and texts buy at most?

    python -m benchmarks.oracle [--source picture_books] [--profile full] [--seeds 3]

An oracle reads the target's own picture, and is judged by the words; another reads the target's own text, and is judged
by the picture. Where even that does not help, no loss between pictures and texts can. Both are compared with the same
model without the contrastive loss, paired by seed and window.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import write_record
from storylib.config import build_name, configure, project_root, seeds
from storylib.experiments.comparison import compare
from storylib.experiments.records import Run, describe
from storylib.experiments.studies import Factor, ablation_factor, run_arm

JUDGED_BY = {"target picture": "nats_per_word", "target text": "picture_distance"}


def runs(source: str, profile: str, count: int, **inputs: str) -> list[Run]:
    """A run of each of the first seeds without the contrastive loss."""
    _, without = ablation_factor().arms
    return run_arm([configure(profile, without, source=source, seed=seed, **inputs) for seed in seeds(profile)[:count]])


def measure(source: str, profile: str, count: int) -> list[dict[str, Any]]:
    """The row of each oracle's endpoint in its comparison with the model, and the runs behind it."""
    model, rows = runs(source, profile, count), []
    for inputs, metric in JUDGED_BY.items():
        oracle = runs(source, profile, count, inputs=inputs)
        factor = Factor(f"the {inputs}", (inputs, "both"), endpoints={metric: ablation_factor().endpoints[metric]})
        frame = compare(oracle, model, factor).frame.set_index("metric", drop=False)
        row = json.loads(frame.loc[metric].to_json(double_precision=6))
        rows.append({"inputs": inputs} | row | {"runs": describe(oracle).reset_index().to_dict("records")})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.oracle")
    parser.add_argument("--source", default="picture_books")
    parser.add_argument("--profile", default="full")
    parser.add_argument("--seeds", type=int, default=3, help="the first so many of the profile")
    parser.add_argument("--record", type=Path, help="default: results/oracle/<source>-<profile>.json")
    options = parser.parse_args(arguments)
    name = build_name(options.source, options.profile)
    rows = measure(options.source, options.profile, options.seeds)
    for row in rows:
        print(row["inputs"], row["metric"], row["a"], row["b"], row["difference"], row["low"], row["high"])
    command = (
        f"python -m benchmarks.oracle --source {options.source} --profile {options.profile} --seeds {options.seeds}"
    )
    head = {"command": command, "source": options.source, "profile": options.profile}
    head |= {"seeds": seeds(options.profile)[: options.seeds]}
    write_record(options.record or project_root() / "results" / "oracle" / f"{name}.json", head | {"oracles": rows})


if __name__ == "__main__":
    main()
