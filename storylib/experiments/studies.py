"""The studies and their published records: where a record is, how it is written, and what the factor is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storylib.config import Config, experiments, project_root, seeds, slug
from storylib.data.store import write_atomically
from storylib.experiments.provenance import RunError, publishable
from storylib.experiments.records import Run, describe


@dataclass(frozen=True)
class Study:
    """One kind of published record: ``results/<kind>/<source>-<profile>.json``."""

    kind: str
    verb: str  # of the command that makes it: ``storylib <verb>``

    def command(self, source: str, profile: str) -> str:
        """The command line that makes the record."""
        return f"storylib {self.verb} --source {source} --profile {profile}"

    def to_publish(self, source: str, profile: str) -> Path:
        """Where the record is written: in the project."""
        return project_root() / "results" / self.kind / f"{slug(f'{source}-{profile}')}.json"

    def published(self, source: str, profile: str) -> Path:
        """Where the record is: in the project, in this module's checkout, or inside the installed package.

        The project's own path if it is in none of them.
        """
        path = self.to_publish(source, profile)
        package = Path(__file__).parents[1]
        places = [path, *(root / "results" / self.kind / path.name for root in (package.parent, package))]
        return next((place for place in places if place.is_file()), path)

    def load(self, source: str, profile: str = "full") -> dict[str, Any]:
        """The published record. Raises RunError, which names the command that makes it."""
        path = self.published(source, profile)
        if not path.is_file():
            raise RunError(
                f"There is no published record of the {self.kind} on {source!r} with profile {profile!r}. "
                f"`{self.command(source, profile)}` makes it."
            )
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def start(self, source: str, profile: str) -> dict[str, Any]:
        """The head of a new record: command, source, profile, seeds, commit, versions and machine.

        Raises RunError if the code is not committed, so that nothing is trained for a record that cannot be published.
        """
        head = {"command": self.command(source, profile), "source": source, "profile": profile}
        return head | {"seeds": seeds(profile)} | publishable()

    def save(self, record: Mapping[str, Any]) -> Path:
        """Write a record that ``start`` began; returns its path."""
        path = self.to_publish(record["source"], record["profile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(record, indent=1) + "\n")
        return path


ABLATION = Study("ablation", "ablation")
SWEEPS = Study("sweeps", "sweep")
PRESETS = Study("presets", "presets")
AUDIT = Study("audit", "audit")


@dataclass(frozen=True)
class Factor:
    """What two arms differ in. ``experiments.yml`` names the one of the ablation and the sweeps, under ``ablation``."""

    name: str  # such as "the contrastive loss"
    arms: tuple[str, str]  # of experiments.yml; differences are the first arm minus the second
    words: tuple[str, str] = ("with", "without")  # what tables call the arms

    @property
    def labels(self) -> tuple[str, str]:
        """The arms in full, such as "with the contrastive loss" and "without the contrastive loss"."""
        first, second = (f"{word} {self.name}".strip() for word in self.words)
        return first, second


def ablation_factor(arms: Sequence[str] | None = None) -> Factor:
    """The factor of the ablation; for another pair of arms one without a name, whose words are the arms' own names."""
    plan = experiments()["ablation"]
    planned = Factor(plan["factor"], tuple(plan["arms"].values()), tuple(plan["arms"]))
    if arms is None or tuple(arms) == planned.arms:
        return planned
    first, second = arms
    return Factor("", (first, second), (first, second))


def run_arm(configs: Sequence[Config]) -> list[Run]:
    """Train and evaluate the runs of an arm that are not there yet; its seeds share their data."""
    from storylib.experiments.runs import evaluate_run, prepare, train

    data = prepare(configs[0])
    return [evaluate_run(train(config, data), data) for config in configs]


def run_costs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs behind a record: id, seed, commit, device, seconds and memory of each."""
    costs: list[dict[str, Any]] = json.loads(describe(runs).reset_index().to_json(orient="records"))
    return costs
