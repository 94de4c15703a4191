"""fit(): the training loop. It works on stored features: no picture is opened and no frozen encoder runs in here.

In several processes: accelerate launch -m storylib train --source picture_books --arm contrastive-on --seed 0
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from storylib.config import SELECTION_LOSSES, Config, ConfigError, TrainConfig
from storylib.data.device import cpu_threads, pick_device
from storylib.data.features import Features, Rows
from storylib.data.language_model import is_pretrained
from storylib.data.splits import Splits
from storylib.data.store import cache_entry, make_sealed, replace_atomically, write_atomically
from storylib.data.vocabulary import Vocabulary, load_tokenizer
from storylib.data.windows import Batch, WindowDataset, data_loader
from storylib.decoders import PretrainedTextDecoder, TextDecoder
from storylib.losses import ALONE, Group, Losses, compute_losses
from storylib.metrics.retrieval import tied_rank
from storylib.model import FrozenSpace, ModelOutput, StoryModel


class DivergedError(ConfigError):
    """A loss or gradient that is not finite; the message says where, and which checkpoint is good."""


def fit(
    model: StoryModel, train: WindowDataset, validation: WindowDataset, config: TrainConfig, folder: Path
) -> Trainer:
    """Train the model to its epoch with the best validation loss. Resumes after the last whole epoch if it was killed.

    folder: gets ``history.csv`` (one row per epoch, written as training goes), ``model.safetensors`` (the best epoch),
    and until training ends ``checkpoint.pt``. Several processes share one folder.
    Raises DivergedError at the first loss or gradient that is not finite; what was saved before stays.
    """
    if not any(getattr(config, f"{name}_weight") for name in SELECTION_LOSSES):
        raise ConfigError(f"No loss is on to select the best epoch by. Turn on one of: {', '.join(SELECTION_LOSSES)}.")
    with cpu_threads(config.threads):
        trainer = Trainer(model, train, validation, config, folder)
        while len(trainer.history) < config.epochs:
            trainer.epoch()
    trainer.finish()
    return trainer


class Trainer:
    """The state of one training in one of its processes."""

    def __init__(
        self, model: StoryModel, train: WindowDataset, validation: WindowDataset, config: TrainConfig, folder: Path
    ) -> None:
        self.engine = accelerator(config)
        self.group = group = Group(self.engine.process_index, self.engine.num_processes)
        if config.batch_size < group.size:
            raise ConfigError(f"batch_size={config.batch_size} leaves some of {group.size} processes without a window.")
        self.model, self.config, self.folder, self.keys, self.validation = model, config, folder, train.keys, validation
        self._checkpoint = folder / "checkpoint.pt"
        self.quiet = not self.engine.is_local_main_process
        spaces = model.cpu().image_space, model.text_space
        train.embed_bank(*spaces, config.candidates)
        validation.embed_bank(*spaces)
        began = time.perf_counter()
        decoder = model.text_decoder
        if isinstance(decoder, PretrainedTextDecoder):
            decoder.familiarise(train.tokens)
        elif config.text_weight and config.pretraining and not self._checkpoint.exists():
            pretrain(decoder, train.tokens, config, self.quiet)
        self.loader = data_loader(train, config.batch_size, config.seed, group.rank, group.size)
        self.sampler: Any = self.loader.batch_sampler
        steps = config.epochs * len(self.loader)
        optimizer = adamw(model, config)
        factor = partial(learning_rate_factor, steps=steps, config=config)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        self.network, self.optimizer = self.engine.prepare(Objective(model, config, group), optimizer)
        torch.manual_seed(config.seed + 1_000_003 * group.rank)  # for dropout; the weights were drawn before
        self.history: list[dict[str, Any]] = []
        self.step, self.seconds = 0, time.perf_counter() - began
        self._resume()
        self.started = time.perf_counter() - self.seconds
        title = f"train, seed {config.seed}"
        self.bar = tqdm(total=steps, initial=self.step, desc=title, unit="step", mininterval=2, disable=self.quiet)

    def epoch(self) -> None:
        """Train on every window once, validate, and write everything to disk."""
        self.sampler.epoch = len(self.history)
        self.network.train()
        training = Mean()
        batch: Any
        for batch in self.loader:
            batch = {name: value.to(self.engine.device) for name, value in batch.items()}
            losses = self.network(batch)
            loss: Any = sum(losses.values())
            self._check_finite("loss", loss.detach(), batch)
            self.engine.backward(loss)
            training.add(losses, self.group.total(torch.tensor(len(batch["target"]), device=self.engine.device)))
            self._update(batch)
        validation = validate(self.model, self.validation, self.config)  # whole in every process
        score = sum(validation.get(name, 0.0) for name in SELECTION_LOSSES)  # of the losses that all arms share
        self._check_finite("validation loss", score, batch)
        self.bar.set_postfix_str(f"validation {score:.3f}")
        self.seconds = time.perf_counter() - self.started
        row = {"epoch": len(self.history) + 1, "seconds": round(self.seconds, 3), "validation_score": score}
        row |= {f"train_{name}": value for name, value in training.values(self.group).items()}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        self._save(self.group.agree(row))

    def _update(self, batch: Batch) -> None:
        norm = self.engine.clip_grad_norm_(self.network.parameters(), self.config.clip or math.inf)
        if not self.engine.scaler:  # which skips such a step itself and lowers its scale
            self._check_finite("gradient", norm, batch)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.bar.update()

    def _check_finite(self, name: str, value: Any, batch: Batch) -> None:
        if math.isfinite(value):
            return
        targets = batch["candidates"][batch["target"]].tolist()
        stories = sorted({self.keys[frame][0] for frame in targets})
        saved = f"The last good checkpoint, of epoch {len(self.history)}, is {self._checkpoint}"
        raise DivergedError(
            f"The {name} is {float(value)} at step {self.step + 1}, in a batch of the stories {', '.join(stories)}. "
            f"{saved if self.history else 'There is no good checkpoint yet'}; nothing was written since. "
            f"Lower learning_rate (it is {self.config.learning_rate:g}), or look at the features of these stories."
        )

    def _save(self, row: dict[str, Any]) -> None:
        """The main process writes the epoch; the checkpoint comes last, so that a kill before it loses nothing."""
        self.history.append(row)
        random = self.group.collect(random_state(self.engine.device))
        if self.group.rank:
            return
        if self.best_epoch == row["epoch"]:
            save_weights(self.model, self.folder / "model.safetensors")
        table = pd.DataFrame(self.history)
        write_atomically(self.folder / "history.csv", table.to_csv(index=False, float_format="%.6g"))
        state = {"history": self.history, "step": self.step, "seconds": self.seconds, "random": random}
        state |= {name: part.state_dict() for name, part in self._parts().items()}
        replace_atomically(self._checkpoint, lambda path: torch.save(state, path))

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts | ({"scaler": self.engine.scaler} if self.engine.scaler else {})

    def _resume(self) -> None:
        """Restore the state after the last whole epoch, if there was one."""
        if not self._checkpoint.exists():
            return
        saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        processes = len(saved["random"])
        if processes != self.group.size:
            raise ConfigError(
                f"{self._checkpoint} was left by {processes} processes, but there are {self.group.size} now. "
                "Start as many again, or delete it to train from the beginning."
            )
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.history, self.step, self.seconds = saved["history"], saved["step"], saved["seconds"]
        random_state(self.engine.device, saved["random"][self.group.rank])

    def finish(self) -> None:
        """The model at its best epoch; the checkpoint is deleted."""
        self.bar.close()
        self.group.agree(None)  # the main process has written the last epoch
        load_weights(self.model, self.folder / "model.safetensors")
        if self.group.rank == 0:
            self._checkpoint.unlink(missing_ok=True)
        self.model.cpu().eval()

    @property
    def best_epoch(self) -> int:
        """The epoch with the lowest validation score; the first of equals."""
        return min(self.history, key=lambda row: row["validation_score"])["epoch"]


class Objective(nn.Module):
    """From a batch to its losses, in full precision: the network that several processes share.

    Were the model itself shared, a parameter behind an output that no loss reads would wait for its gradient forever.
    """

    def __init__(self, model: StoryModel, config: TrainConfig, group: Group) -> None:
        super().__init__()
        self.model, self.config, self.group = model, config, group

    def forward(self, batch: Batch) -> Losses:
        output: Any = {name: value.float() for name, value in self.model(batch).items()}
        with torch.autocast(batch["target"].device.type, enabled=False):
            return compute_losses(output, batch, self.config, self.group)


def pretrain(decoder: TextDecoder, tokens: Tensor, config: TrainConfig, quiet: bool) -> None:
    """Train the text decoder alone on every training text (N, T); kept on disk, as arms of one seed share the weights.

    A window asks for one text in five, but a language model can learn from all of them: behind a prefix of zeros, and
    without a context to copy from. Random draws depend on ``config.seed`` alone. quiet: no progress bar.
    """
    weights = list(decoder.lm.parameters())  # neither the prefix nor the cache, which have nothing to read here
    content = b"".join(tensor.detach().numpy().tobytes() for tensor in (tokens, *weights))
    optimisation = [config.pretraining, config.learning_rate, config.weight_decay, config.batch_size, config.clip]
    key = [hashlib.sha256(content).hexdigest(), config.seed, config.threads, *optimisation]
    folder = cache_entry("pretraining", f"seed{config.seed}", key, "training")

    def make(target: Path) -> None:
        torch.manual_seed(config.seed)
        optimizer = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay, fused=True)
        frames, width = len(decoder.cache_recency), decoder.prefix.in_features
        decoder.train()
        for _ in tqdm(range(config.pretraining), desc="text decoder alone", unit="epoch", disable=quiet):
            for rows in torch.randperm(len(tokens)).split(config.batch_size):
                no_story = torch.zeros(len(rows), frames + 1, width)
                no_context = torch.full((len(rows), frames, 1), Vocabulary.PAD)
                log_probabilities = decoder(no_story, tokens[rows], no_context)
                loss = -log_probabilities.sum() / (tokens[rows] != Vocabulary.PAD).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, config.clip or math.inf)
                optimizer.step()
        decoder.zero_grad(set_to_none=True)  # also of what was not trained here, or the first step would add it
        save_weights(decoder.lm, target / "model.safetensors")

    make_sealed(folder, make)
    load_weights(decoder.lm, folder / "model.safetensors")


@torch.no_grad()
def validate(model: nn.Module, windows: WindowDataset, config: TrainConfig) -> dict[str, float]:
    """Mean losses over the validation windows, and ``frame_mrr``: how well they find their next frame."""
    model.eval()
    mean = Mean()
    for batch in windows.batches(next(model.parameters()).device, 128):
        output = model(batch)
        ranks = frame_ranks(output, batch)
        mean.add(compute_losses(output, batch, config) | {"frame_mrr": (1 / ranks).mean()}, len(ranks))
    return mean.values()


def frame_ranks(output: ModelOutput, batch: Batch) -> Tensor:
    """(B,) rank of the next frame, picture and text together, among the split's frames, as in the evaluation."""
    scores = F.normalize(output["next_image"], dim=-1) @ batch["image_bank"].T
    scores = scores + F.normalize(output["next_text"], dim=-1) @ batch["text_bank"].T
    target = batch["target"][:, None]
    rivals = ~(batch["image_excluded"] & batch["text_excluded"])  # an exact copy shares both picture and text
    rivals.scatter_(1, target, False)
    return tied_rank(scores, scores.gather(1, target), rivals)


class Mean:
    """Running means of named losses, weighted by batch size; on the device until asked for."""

    def __init__(self) -> None:
        self.sums: Losses = {}
        self.count: int | Tensor = 0

    def add(self, losses: Losses, size: int | Tensor) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach() * size
        self.count += size

    def values(self, group: Group = ALONE) -> dict[str, float]:
        """The means over all processes of the group."""
        return {name: float(group.total(value)) / group.size / int(self.count) for name, value in self.sums.items()}


def build_vocabulary(features: Features, splits: Splits, config: Config) -> Vocabulary:
    """Word pieces of the training texts."""
    texts = [features.texts[row] for row in features.rows(splits.train)]
    tokenizer = load_tokenizer(config.model.text_decoder)
    return Vocabulary.whole(tokenizer) if is_pretrained(config.model.text_decoder) else Vocabulary.of(texts, tokenizer)


def build_model(config: Config, features: Features, splits: Splits, vocabulary: Vocabulary) -> StoryModel:
    """An untrained model; its weights depend on the seed alone."""
    torch.manual_seed(config.train.seed)
    rows, rank = features.rows(splits.train), config.model.correction_rank
    image_space = FrozenSpace.fit(Rows(features.image_vectors, features.image_of[rows]), rank)
    text_space = FrozenSpace.fit(Rows(features.text_vectors, features.text_of[rows]), rank)
    model = StoryModel(config.model, image_space, text_space, vocabulary, config.data.context)
    if features.reading and features.reading.adaptation is not None:
        model.text_decoder.adaptation = features.reading.adaptation.clone()
    return model


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019). Matrices decay; biases, norms, gates and mixtures do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)  # one pass: half the time on a CPU


def learning_rate_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to zero; the library's own schedule would start at zero and import transformers."""
    warmup = max(1, int(config.warmup * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def save_weights(model: nn.Module, path: Path) -> None:
    """The weights as safetensors, tied tensors once; replaced in one step."""
    from safetensors.torch import save_model

    replace_atomically(path, lambda partial: save_model(model, str(partial)))


def load_weights(model: nn.Module, path: Path) -> None:
    """Raises RuntimeError for weights of another model."""
    from safetensors.torch import load_model

    load_model(model, path)


def join(device: str) -> Group:
    """The group of processes that ``accelerate launch`` started this one in; otherwise a group of one."""
    state = _fresh_state(pick_device(device))
    return Group(state.process_index, state.num_processes)


def accelerator(config: TrainConfig) -> Any:
    """The library's handle of devices, processes and mixed precision."""
    from accelerate import Accelerator, DistributedDataParallelKwargs

    device = pick_device(config.device)
    if config.precision == "fp16" and device == "cpu":
        raise ConfigError("precision='fp16' needs a GPU. On a CPU use 'bf16' or 'no'.")
    _fresh_state(device)
    distributed = DistributedDataParallelKwargs(find_unused_parameters=True)  # of a loss that is off
    return Accelerator(cpu=device == "cpu", mixed_precision=config.precision, kwargs_handlers=[distributed])


def _fresh_state(device: str) -> Any:
    """The library keeps one state per process and refuses a second device or precision, so each training resets it."""
    from accelerate import PartialState
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    return PartialState(cpu=device == "cpu")


def random_state(device: torch.device, restore: Sequence[Tensor] = ()) -> list[Tensor]:
    """The state of each generator that dropout draws from: the CPU's and the device's. restore: states to set."""
    modules: list[Any] = [torch] if device.type == "cpu" else [torch, torch.get_device_module(device)]
    for module, state in zip(modules, restore, strict=False):
        module.set_rng_state(state)
    return [module.get_rng_state() for module in modules]
