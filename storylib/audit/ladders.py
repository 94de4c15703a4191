"""Run both ladders over all seeds. A finished ladder is kept, so that an interrupted run continues where it stopped."""

from __future__ import annotations

import json
from copy import copy
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from statistics import mean
from typing import Any

from tqdm import tqdm

from storylib.audit.data import AuditData
from storylib.audit.protocols import LADDER_A, LADDER_B, SCORING_ONLY, AuditSettings
from storylib.audit.system_a import SystemA
from storylib.audit.system_b import SystemB
from storylib.config import digest, runs_dir
from storylib.data.code import code_fingerprint
from storylib.data.device import cpu_threads
from storylib.data.store import write_atomically
from storylib.experiments.provenance import provenance
from storylib.experiments.studies import AUDIT
from storylib.metrics.text import METEOR, signatures

SYSTEMS: dict[str, tuple[Any, Any]] = {"a": (SystemA, LADDER_A), "b": (SystemB, LADDER_B)}


def run(source: str = "storyworld", profile: str = "quick") -> dict[str, Any]:
    """The record of both ladders on a source, every seed of the profile."""
    data = AuditData.from_source(source, AuditSettings.from_profile(profile), profile)
    return run_on(data) | {"source": source, "profile": profile}


def publish(source: str, profile: str) -> Path:
    """Run the audit and write its record, numbers only; returns its path. Raises RunError if code is uncommitted."""
    head = AUDIT.start(source, profile)
    with cpu_threads(1):
        record = head | run(source, profile)
    # Six digits, so that the file is the same on every machine.
    return AUDIT.save(json.loads(json.dumps(record), parse_float=lambda text: round(float(text), 6)))


def run_on(data: AuditData) -> dict[str, Any]:
    """The record: for each ladder and step its switches, the score of every seed, and their means."""
    ladders: dict[str, list[dict[str, Any]]] = {}
    for name, (_, steps) in SYSTEMS.items():
        by_seed = [_run_ladder(name, data, seed) for seed in data.settings.seeds]
        ladders[name] = []
        for step, *scores in zip(steps, *by_seed, strict=True):
            head = {"label": step.label, "change": step.change, "protocol": asdict(step.protocol)}
            names = [key for key, value in scores[0].items() if isinstance(value, float)]
            means = {key: mean(score[key] for score in scores) for key in names}
            ladders[name].append(head | {"seeds": scores, "mean": means})
    return {
        "seeds": list(data.settings.seeds),
        "settings": asdict(data.settings),
        "encoders": list(data.encoders),
        "stories": {"train": len(data.train), "test": len(data.held)},
        "windows": {"sliding": len(data.train_windows), "last": len(data.last_windows), "test": len(data.held_windows)},
        "word_pieces": len(data.pieces.ids),
        "bleu": signatures()["bleu"],
        "meteor": METEOR,
        "ladders": ladders,
    } | provenance("cpu")


@lru_cache(maxsize=11)  # one seed of both ladders
def trained(name: str, data: AuditData, protocol: Any, seed: int, /) -> Any:
    """System "a" or "b" after its training under a protocol. It is not trained twice, so change only copies of it."""
    system = SYSTEMS[name][0](data, protocol, seed)
    system.fit()
    del system.optimiser  # its memory is twice the model's
    return system


def _run_ladder(name: str, data: AuditData, seed: int) -> list[dict[str, Any]]:
    """The scores of one ladder's steps with one seed; kept for the same code, data and settings."""
    _, steps = SYSTEMS[name]
    code = code_fingerprint("audit.system_a", "audit.system_b")
    key = [data.data.fingerprint, data.encoders, code, asdict(data.settings), seed]
    path = runs_dir() / "audit" / f"{name}-seed{seed}-{digest(key)}.json"
    if not path.exists():
        results: list[dict[str, Any]] = []
        for step in tqdm(steps, f"audit, system {name.upper()}, seed {seed}", unit="step"):
            if step.change not in SCORING_ONLY:  # otherwise the step shares the training of the one before
                system = copy(trained(name, data, step.protocol, seed))
            system.protocol = step.protocol
            results.append({"seed": seed, "losses": system.losses} | system.score())
        write_atomically(path, json.dumps(results))
    return list(json.loads(path.read_text(encoding="utf-8")))
