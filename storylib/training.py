"""fit(): the training loop, on stored features only; no picture is opened and no frozen encoder runs in here."""

from __future__ import annotations

import csv
import io
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from storylib.config import Config, ConfigError, TrainConfig
from storylib.decoders import Vocabulary, load_tokenizer
from storylib.features import Features
from storylib.losses import compute_losses
from storylib.model import FrozenSpace, StoryModel
from storylib.pictures import write_atomically
from storylib.stories import Splits, Story, Window, windows

Batch = dict[str, Tensor]


class WindowDataset(Dataset):
    """The windows of some stories as tensors, gathered from features a whole batch at a time.

    Its candidates ("bank") are all pages of the same stories: what next-frame retrieval chooses among. Words and
    pictures are in a batch only if their loss is on: a decoder that is not trained is neither run nor scored.
    """

    def __init__(self, features: Features, stories: Sequence[Story], vocabulary: Vocabulary, config: Config) -> None:
        self.windows: list[Window] = list(windows(stories, config.data.context))
        rows = features.rows(stories)
        position = {row: i for i, row in enumerate(rows)}
        picked = features.window_rows(self.windows).reshape(-1, config.data.context + 1)
        self.frames = torch.tensor([[position[r] for r in w] for w in picked]).view(picked.shape)  # (W, K + 1)
        self.image = torch.from_numpy(np.asarray(features.image_vectors)[features.image_of[rows]])  # (P, Di)
        self.text = torch.from_numpy(np.asarray(features.text_vectors)[features.text_of[rows]])
        self.pictures = torch.from_numpy(np.asarray(features.thumbnails)[features.image_of[rows]]).permute(0, 3, 1, 2)
        self.image_id = torch.from_numpy(features.image_of[rows])
        self.text_id = torch.from_numpy(features.text_of[rows])
        self.story_id = torch.tensor([i for i, s in enumerate(stories) for _ in s.frames])
        self.texts = [features.texts[r] for r in rows]
        self.keys = [features.keys[r] for r in rows]
        self.tokens = vocabulary.encode(self.texts, config.model.text_length)
        self.vocabulary_size = len(vocabulary)
        self.writes, self.draws = config.train.text_weight > 0, config.train.image_weight > 0
        self.bank: dict[str, Tensor] = {}

    def embed_bank(self, model: StoryModel) -> None:
        """Candidates in the model's frozen spaces; they never change during training."""
        with torch.no_grad():
            self.bank = {"image_bank": model.image_space(self.image), "text_bank": model.text_space(self.text)}

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        frames = self.frames[torch.as_tensor(indices)]  # (B, K + 1)
        context, target = frames[:, :-1], frames[:, -1]
        own = torch.zeros(len(frames), len(self.image), dtype=torch.bool).scatter_(1, context, True)
        batch = self.bank | {
            "image": self.image[frames],
            "text": self.text[frames],
            "target": target,
            "image_id": self.image_id[frames],
            "text_id": self.text_id[frames],
            "story_id": self.story_id[frames],
            "image_excluded": own | (self.image_id[target][:, None] == self.image_id),
            "text_excluded": own | (self.text_id[target][:, None] == self.text_id),
        }
        if self.writes:
            tokens = self.tokens[target]
            tokens = tokens[:, : int((tokens != Vocabulary.PAD).sum(1).max())]  # no longer than the batch's longest
            batch["tokens"] = tokens.masked_fill(tokens == Vocabulary.PAD, -100)
            batch["context_tokens"] = self.tokens[context]
        if self.draws:
            batch["picture"] = self.pictures[target].float() / 255
            batch["context_pictures"] = self.pictures[context].float() / 255
        return batch


class EpochSampler(Sampler[int]):
    """A new order every epoch that depends on the seed and the epoch only, so that a resumed run sees the same."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())


def batches(dataset: WindowDataset, size: int, sampler: Sampler[int] | None = None) -> DataLoader[Batch]:
    """A loader whose batches are gathered at once; there is nothing to collate."""
    return DataLoader(dataset, batch_size=size, sampler=sampler, collate_fn=_as_is)


def _as_is(batch: Any) -> Any:
    return batch


def pick_device(name: str = "auto") -> str:
    """The device to run on. Raises ConfigError if it was asked for by name and is not there."""
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "mps" if present["mps"] else "cpu"
    if not present.get(name, False):
        raise ConfigError(
            f"device={name!r} was asked for, but this machine has none that torch {torch.__version__} can use. "
            "Use device='cpu' or 'auto', or install a torch build for your accelerator."
        )
    return name


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Run with this many CPU threads: sums in another order give other last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_vocabulary(features: Features, splits: Splits, config: Config) -> Vocabulary:
    """Word pieces of the training texts."""
    tokenizer = load_tokenizer(config.model.text_decoder, config.data.text_encoder)
    return Vocabulary.of([features.texts[r] for r in features.rows(splits.train)], tokenizer)


def build_model(config: Config, features: Features, splits: Splits, vocabulary: Vocabulary) -> StoryModel:
    """An untrained model; its weights depend on the seed alone."""
    torch.manual_seed(config.train.seed)
    rows = features.rows(splits.train)
    image, text = (
        FrozenSpace(torch.from_numpy(vectors[of[rows]]), config.model.correction_rank)
        for vectors, of in ((features.image_vectors, features.image_of), (features.text_vectors, features.text_of))
    )
    return StoryModel(config.model, image, text, vocabulary, config.data.context)


@dataclass(frozen=True)
class Fit:
    """What a training leaves beside its files: the model at its best epoch, and what it took."""

    model: StoryModel
    best_epoch: int
    seconds: float


def fit(model: StoryModel, train: WindowDataset, validation: WindowDataset, config: TrainConfig, folder: Path) -> Fit:
    """Train; keep the epoch with the best validation loss. Goes on from the last whole epoch after a kill.

    folder: gets ``history.csv`` (one line an epoch, written as it goes) and ``model.safetensors`` (the best epoch),
    and for as long as training lasts ``checkpoint.pt``.
    """
    if not len(train) or not len(validation):
        raise ConfigError("There is no window to train or validate on: load more stories, or stories of more pages.")
    device = pick_device(config.device)
    with cpu_threads(config.threads):
        accelerator = Accelerator(
            cpu=device == "cpu", kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)]
        )
        sampler = EpochSampler(len(train), config.seed)
        for dataset in (train, validation):
            dataset.embed_bank(model.cpu())
        steps = config.epochs * math.ceil(len(train) / config.batch_size)
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, config))
        network, optimizer, loader, checks, schedule = accelerator.prepare(
            model, optimizer, batches(train, config.batch_size, sampler), batches(validation, 128), schedule
        )
        torch.manual_seed(config.seed)  # dropout; the weights were drawn before
        state = _resume(folder, model, optimizer, schedule)
        started = time.perf_counter() - state["seconds"]
        bar = tqdm(
            total=steps, initial=state["step"], desc=f"train, seed {config.seed}", unit="step", mininterval=2,
            disable=not accelerator.is_local_main_process,
        )  # fmt: skip
        for epoch in range(state["epoch"], config.epochs):
            sampler.epoch = epoch
            network.train()
            logged = Mean()
            for batch in loader:
                losses = compute_losses(network(batch), batch, config)
                accelerator.backward(sum(losses.values()))
                accelerator.clip_grad_norm_(network.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                logged.add(losses, len(batch["target"]))
                bar.update()
            checked = validate(network, checks, config)
            # Arms are compared at their best epoch by the losses that all of them have.
            score = sum(v for k, v in checked.items() if k != "contrastive")
            state |= {"epoch": epoch + 1, "step": bar.n, "seconds": time.perf_counter() - started}
            row = {"epoch": epoch + 1, "seconds": round(state["seconds"], 3), "validation_score": score}
            row |= {f"train_{k}": v for k, v in logged.values().items()} | {
                f"validation_{k}": v for k, v in checked.items()
            }
            bar.set_postfix_str(f"validation {score:.3f}")
            if accelerator.is_main_process:
                if score < state["best"]:
                    state |= {"best": score, "best_epoch": epoch + 1}
                    save_weights(accelerator.unwrap_model(network), folder / "model.safetensors")
                state["history"] = [*state["history"], row]
                write_history(folder / "history.csv", state["history"])
                _save(folder / "checkpoint.pt", state, accelerator.unwrap_model(network), optimizer, schedule)
        bar.close()
        accelerator.wait_for_everyone()
    if not state["best_epoch"]:
        raise ConfigError(
            "Training diverged: the validation loss was never a number. Lower learning_rate "
            f"(it is {config.learning_rate:g})."
        )
    load_weights(model, folder / "model.safetensors")
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return Fit(model.cpu().eval(), state["best_epoch"], state["seconds"])


@torch.no_grad()
def validate(network: nn.Module, loader: DataLoader[Batch], config: TrainConfig) -> dict[str, float]:
    """Mean losses over the validation windows."""
    network.eval()
    mean = Mean()
    for batch in loader:
        mean.add(compute_losses(network(batch), batch, config), len(batch["target"]))
    return mean.values()


class Mean:
    """Running means of named losses, weighted by batch size; kept on the device until asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0

    def add(self, losses: dict[str, Tensor], size: int) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach() * size
        self.count += size

    def values(self) -> dict[str, float]:
        return {name: float(value) / self.count for name, value in self.sums.items()}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, gates and mixtures do not."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def learning_rate_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero."""
    warmup = max(1, int(config.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def save_weights(model: nn.Module, path: Path) -> None:
    """Weights as safetensors; tied tensors are stored once."""
    stored: dict[int, str] = {}
    tensors = {}
    for name, tensor in model.state_dict().items():
        if stored.setdefault(tensor.data_ptr(), name) == name:
            tensors[name] = tensor.detach().cpu().contiguous()
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    os.replace(partial, path)


def load_weights(model: nn.Module, path: Path) -> None:
    """The reverse of save_weights. Raises RuntimeError for weights of another model."""
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    pointers = {t.data_ptr() for n, t in model.state_dict().items() if n not in missing}
    really = [n for n in missing if model.state_dict()[n].data_ptr() not in pointers]
    if really or unexpected:
        raise RuntimeError(
            f"{path} holds the weights of another model: missing {really[:3]}, unexpected {unexpected[:3]}"
        )


def _save(path: Path, state: dict[str, Any], model: nn.Module, optimizer: Any, schedule: Any) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        state | {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                 "random": torch.get_rng_state()},
        partial,
    )  # fmt: skip
    os.replace(partial, path)


def _resume(folder: Path, model: nn.Module, optimizer: Any, schedule: Any) -> dict[str, Any]:
    """The state after the last whole epoch, or the state before the first."""
    state: dict[str, Any] = {"epoch": 0, "step": 0, "seconds": 0.0, "best": math.inf, "best_epoch": 0}
    state["history"] = []
    path = folder / "checkpoint.pt"
    if path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        torch.set_rng_state(saved["random"])
        state = {k: saved[k] for k in state}
    return state


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line an epoch; replaced whole, so that a kill leaves neither half a line nor the same line twice."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_atomically(path, text.getvalue())


def forward_batches(model: StoryModel, dataset: WindowDataset, size: int = 64) -> Iterator[Batch]:
    """Batches of a data set in order, on the model's device, for evaluation."""
    device = next(model.parameters()).device
    for start in range(0, len(dataset), size):
        batch = dataset.__getitems__(range(start, min(start + size, len(dataset))))
        yield {k: v.to(device) for k, v in batch.items()}
