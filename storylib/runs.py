"""The record of a run: what was trained, on what, by which code, and what came of it; found again by content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock

from storylib import metrics
from storylib.attention import attention
from storylib.config import Config, digest, project_root, runs_dir, unknown
from storylib.decoders import Vocabulary, load_tokenizer
from storylib.encoders import encoder_fingerprint, first_available, load_image_encoder, load_text_encoder
from storylib.evaluation import MODEL, evaluate
from storylib.features import Features, encode
from storylib.judges import Judges
from storylib.model import StoryModel
from storylib.parallel import Group, join
from storylib.pictures import PictureLike, write_atomically
from storylib.prediction import Known, NextFrame, Storyteller, feature_sizes
from storylib.scores import Scores, summarise
from storylib.sources import load_stories
from storylib.stories import Splits, Story, split_stories
from storylib.training import WindowDataset, build_model, build_vocabulary, cpu_threads, fit, load_weights, pick_device

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "timm", "numpy", "pandas", "storylib")
TRAINING_CODE = (
    "config",
    "encoders",
    "boundary",
    "features",
    "parallel",
    "losses",
    "model",
    "decoders",
    "image_decoders",
    "perception",
    "pretraining",
    "training",
    "stories",
)
SCORING_CODE = ("metrics", "statistics", "protocol", "ngrams", "floors", "judges", "evaluation", "attention", "scores")
EVALUATION_CODE = (*TRAINING_CODE, *SCORING_CODE)


class RunError(RuntimeError):
    """A run that is not there, not finished or not comparable."""


@dataclass(frozen=True)
class Data:
    """What a configuration's data part stands for."""

    stories: list[Story]
    splits: Splits
    features: Features


@dataclass(frozen=True)
class Run:
    """A finished training on disk; everything is read from its files."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.path / "run.json").read_text())

    @cached_property
    def config(self) -> Config:
        return Config().replace(**self.record["config"])

    @cached_property
    def history(self) -> pd.DataFrame:
        return pd.read_csv(self.path / "history.csv")

    @cached_property
    def metrics(self) -> Scores:
        return self._evaluated("metrics.json", lambda p: Scores(json.loads(p.read_text())["metrics"]))

    @cached_property
    def per_window(self) -> pd.DataFrame:
        return self._evaluated("per_window.parquet", pd.read_parquet)

    @property
    def model_rows(self) -> pd.DataFrame:
        """The model's own rows of the per-window table, with what it wrote."""
        rows = self.per_window[self.per_window["predictor"] == MODEL]
        return rows.merge(self.generations, on=["story", "page"], how="left")

    @cached_property
    def generations(self) -> pd.DataFrame:
        columns = {"story": str, "page": int, "generation": str}
        return self._evaluated(
            "generations.jsonl", lambda p: pd.read_json(p, lines=True, dtype=columns).reindex(columns=[*columns])
        )

    @cached_property
    def attention(self) -> dict[str, Any]:
        """What of the context its predictions rest on; see storylib.attention."""
        return self._evaluated("attention.json", lambda p: json.loads(p.read_text()))

    def _evaluated(self, name: str, read: Any) -> Any:
        path = self.path / name
        if not path.exists():
            raise RunError(f"{self.id} has not been evaluated yet: call storylib.evaluate_run(run) first")
        return read(path)

    def vocabulary(self) -> Vocabulary:
        pieces = json.loads((self.path / "vocabulary.json").read_text())
        return Vocabulary(load_tokenizer(self.config.model.text_decoder, self.config.data.text_encoder), pieces)

    def model(self, data: Data) -> StoryModel:
        """The trained model at its best epoch."""
        model = build_model(self.config, data.features, data.splits, self.vocabulary())
        load_weights(model, self.path / "model.safetensors")
        return model.eval()

    @cached_property
    def storyteller(self) -> Storyteller:
        """The trained model with its words and encoders: what can be saved, shared and asked on its own."""
        weights = self.path / "model.safetensors"
        metrics = {"metrics": list(self.metrics.values())} if (self.path / "metrics.json").exists() else {}
        pieces = self.vocabulary().pieces
        teller = Storyteller(self.config.flat(), pieces, feature_sizes(weights), self.record | metrics)
        load_weights(teller.model, weights)
        return teller.eval()

    @cached_property
    def known(self) -> Known:
        """The pictures of the run's source, all of them."""
        data = prepare(self.config)
        return Known.of(data.stories, data.features)

    def predict(self, images: Sequence[PictureLike | str], texts: Sequence[str], **options: Any) -> NextFrame:
        """Next text, next picture, and the nearest picture of the run's source; see ``Storyteller.predict``."""
        return self.storyteller.predict(images, texts, self.known, **options)


def prepare(config: Config) -> Data:
    """Stories, leak-free splits and features of a configuration; each is cached and computed once."""
    data = with_available_encoders(config).data
    stories = load_stories(data.source, limit=data.stories)
    splits = split_stories(stories, seed=data.split_seed, by=data.split_by)
    if data.train_stories is not None:  # each smaller set is part of the larger ones
        most = data.train_stories if data.train_stories >= 1 else round(data.train_stories * len(splits.train))
        order = np.random.default_rng(data.split_seed).permutation(len(splits.train))[: max(1, int(most))]
        splits = dataclasses.replace(splits, train=[splits.train[i] for i in sorted(order)])
    device = pick_device(config.train.device)
    model = config.model
    features = encode(
        stories, data.image_encoder, data.text_encoder, model.image_size, device, model.trainable_text_layers
    )
    return Data(stories, splits, features)


def with_available_encoders(config: Config) -> Config:
    """The configuration with each "a or b" among its encoders settled for this machine."""
    return config.replace(
        image_encoder=first_available(config.data.image_encoder, load_image_encoder),
        text_encoder=first_available(config.data.text_encoder, load_text_encoder),
    )


def train(config: Config, data: Data, fresh: bool = False) -> Run:
    """Train, or return the finished run of the same configuration, data and code. A killed run goes on.

    fresh: train again even if there is a finished run.
    """
    asked, config = config, with_available_encoders(config)
    folder = runs_dir() / run_id(config, data)
    folder.mkdir(parents=True, exist_ok=True)
    group = join(pick_device(config.train.device))
    # The same run, asked for twice at once, is trained once; of several processes only the main one holds the lock.
    with FileLock(folder.with_name(f"{folder.name}.lock")) if group.main else nullcontext():
        if fresh and group.main:
            shutil.rmtree(folder)
            folder.mkdir()
        if not group.agree((folder / "run.json").exists()):
            _train(config, data, folder, [asked.data.image_encoder, asked.data.text_encoder], group)
        group.agree(None)
    return Run(folder)


def _train(config: Config, data: Data, folder: Path, encoders_asked: list[str], group: Group) -> None:
    vocabulary = build_vocabulary(data.features, data.splits, config)
    if group.main:
        write_atomically(folder / "vocabulary.json", json.dumps(vocabulary.pieces))
    datasets = {name: WindowDataset(data.features, part, vocabulary, config) for name, part in data.splits}
    with cpu_threads(config.train.threads):
        model = build_model(config, data.features, data.splits, vocabulary)
    result = fit(model, datasets["train"], datasets["validation"], config.train, folder)
    if not group.main:
        return
    record = {
        "id": folder.name,
        "config": config.flat(),
        "encoders_asked": encoders_asked,  # where the hub cannot be reached, not those that were had
        "data": {
            "fingerprint": data_fingerprint(data),
            "encoders": [encoder_fingerprint(config.data.image_encoder), encoder_fingerprint(config.data.text_encoder)],
            "stories": {name: len(part) for name, part in data.splits},
            "windows": {name: len(dataset) for name, dataset in datasets.items()},
            "vocabulary": len(vocabulary),
        },
        "best_epoch": result.best_epoch,
        "seconds": round(result.seconds, 2),
        "processes": group.size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "code": code_fingerprint(TRAINING_CODE),
        **provenance(pick_device(config.train.device)),
    }
    write_atomically(folder / "run.json", json.dumps(record, indent=2))


def evaluate_run(run: Run, data: Data, split: str = "test", fresh: bool = False) -> Run:
    """Score a run on held-out stories and write its metrics; nothing is done if this code did so before."""
    if run.record["data"]["fingerprint"] != data_fingerprint(data):
        raise RunError(f"{run.id} was trained on other data or another split than the one it is to be evaluated on")
    stamp = {"code": code_fingerprint(EVALUATION_CODE), "split": split}
    path = run.path / "metrics.json"
    if not fresh and path.exists() and stamp.items() <= json.loads(path.read_text()).items():
        return run
    vocabulary = run.vocabulary()
    parts = dict(data.splits)
    train_set, held = (WindowDataset(data.features, parts[name], vocabulary, run.config) for name in ("train", split))
    model = run.model(data)
    with cpu_threads(run.config.train.threads):
        table, pictures = evaluate(model, vocabulary, train_set, held, Judges(run.config), run.config.train.seed)
        looks = attention(model, held)
    write_atomically(run.path / "attention.json", json.dumps(looks))
    np.save(run.path / "pictures.npy", pictures)
    written = table[(table["predictor"] == MODEL) & table["generation"].notna()][["story", "page", "generation"]]
    lines = [json.dumps(row, ensure_ascii=False) for row in written.to_dict("records")]
    write_atomically(run.path / "generations.jsonl", "\n".join(lines) + "\n")
    table.drop(columns=["generation"]).to_parquet(run.path / "per_window.parquet", index=False)
    summary = summarise(table)
    rows = [{"metric": k, "value": v["value"], "low": v["interval"][0], "high": v["interval"][1], **v["floors"]}
            for k, v in summary.items()]  # fmt: skip
    write_atomically(run.path / "metrics_summary.csv", pd.DataFrame(rows).to_csv(index=False))
    said = {"signatures": metrics.signatures(), "metrics": dict(summary)}
    write_atomically(path, json.dumps(stamp | said, indent=2))
    return Run(run.path)


def run_id(config: Config, data: Data) -> str:
    """A name to read and a hash to find by: of the configuration, the data and the code that trains."""
    key = digest([config.identity(), data_fingerprint(data), code_fingerprint(TRAINING_CODE)])
    return f"{config.data.source}-contrastive{config.train.contrastive_weight:g}-seed{config.train.seed}-{key[:8]}"


def data_fingerprint(data: Data) -> str:
    """Changes with any word, picture or encoder, and with which stories are held out."""
    return digest([data.features.fingerprint, {name: [s.id for s in part] for name, part in data.splits}])


def load_run(name: str) -> Run:
    """A finished run by its id. Raises RunError with the nearest names."""
    path = runs_dir() / name
    if not (path / "run.json").exists():
        raise RunError(unknown("run", name, [p.parent.name for p in runs_dir().glob("*/run.json")]))
    return Run(path)


def pooled_metrics(runs: Sequence[Run]) -> Scores:
    """The metrics of one arm over all its seeds: like ``run.metrics``, with intervals over stories and seeds."""
    return summarise(pd.concat([r.per_window.assign(seed=r.config.train.seed) for r in runs], ignore_index=True))


@lru_cache
def code_fingerprint(modules: Sequence[str]) -> str:
    """Hash of the source of some modules: a run of older code is never taken for a new one.

    storylib.sources is not among them: what a source returns is in the data's own fingerprint.
    """
    here = Path(__file__).parent
    files = [f for m in modules for f in (sorted((here / m).glob("*.py")) or [here / f"{m}.py"])]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def provenance(device: str) -> dict[str, Any]:
    """Commit, versions, machine and peak memory of this process."""

    def git(*args: str) -> str:
        done = subprocess.run(["git", *args], cwd=project_root(), capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed as a package"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "commit": git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(git("status", "--porcelain", "--", ".", ":(exclude)results")),  # records change no result
        "python": platform.python_version(),
        "versions": versions,
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def publishable() -> dict[str, Any]:
    """``provenance`` for a record that is to be published. Raises RunError if it could not be made again."""
    made = provenance("cpu")
    if made["dirty"]:
        raise RunError("There are changes that are in no commit, so nobody could make this record again. Commit first.")
    return {key: made[key] for key in ("commit", "dirty", "python", "versions", "machine")}


def origin(record: Mapping[str, Any] | None = None) -> str:
    """A line of Markdown with a small mark: what follows was executed in this build, or is a published record."""
    if record is None:
        return "● *Executed in this build.*"
    named = [str(record[key]) for key in ("source", "profile") if key in record]
    named += [f"{len(record['seeds'])} seeds"] if "seeds" in record else []
    named += [f"commit `{record['commit'][:8]}`"] if "commit" in record else []
    return f"○ *Published record, not executed here{': ' * bool(named)}{', '.join(named)}.*"


def describe(runs: Sequence[Run]) -> pd.DataFrame:
    """How a page was made: the run records behind it."""
    columns = ("commit", "dirty", "device", "seconds", "peak_memory_mb", "best_epoch")
    rows = [{"run": r.id, "seed": r.config.train.seed, "data": r.record["data"]["fingerprint"]}
            | {c: r.record[c] for c in columns} for r in runs]  # fmt: skip
    return pd.DataFrame(rows).assign(commit=lambda t: t["commit"].str[:8]).set_index("run")
