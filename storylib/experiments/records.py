"""The record that a run leaves, read from its files. Reading one needs no torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from storylib.config import Config, runs_dir, unknown
from storylib.experiments.provenance import RunError
from storylib.metrics.registry import MODEL
from storylib.metrics.summary import Scores, summarise


@dataclass(frozen=True)
class Run:
    """A finished training: its folder, and what is in it."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.path / "run.json").read_text(encoding="utf-8"))

    @cached_property
    def config(self) -> Config:
        return Config().replace(**self.record["config"])

    @property
    def weights(self) -> Path:
        """The model at its best epoch, as safetensors."""
        return self.path / "model.safetensors"

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per epoch."""
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def metrics(self) -> Scores:
        return Scores(json.loads(self._evaluated("metrics.json").read_text(encoding="utf-8"))["metrics"])

    @cached_property
    def per_window(self) -> pd.DataFrame:
        """One row per predictor and frame; see ``storylib.evaluation.evaluate``."""
        return pd.read_parquet(self._evaluated("per_window.parquet"))

    @cached_property
    def generations(self) -> pd.DataFrame:
        """What the model wrote, by story and frame."""
        columns = {"story": str, "frame": int, "generation": str}
        table = pd.read_json(self._evaluated("generations.jsonl"), lines=True, dtype=columns)
        return table.reindex(columns=[*columns])

    @property
    def pictures(self) -> np.ndarray:
        """(windows, n, S, S, 3) uint8 the likeliest picture and samples; a row of ``model_rows`` names its own."""
        return np.load(self._evaluated("pictures.npy"), mmap_mode="r")

    @property
    def model_rows(self) -> pd.DataFrame:
        """The model's own rows of ``per_window``, with what it wrote."""
        rows = self.per_window[self.per_window["predictor"] == MODEL]
        return rows.merge(self.generations, on=["story", "frame"], how="left")

    def _evaluated(self, name: str) -> Path:
        if not (self.path / name).exists():
            raise RunError(f"{self.id} has not been evaluated yet: call storylib.experiments.runs.evaluate_run first")
        return self.path / name


def load_run(name: str) -> Run:
    """A finished run by its id. Raises RunError with the nearest names."""
    path = runs_dir() / name
    if not (path / "run.json").exists():
        raise RunError(unknown("run", name, [p.parent.name for p in runs_dir().glob("*/run.json")]))
    return Run(path)


def pooled_rows(runs: Sequence[Run]) -> pd.DataFrame:
    """``per_window`` of several runs, with the seed of each as a column."""
    return pd.concat([run.per_window.assign(seed=run.config.train.seed) for run in runs], ignore_index=True)


def pooled_metrics(runs: Sequence[Run]) -> Scores:
    """The metrics of one arm over all its seeds: like ``run.metrics``, with intervals over stories and seeds."""
    return summarise(pooled_rows(runs))


def describe(runs: Sequence[Run]) -> pd.DataFrame:
    """The provenance of some runs, one row each, by id."""
    columns = ("commit", "dirty", "device", "seconds", "peak_memory_mb", "best_epoch")
    rows = []
    for run in runs:
        facts = {"run": run.id, "seed": run.config.train.seed, "data": run.record["data"]["fingerprint"]}
        rows.append(facts | {column: run.record[column] for column in columns})
    return pd.DataFrame(rows).assign(commit=lambda table: table["commit"].str[:8]).set_index("run")
