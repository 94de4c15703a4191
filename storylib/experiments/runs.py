"""From a configuration to a finished, evaluated run: prepare the data, train, evaluate. Each step is done once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

from storylib.config import Config, ConfigError, DataConfig, digest, runs_dir, slug
from storylib.data.code import code_fingerprint
from storylib.data.encoders import encoder_fingerprint, first_available, load_image_encoder, load_text_encoder
from storylib.data.features import Features, encode, features_fingerprint, read_windows
from storylib.data.language_model import is_pretrained
from storylib.data.splits import Splits, split_stories
from storylib.data.store import cache_entry, make_sealed, write_atomically
from storylib.data.types import Story, windows
from storylib.experiments.provenance import RunError, provenance
from storylib.experiments.records import Run
from storylib.metrics.registry import MODEL
from storylib.metrics.summary import summarise
from storylib.metrics.text import signatures
from storylib.sources import load_stories


@dataclass(frozen=True)
class Data:
    """What a configuration's data part stands for."""

    stories: list[Story]
    splits: Splits
    features: Features

    @property
    def fingerprint(self) -> str:
        """Changes with any word, picture or encoder, and with which stories are held out."""
        return _data_fingerprint(self.features.fingerprint, self.splits)


def prepare(config: Config, strict: bool = False, training: bool = True) -> Data:
    """Stories, leak-free splits and features of a configuration; computed once and kept on disk.

    strict: raise an error for what cannot be used or read. Raises ConfigError, before anything is encoded, if a split
    has no window; without ``training`` only of three stories or more, so that one can be tried.
    """
    config = with_available_encoders(config)
    if strict:
        load_stories(config.data.source, limit=config.data.stories, strict=True)
    stories, splits = stories_of(config.data)
    if (training or len(stories) > 2) and not all(any(windows(part, config.data.context)) for _, part in splits):
        raise ConfigError(
            f"A split has no window of {config.data.context + 1} consecutive frames: give three or more stories of "
            "as many, one each to train, validate and test; those with similar pictures or texts stay together."
        )
    model, reader = config.model, None
    if config.train.text_weight and is_pretrained(model.text_decoder):
        reader = model.text_decoder, model.text_length, config.train.pretraining
    return _prepare(config.data, model.image_size, model.trainable_text_layers, reader, config.train.device, strict)


@lru_cache(maxsize=2)
def _prepare(
    data: DataConfig, image_size: int, layers: int, reader: tuple[str, int, int] | None, device: str, strict: bool
) -> Data:
    from storylib.data.device import pick_device

    stories, splits = stories_of(data)
    device = pick_device(device)
    features = encode(stories, data.image_encoder, data.text_encoder, image_size, device, layers, data.source, strict)
    if reader:
        reading = read_windows(stories, splits.train, *reader, data.context, device)
        features = dataclasses.replace(features, reading=reading)
    return Data(stories, splits, features)


@lru_cache(maxsize=2)
def stories_of(data: DataConfig) -> tuple[list[Story], Splits]:
    stories = load_stories(data.source, limit=data.stories)
    splits = split_stories(stories, seed=data.split_seed, by=data.split_by)
    if data.train_stories is None:
        return stories, splits
    most = data.train_stories if data.train_stories >= 1 else round(data.train_stories * len(splits.train))
    # One order for all sizes, so that each smaller set is part of the larger ones.
    chosen = np.random.default_rng(data.split_seed).permutation(len(splits.train))[: max(1, int(most))]
    return stories, dataclasses.replace(splits, train=[splits.train[i] for i in sorted(chosen)])


def with_available_encoders(config: Config) -> Config:
    """The configuration with each "a or b" among its encoders settled for this machine."""
    return config.replace(
        image_encoder=first_available(config.data.image_encoder, load_image_encoder),
        text_encoder=first_available(config.data.text_encoder, load_text_encoder),
    )


def train(config: Config, data: Data) -> Run:
    """Train, or return the finished run of the same configuration, data and code. A killed run is resumed."""
    from storylib.training import join

    config = with_available_encoders(config)
    folder = runs_dir() / run_id(config, data.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    group = join(config.train.device)
    # Two commands that ask for the same run train it once. Of several processes only the main one holds the lock.
    with FileLock(folder.with_name(f"{folder.name}.lock")) if group.rank == 0 else nullcontext():
        if not group.agree((folder / "run.json").exists()):
            _train(config, data, folder)
        group.agree(None)
    return Run(folder)


def _train(config: Config, data: Data, folder: Path) -> None:
    from storylib.data.device import cpu_threads, pick_device
    from storylib.data.windows import WindowDataset
    from storylib.training import build_model, build_vocabulary, fit

    vocabulary = build_vocabulary(data.features, data.splits, config)
    datasets = {name: WindowDataset(data.features, part, vocabulary, config) for name, part in data.splits}
    if datasets["train"].aligns_descriptions and not datasets["train"].described.any():
        raise ConfigError(f"contrastive_text='description': no training frame of {config.data.source!r} has one.")
    with cpu_threads(config.train.threads):
        model = build_model(config, data.features, data.splits, vocabulary)
    result = fit(model, datasets["train"], datasets["validation"], config.train, folder)
    if result.group.rank:
        return
    write_atomically(folder / "vocabulary.json", json.dumps(vocabulary.pieces))
    record = {
        "id": folder.name,
        "config": config.flat(),
        "data": {
            "fingerprint": data.fingerprint,
            "encoders": [encoder_fingerprint(config.data.image_encoder), encoder_fingerprint(config.data.text_encoder)],
            "stories": {name: len(part) for name, part in data.splits},
            "windows": {name: len(dataset) for name, dataset in datasets.items()},
            "vocabulary": len(vocabulary),
        },
        "best_epoch": result.best_epoch,
        "seconds": round(result.seconds, 2),
        "processes": result.group.size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "code": code_fingerprint("training"),
        **provenance(pick_device(config.train.device)),
    }
    write_atomically(folder / "run.json", json.dumps(record, indent=2))


def evaluate_run(run: Run, data: Data) -> Run:
    """Score a run on the test stories and write its metrics; nothing is done if this code did so before."""
    if run.record["data"]["fingerprint"] != data.fingerprint:
        raise RunError(f"{run.id} was trained on other data or another split than the one it is to be evaluated on")
    code, path = code_fingerprint("evaluation", "metrics.summary"), run.path / "metrics.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["code"] == code:
        return run

    from storylib.data.device import cpu_threads
    from storylib.data.scoring import ScoringEncoders
    from storylib.data.windows import WindowDataset
    from storylib.evaluation import evaluate, score_baselines
    from storylib.experiments.storyteller import Storyteller

    storyteller = Storyteller.of_run(run)
    model, vocabulary = storyteller.model, storyteller.vocabulary
    parts = (data.splits.train, data.splits.test)
    training, held_out = (WindowDataset(data.features, part, vocabulary, run.config) for part in parts)
    with cpu_threads(run.config.train.threads):
        # Encoders of their own: what they have encoded before decides which texts share a batch, and so the last digit.
        score = partial(score_baselines, model, vocabulary, training, held_out, ScoringEncoders(run.config))
        baselines = _baseline_rows(run.config, data, score)
        encoders = ScoringEncoders(run.config)
        table, pictures = evaluate(model, vocabulary, training, held_out, encoders, run.config.train.seed, baselines)
    np.save(run.path / "pictures.npy", pictures)
    texts = table[(table["predictor"] == MODEL) & table["generation"].notna()][["story", "frame", "generation"]]
    texts.to_json(run.path / "generations.jsonl", orient="records", lines=True, force_ascii=False)
    table.drop(columns=["generation"]).to_parquet(run.path / "per_window.parquet", index=False)
    record = {"code": code, "signatures": signatures(held_out.texts), "metrics": dict(summarise(table))}
    write_atomically(path, json.dumps(record, indent=2))
    return Run(run.path)


def _baseline_rows(config: Config, data: Data, score: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The scores of the baselines, kept on disk: all runs on the same data share them, whatever the model."""
    decoders = [config.train.text_weight > 0, config.train.image_weight > 0]  # without one it has no baselines
    predicted = [config.model.text_decoder, config.model.text_length, config.model.image_size]
    key = [data.fingerprint, dataclasses.asdict(config.data), predicted, decoders]
    folder = cache_entry("baselines", slug(config.data.source), key, "evaluation")
    make_sealed(folder, lambda partial: score().to_parquet(partial / "rows.parquet", index=False))
    return pd.read_parquet(folder / "rows.parquet")


def find_run(config: Config) -> Run:
    """The evaluated run of a configuration, found by its id, without encoding or training anything.

    No story is read if there is no run of this source, weight and seed. Raises RunError, which names the command.
    """
    name = f"{_readable_name(config)}-*"
    if any(runs_dir().glob(f"{name}/metrics.json")):
        config = with_available_encoders(config)
        data, model = config.data, config.model
        stories, splits = stories_of(data)
        features = features_fingerprint(stories, data.image_encoder, data.text_encoder, model.image_size)
        name = run_id(config, _data_fingerprint(features, splits))
        if (runs_dir() / name / "metrics.json").exists():
            return Run(runs_dir() / name)
    raise RunError(
        f"There is no evaluated run {name}, of these stories and this code. `storylib evaluate --source "
        f"{config.data.source} --seed {config.train.seed} ...` makes it, `make runs SOURCE={config.data.source}` all."
    )


def run_id(config: Config, data_fingerprint: str) -> str:
    """A readable name, and the hash that the run is found by: of configuration, data and training code."""
    key = digest([config.identity(), data_fingerprint, code_fingerprint("training")])
    return f"{_readable_name(config)}-{key[:8]}"


def _readable_name(config: Config) -> str:
    return f"{slug(config.data.source)}-contrastive{config.train.contrastive_weight:g}-seed{config.train.seed}"


def _data_fingerprint(features: str, splits: Splits) -> str:
    return digest([features, {name: [story.id for story in part] for name, part in splits}])
