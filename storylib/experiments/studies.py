"""The studies and their published records: where a record is, how it is written, and what the factor is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storylib.config import SELECTION_LOSSES, Config, build_name, experiments, project_root, seeds
from storylib.data.store import write_atomically
from storylib.experiments.provenance import RunError, publishable
from storylib.experiments.records import Run

OURS = "storyteller"  # the preset of every record that does not name another


def published(name: str) -> dict[str, Any] | None:
    """``results/<name>.json`` of this project or else of the library; None if neither has it."""
    package = Path(__file__).parents[1]  # the record is beside it in a checkout, inside it where it is installed
    for root in (project_root(), package.parent, package):
        path = root / "results" / f"{name}.json"
        if path.is_file():
            return dict(json.loads(path.read_text(encoding="utf-8")))
    return None


@dataclass(frozen=True)
class Study:
    """One kind of published record: ``results/<kind>/<source>-<profile>.json``, or ``...-<preset>.json``."""

    kind: str
    verb: str  # of the command that makes it: ``storylib <verb>``

    def command(self, source: str, profile: str, preset: str = OURS) -> str:
        """The command line that makes the record."""
        of_preset = "" if preset == OURS else f" --preset {preset}"
        return f"storylib {self.verb} --source {source} --profile {profile}{of_preset}"

    def name(self, source: str, profile: str, preset: str = OURS) -> str:
        """The record's name among the published ones."""
        return f"{self.kind}/{build_name(source, profile)}" + ("" if preset == OURS else f"-{preset}")

    def path(self, source: str, profile: str, preset: str = OURS) -> Path:
        """Where the record is written."""
        return project_root() / "results" / f"{self.name(source, profile, preset)}.json"

    def load(self, source: str, profile: str = "full", preset: str = OURS) -> dict[str, Any]:
        """The published record. Raises RunError, which names the command that makes it."""
        if record := published(self.name(source, profile, preset)):
            return record
        missing = f"There is no published record {self.name(source, profile, preset)}."
        raise RunError(f"{missing} `{self.command(source, profile, preset)}` makes it.")

    def start(self, source: str, profile: str, preset: str = OURS) -> dict[str, Any]:
        """The head of a new record, before anything is trained. Raises RunError if the code is not committed."""
        head = {"command": self.command(source, profile, preset), "source": source, "profile": profile}
        return head | {"preset": preset, "seeds": seeds(profile)} | publishable()

    def save(self, record: Mapping[str, Any]) -> Path:
        """Write a record that ``start`` began; returns its path."""
        path = self.path(record["source"], record["profile"], record.get("preset", OURS))
        write_atomically(path, json.dumps(record, indent=1) + "\n")
        return path


ABLATION = Study("ablation", "ablation")
SWEEPS = Study("sweeps", "sweep")
AUDIT = Study("audit", "audit")


@dataclass(frozen=True)
class Factor:
    """What two arms differ in. ``experiments.yml`` names the one of the ablation and the sweeps, under ``ablation``."""

    name: str  # such as "the contrastive loss"
    arms: tuple[str, str]  # of experiments.yml; differences are the first arm minus the second
    words: tuple[str, str] = ("with", "without")  # what tables call the arms
    endpoints: Mapping[str, float | str] = field(default_factory=dict)  # the smallest change of each that would matter

    @property
    def labels(self) -> tuple[str, str]:
        """The arms in full, such as "with the contrastive loss" and "without the contrastive loss"."""
        first, second = (f"{word} {self.name}".strip() for word in self.words)
        return first, second


def ablation_factor(arms: Sequence[str] | None = None) -> Factor:
    """The factor of the ablation; for another pair of arms one without a name, whose words are the arms' own names."""
    plan = experiments()["ablation"]
    planned = Factor(plan["factor"], tuple(plan["arms"].values()), tuple(plan["arms"]), plan.get("endpoints", {}))
    if arms is None or tuple(arms) == planned.arms:
        return planned
    first, second = arms
    return Factor("", (first, second), (first, second), planned.endpoints)


def check_selection(first: Config, second: Config) -> None:
    """Raise RunError if the best epochs of two arms would be selected by different losses."""
    weights = [(name, first.flat()[f"{name}_weight"], second.flat()[f"{name}_weight"]) for name in SELECTION_LOSSES]
    different = ", ".join(name for name, a, b in weights if (a > 0) != (b > 0))
    if different:
        raise RunError(
            f"Only one of the two arms has these losses on: {different}. The best epoch is selected by them, so the "
            "arms cannot be compared. Give both arms the same of these losses in experiments.yml."
        )


def run_arm(configs: Sequence[Config]) -> list[Run]:
    """Train and evaluate the runs of an arm that are not there yet; its seeds share their data."""
    from storylib.experiments.runs import evaluate_run, prepare, train

    data = prepare(configs[0])
    return [evaluate_run(train(config, data), data) for config in configs]
