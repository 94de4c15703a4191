"""The ablation as a record: two arms that were trained elsewhere, compared. Nothing here trains or encodes.

python -m storylib.ablation --source african_storybook --profile full    # publishes it in results/ablation
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from storylib.comparison import Comparison, compare
from storylib.config import Config, ConfigError, configure, project_root, runs_dir, seeds
from storylib.pictures import write_atomically
from storylib.runs import TRAINING_CODE, Run, RunError, code_fingerprint, describe, publishable

ARMS = ("contrastive-on", "contrastive-off")


@dataclass(frozen=True)
class Ablation:
    """Arm ``arms[0]`` against ``arms[1]``: the paired table, the runs behind it, and how much was looked at."""

    comparison: Comparison
    runs: pd.DataFrame  # as by ``describe``
    facts: dict[str, Any]  # source, profile, arms, seeds, test_stories, test_windows
    published: dict[str, Any] | None = None  # what ``origin`` says of a published record; None: from runs that are here


def load_ablation(
    source: str = "storyworld", profile: str = "quick", on: str = ARMS[0], off: str = ARMS[1]
) -> Ablation:
    """From finished runs where they are, or else from the published record. Raises RunError, which says what to do."""
    configs = {arm: [configure(profile, arm, source=source, seed=s) for s in seeds(profile)] for arm in (on, off)}
    try:
        runs = {arm: [find_run(c) for c in wanted] for arm, wanted in configs.items()}
    except RunError as error:
        if (on, off) != ARMS or not published("ablation", source, profile).exists():
            raise error
        return as_published(load_published(source, profile))
    record = runs[on][0].record["data"]
    facts = {
        "source": source,
        "profile": profile,
        "arms": [on, off],
        "seeds": seeds(profile),
        "test_stories": record["stories"]["test"],
        "test_windows": record["windows"]["test"],
    }
    comparison = compare(runs[on], runs[off], names=_names(on, off))
    return Ablation(comparison, describe([*runs[on], *runs[off]]), facts)


def load_published(source: str, profile: str = "full") -> dict[str, Any]:
    """The published record with its facts. Raises RunError, which names the command that makes it."""
    path = published("ablation", source, profile)
    if not path.exists():
        command = f"make runs SOURCE={source} PROFILE={profile}"
        raise RunError(f"There is no record of the ablation on {source!r}. `{command}` makes it.")
    record = json.loads(path.read_text(encoding="utf-8"))
    return record | record["facts"]


def as_published(record: Mapping[str, Any]) -> Ablation:
    """The ablation that a published record holds."""
    frame = pd.DataFrame(record["metrics"])
    frame[["effect", "effect_low", "effect_high"]] = frame[["effect", "effect_low", "effect_high"]].astype(float)
    a, b = record["names"]
    runs = pd.DataFrame(record["runs"]).set_index("run")
    return Ablation(Comparison(frame, (a, b)), runs, record["facts"], record["facts"] | {"commit": record["commit"]})


def find_run(config: Config) -> Run:
    """The newest evaluated run of a configuration, found by what its record says. Raises RunError."""
    wanted = config.identity()
    found = []
    for path in sorted(runs_dir().glob("*/run.json")):
        record = json.loads(path.read_text())
        settings = record["config"]
        asked = record.get("encoders_asked")
        if asked:  # "a or b" is settled when a run is trained
            settings = settings | {"image_encoder": asked[0], "text_encoder": asked[1]}
        try:
            same = Config().replace(**settings).identity() == wanted
        except ConfigError:  # of a version with other fields
            continue
        if same and path.with_name("metrics.json").exists():
            current = record["code"] == code_fingerprint(TRAINING_CODE)
            found.append((current, path.stat().st_mtime, path.parent))
    if not found:
        source, seed = config.data.source, config.train.seed
        raise RunError(
            f"There is no evaluated run of {source!r} with contrastive_weight={config.train.contrastive_weight:g} and "
            f"seed={seed}. This page reads records and never trains: `make runs SOURCE={source}` (or `python -m "
            f"storylib evaluate --source {source} --arm ... --seed {seed}`) makes them."
        )
    return Run(max(found)[2])


def published(kind: str, source: str, profile: str) -> Path:
    """Where a published record of a source is: in the project, or beside the installed package."""
    path = to_publish(kind, source, profile)
    found = (folder / path.name for folder in result_folders(kind))
    return next((p for p in found if p.exists()), path)


def to_publish(kind: str, source: str, profile: str) -> Path:
    """Where a record of a source is published: in the project."""
    return project_root() / "results" / kind / (re.sub(r"[^\w.-]+", "_", f"{source}-{profile}") + ".json")


def result_folders(kind: str) -> list[Path]:
    """Where published records lie: in the project, in the checkout of this module, or inside the installed package."""
    here = Path(__file__)
    return [root / "results" / kind for root in (project_root(), here.parents[1], here.parent)]


def publish_command(
    parser: argparse.ArgumentParser,
    kind: str,
    write: Callable[[argparse.Namespace, Path], Any],
    arguments: Sequence[str] | None,
) -> int:
    """The command line that makes a record of a source; returns the exit code.

    write: makes the record of ``options.source`` and ``options.profile`` at a path.
    """
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--profile", default="full")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    path = to_publish(kind, options.source, options.profile)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(options, path)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def publish(ablation: Ablation, path: Path) -> None:
    """Write the record: numbers only. Raises RunError if the code is not committed."""
    source, profile = (ablation.facts[k] for k in ("source", "profile"))
    record = {
        "command": f"python -m storylib.ablation --source {source} --profile {profile}",
        "facts": ablation.facts,
        **publishable(),
        "names": ablation.comparison.names,
        "runs": ablation.runs.reset_index().to_dict("records"),
        "metrics": json.loads(ablation.comparison.frame.round(6).to_json(orient="records")),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(record, indent=1) + "\n")


def _names(on: str, off: str) -> tuple[str, str]:
    return ("with", "without") if (on, off) == ARMS else (on, off)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.ablation", description=__doc__)
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--profile", default="quick")
    options = parser.parse_args(arguments)
    try:
        for arm in ARMS:
            for seed in seeds(options.profile):
                find_run(configure(options.profile, arm, source=options.source, seed=seed))
        ablation = load_ablation(options.source, options.profile)
        path = to_publish("ablation", options.source, options.profile)
        publish(ablation, path)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{path.relative_to(project_root())}: {ablation.comparison.answer()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
