"""fit(): the training loop, on stored features only; no picture is opened and no frozen encoder runs in here.

accelerate launch -m storylib.training --source african_storybook --arm contrastive-on --seed 0 --set epochs=20

trains in several processes; see storylib.parallel, and storylib.__main__ for the options.
"""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.data_loader import prepare_data_loader
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler
from tqdm import tqdm

from storylib.boundary import UpperLayers
from storylib.config import Config, ConfigError, TrainConfig
from storylib.decoders import Vocabulary, load_tokenizer
from storylib.encoders import load_text_encoder
from storylib.features import Features, Rows
from storylib.losses import compute_losses
from storylib.model import FrozenSpace, StoryModel
from storylib.parallel import ALONE, Group, accelerator
from storylib.pictures import write_atomically
from storylib.pretraining import pretrain
from storylib.stories import Splits, Story, Window, windows

Batch = dict[str, Tensor]


class WindowDataset(Dataset):
    """The windows of some stories as tensors, gathered from features a whole batch at a time.

    Its candidates ("bank") are all pages of the same stories: what next-frame retrieval chooses among. In training it
    may be fewer, see ``embed_bank``. Words and pictures are in a batch only if their loss is on: a decoder that is not
    trained is neither run nor scored.
    """

    def __init__(self, features: Features, stories: Sequence[Story], vocabulary: Vocabulary, config: Config) -> None:
        self.windows: list[Window] = list(windows(stories, config.data.context))
        rows = features.rows(stories)
        position = {row: i for i, row in enumerate(rows)}
        picked = features.window_rows(self.windows).reshape(-1, config.data.context + 1)
        self.frames = torch.tensor([[position[r] for r in w] for w in picked]).view(picked.shape)  # (W, K + 1)
        self.image = Rows(features.image_vectors, features.image_of[rows])  # (P, Di)
        self.text = Rows(features.text_vectors, features.text_of[rows])  # (P, Dt)
        self.pictures = Rows(features.thumbnails, features.image_of[rows])  # (P, S, S, 3) uint8
        self.states, self.starts = features.text_states, features.text_starts
        self.trains_text = config.model.trainable_text_layers > 0
        self.image_id = torch.from_numpy(features.image_of[rows])
        self.text_id = torch.from_numpy(features.text_of[rows])
        self.story_id = torch.tensor([i for i, s in enumerate(stories) for _ in s.frames])
        self.texts = [features.texts[r] for r in rows]
        self.keys = [features.keys[r] for r in rows]
        self.tokens = vocabulary.encode(self.texts, config.model.text_length)
        self.vocabulary_size = len(vocabulary)
        self.writes, self.draws = config.train.text_weight > 0, config.train.image_weight > 0
        self.bank: dict[str, Tensor] = {}
        self.at_most = len(rows)

    def embed_bank(self, model: StoryModel, at_most: int | None = None) -> None:
        """Candidates in the model's frozen spaces; they never change during training.

        at_most: so many of them in a batch, which without a limit would cost more with every story. The pages of the
        batch's own stories are always among them; the others are drawn anew for every batch.
        """
        self.at_most = len(self.keys) if at_most is None else at_most
        spaces = {"image": (model.image_space, self.image), "text": (model.text_space, self.text)}
        for kind, (space, vectors) in spaces.items():
            bank = torch.empty(len(vectors), len(space.mean))
            with torch.no_grad():
                for pages in torch.arange(len(vectors)).split(Rows.AT_ONCE):
                    bank[pages] = space(vectors[pages])
            self.bank[f"{kind}_bank"] = bank

    def candidates(self, indices: Sequence[int]) -> Tensor:
        """(C,) the pages that a batch chooses among, ascending; which, depends on the batch alone."""
        pages = torch.arange(len(self.keys))
        if len(pages) <= self.at_most:
            return pages
        own = torch.isin(self.story_id, self.story_id[self.frames[torch.as_tensor(indices), -1]])
        generator = torch.Generator().manual_seed(hash(tuple(indices)))
        others = torch.randperm(len(pages), generator=generator)
        others = others[~own[others]][: max(0, self.at_most - int(own.sum()))]
        return torch.cat([pages[own], others]).sort().values

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        frames = self.frames[torch.as_tensor(indices)]  # (B, K + 1)
        context, target = frames[:, :-1], frames[:, -1]
        pages = self.candidates(indices)
        column = torch.searchsorted(pages, frames)
        own = torch.zeros(len(frames), len(pages), dtype=torch.bool).scatter_(1, column[:, :-1], True)
        bank = self.bank if len(pages) == len(self.keys) else {k: v[pages] for k, v in self.bank.items()}
        batch = bank | {
            "image": self.image[frames],
            "text": self.text[frames],
            "candidates": pages,  # (C,)
            "target": column[:, -1],  # (B,) index among the candidates
            "image_id": self.image_id[frames],
            "text_id": self.text_id[frames],
            "story_id": self.story_id[frames],
            "image_excluded": own | (self.image_id[target][:, None] == self.image_id[pages]),
            "same_story": self.story_id[target][:, None] == self.story_id[pages],
            "text_excluded": own | (self.text_id[target][:, None] == self.text_id[pages]),
        }
        if self.trains_text:
            batch |= self.text_states(frames)
        if self.writes:
            tokens = self.tokens[target]
            tokens = tokens[:, : int((tokens != Vocabulary.PAD).sum(1).max())]  # no longer than the batch's longest
            batch["tokens"] = tokens.masked_fill(tokens == Vocabulary.PAD, -100)
            batch["context_tokens"] = self.tokens[context]
        if self.draws:
            batch["picture"] = as_drawn(self.pictures[target])
            batch["context_pictures"] = as_drawn(self.pictures[context])
        return batch

    def text_states(self, pages: Tensor) -> Batch:
        """What the trained layers of the text encoder start from: states (..., T, D) of these pages, and their mask."""
        assert self.states is not None and self.starts is not None
        rows = self.text_id[pages].flatten().numpy()
        first, length = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        states = np.zeros((len(rows), length.max(), self.states.shape[1]), np.float32)
        for place, (start, count) in enumerate(zip(first, length, strict=True)):
            states[place, :count] = self.states[start : start + count]
        mask = torch.arange(length.max()) < torch.from_numpy(length)[:, None]
        shape = (*pages.shape, int(length.max()))
        return {"text_states": torch.from_numpy(states).view(*shape, -1), "text_mask": mask.view(shape)}


def as_drawn(thumbnails: Tensor) -> Tensor:
    """(..., S, S, 3) bytes as pictures in 0..1, (..., 3, S, S)."""
    return thumbnails.movedim(-1, -3).float() / 255


class EpochSampler(Sampler[int]):
    """A new order every epoch that depends on the seed and the epoch only, so that a resumed run sees the same."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())


class Shares(Sampler[list[int]]):
    """This process's share of each batch. A last batch with fewer windows than processes waits for another epoch."""

    def __init__(self, whole: BatchSampler, group: Group) -> None:
        self.whole, self.group = whole, group

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[list[int]]:
        return (list(self.group.share(batch)) for batch in self.whole if len(batch) >= self.group.size)


def batches(
    dataset: WindowDataset, size: int, sampler: Sampler[int] | None = None, group: Group = ALONE
) -> DataLoader[Batch]:
    """A loader whose batches are gathered at once; there is nothing to collate. size: windows of all processes."""
    whole = BatchSampler(sampler or SequentialSampler(dataset), size, drop_last=False)
    return DataLoader(dataset, batch_sampler=Shares(whole, group), collate_fn=_as_is)


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
    layers = config.model.trainable_text_layers
    upper = UpperLayers(load_text_encoder(config.data.text_encoder), layers) if layers else None
    torch.manual_seed(config.train.seed)
    rows = features.rows(splits.train)
    image, text = (
        FrozenSpace(Rows(vectors, of[rows]), config.model.correction_rank)
        for vectors, of in ((features.image_vectors, features.image_of), (features.text_vectors, features.text_of))
    )
    return StoryModel(config.model, image, text, vocabulary, config.data.context, upper)


class DivergedError(ConfigError):
    """A loss or a gradient that is no number; the message says where, and what is safe."""


@dataclass(frozen=True)
class Fit:
    """What a training leaves beside its files: the model at its best epoch, and what it took."""

    model: StoryModel
    best_epoch: int
    seconds: float


def fit(model: StoryModel, train: WindowDataset, validation: WindowDataset, config: TrainConfig, folder: Path) -> Fit:
    """Train; keep the epoch with the best validation loss. Goes on from the last whole epoch after a kill.

    folder: gets ``history.csv`` (one line an epoch, written as it goes), ``model.safetensors`` (the best epoch),
    ``tensorboard`` and, for as long as training lasts, ``checkpoint.pt``. Several processes need one folder for all.

    The best epoch has the lowest sum of the validation losses that every arm of the ablation has: all but the
    contrastive one. ``config.patience`` stops early, by the page retrieval on validation stories.
    Raises DivergedError at the first loss or gradient that is no number; what was saved before stays.
    """
    if not len(train) or not len(validation):
        raise ConfigError("There is no window to train or validate on: load more stories, or stories of more pages.")
    with cpu_threads(config.threads):
        trainer = Trainer(model, train, validation, config, folder)
        while len(trainer.history) < config.epochs and not stalled(trainer.history, config.patience):
            trainer.epoch()
    return trainer.finish()


class Objective(nn.Module):
    """The losses of a batch, in full precision, as the one output of the network that several processes share.

    Were the model itself shared, a parameter behind an output that no loss reads would wait for a gradient for ever.
    """

    def __init__(self, model: StoryModel, config: TrainConfig, group: Group) -> None:
        super().__init__()
        self.model, self.config, self.group = model, config, group

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        out = {name: value.float() for name, value in self.model(batch).items()}
        with torch.autocast(batch["target"].device.type, enabled=False):
            return compute_losses(out, batch, self.config, self.group)


class Trainer:
    """The state of one training in one of its processes."""

    def __init__(
        self, model: StoryModel, train: WindowDataset, validation: WindowDataset, config: TrainConfig, folder: Path
    ) -> None:
        device = pick_device(config.device)
        if config.precision == "fp16" and device == "cpu":
            raise ConfigError("precision='fp16' needs a GPU. On a CPU use 'bf16' or 'no'.")
        self.engine = accelerator(device, config.precision)
        self.group = group = Group(self.engine.process_index, self.engine.num_processes)
        if config.batch_size < group.size:
            raise ConfigError(f"batch_size={config.batch_size} leaves some of {group.size} processes without a window.")
        self.model, self.config, self.folder, self.stories = model, config, folder, train.keys
        self.sampler = EpochSampler(len(train), config.seed)
        train.embed_bank(model.cpu(), config.candidates)
        validation.embed_bank(model)
        began = time.perf_counter()
        if config.pretraining and config.text_weight and not (folder / "checkpoint.pt").exists():
            pretrain(model.text_decoder, train.tokens, config, quiet=not self.engine.is_local_main_process)
        self.loader = self._placed(batches(train, config.batch_size, self.sampler, group))
        self.checks = self._placed(batches(validation, 128))  # whole in every process: nothing to put together
        steps = config.epochs * math.ceil(len(self.loader) / config.accumulate)
        optimizer = adamw(model, config)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, steps, config)
        )
        self.network, self.optimizer = self.engine.prepare(Objective(model, config, group), optimizer)
        torch.manual_seed(config.seed + 1_000_003 * group.rank)  # dropout; the weights were drawn before
        self.history: list[dict[str, Any]] = []
        self.step, self.seconds = 0, time.perf_counter() - began
        self._resume()
        self.started = time.perf_counter() - self.seconds
        self.board = summary_writer(folder / "tensorboard", self.step) if group.main else None
        self.bar = tqdm(
            total=steps, initial=self.step, desc=f"train, seed {config.seed}", unit="step", mininterval=2,
            disable=not self.engine.is_local_main_process,
        )  # fmt: skip

    def _placed(self, loader: DataLoader[Batch]) -> DataLoader[Batch]:
        """Batches on this process's device; they are shared out already."""
        return prepare_data_loader(loader, self.engine.device, num_processes=1, process_index=0, put_on_device=True)

    def epoch(self) -> None:
        """Train on every window once, validate, and leave everything on disk."""
        self.sampler.epoch = len(self.history)
        self.network.train()
        logged, size = Mean(), self.config.accumulate
        left = len(self.loader)
        for number, batch in enumerate(self.loader):
            if number % size == 0:
                parts, left = min(size, left), left - min(size, left)
            last = number % size == parts - 1
            with nullcontext() if last else self.engine.no_sync(self.network):
                losses = self.network(batch)
                loss: Any = sum(losses.values())
                self._must_be_finite("loss", loss.detach(), batch)
                self.engine.backward(loss / parts)
            logged.add(losses, self.group.total(torch.tensor(len(batch["target"]), device=self.engine.device)))
            if last:
                self._update(loss.detach(), batch)
        checked = validate(self.model, self.checks, self.config)
        # Arms are compared at their best epoch by the losses that all of them have.
        score = sum(v for k, v in checked.items() if k not in ("contrastive", "page_mrr"))
        self._must_be_finite("validation loss", score, batch)
        self.bar.set_postfix_str(f"validation {score:.3f}")
        self.seconds = time.perf_counter() - self.started
        row = {"epoch": len(self.history) + 1, "seconds": round(self.seconds, 3), "validation_score": score}
        row |= {f"train_{k}": v for k, v in logged.values(self.group).items()}
        row |= {f"validation_{k}": v for k, v in checked.items()}
        self._keep(self.group.agree(row))

    def _update(self, loss: Tensor, batch: Batch) -> None:
        """One step of the optimiser."""
        norm = self.engine.clip_grad_norm_(self.network.parameters(), self.config.clip or math.inf)
        if not self.engine.scaler:  # which leaves such a step out by itself, and scales less
            self._must_be_finite("gradient", norm, batch)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.bar.update()
        if self.board:
            self.board.add_scalar("step/loss", float(loss), self.step)
            self.board.add_scalar("step/gradient", float(norm), self.step)
            self.board.add_scalar("step/learning_rate", self.schedule.get_last_lr()[0], self.step)

    def _must_be_finite(self, name: str, value: Any, batch: Batch) -> None:
        if math.isfinite(value):
            return
        stories = sorted({self.stories[page][0] for page in batch["candidates"][batch["target"]].tolist()})
        safe = f"The last good checkpoint, of epoch {len(self.history)}, is {self.folder / 'checkpoint.pt'}"
        raise DivergedError(
            f"The {name} is {float(value)} at step {self.step + 1}, in a batch of the stories {', '.join(stories)}. "
            f"{safe if self.history else 'There is no good checkpoint yet'}; nothing was written since. "
            f"Lower learning_rate (it is {self.config.learning_rate:g}), or look at the features of these stories."
        )

    def _keep(self, row: dict[str, Any]) -> None:
        """The main process writes the epoch down; the checkpoint comes last, so that a kill before it costs nothing."""
        self.history.append(row)
        random = self.group.collect(random_state(self.engine.device))
        if self.board:
            if best_epoch(self.history) == row["epoch"]:
                save_weights(self.model, self.folder / "model.safetensors")
            write_history(self.folder / "history.csv", self.history)
            for name, value in row.items():
                part, _, title = name.partition("_")
                if title:
                    self.board.add_scalar(f"{part}/{title}", value, self.step)
            self.board.flush()
            state = {"history": self.history, "step": self.step, "seconds": self.seconds, "random": random}
            parts = {name: part.state_dict() for name, part in self._parts().items()}
            write_whole(self.folder / "checkpoint.pt", lambda path: torch.save(state | parts, path))

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts | ({"scaler": self.engine.scaler} if self.engine.scaler else {})

    def _resume(self) -> None:
        """Go back to the state after the last whole epoch, if there was one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if len(saved["random"]) != self.group.size:
            raise ConfigError(
                f"{path} was left by {len(saved['random'])} processes, and this are {self.group.size}. "
                "Start as many again, or delete it to train from the beginning."
            )
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        self.history, self.step, self.seconds = saved["history"], saved["step"], saved["seconds"]
        random_state(self.engine.device, saved["random"][self.group.rank])

    def finish(self) -> Fit:
        """The model at its best epoch; the checkpoint has done its work."""
        self.bar.close()
        if self.board:
            self.board.close()
        load_weights(self.model, self.folder / "model.safetensors")
        self.group.agree(None)  # none may still be about to read what is deleted now
        if self.group.main:
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)
        return Fit(self.model.cpu().eval(), best_epoch(self.history), self.seconds)


def best_epoch(history: Sequence[Mapping[str, Any]]) -> int:
    """The epoch with the lowest validation score; the first of equals."""
    return min(history, key=lambda row: row["validation_score"])["epoch"]


def stalled(history: Sequence[Mapping[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` epochs brought no better page retrieval than one before them. patience 0: never."""
    scores = [row["validation_page_mrr"] for row in history]
    return bool(patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader[Batch], config: TrainConfig) -> dict[str, float]:
    """Mean losses over the validation windows, and ``page_mrr``, how well they find their next page."""
    model.eval()
    mean = Mean()
    for batch in loader:
        out = model(batch)
        ranks = page_ranks(out, batch)
        mean.add(compute_losses(out, batch, config) | {"page_mrr": (1 / ranks).mean()}, len(ranks))
    return mean.values()


def page_ranks(out: dict[str, Tensor], batch: Batch) -> Tensor:
    """(B,) rank of the next page, picture and text together, among the pages of the split, as in the evaluation."""
    image, text = (F.normalize(out[f"next_{k}"], dim=-1) @ batch[f"{k}_bank"].T for k in ("image", "text"))
    scores = image + text
    own = scores.gather(1, batch["target"][:, None])
    rivals = ~(batch["image_excluded"] & batch["text_excluded"])  # an exact copy has both its picture and its text
    rivals.scatter_(1, batch["target"][:, None], False)
    return 1 + ((scores > own) & rivals).sum(1) + ((scores == own) & rivals).sum(1) / 2


class Mean:
    """Running means of named losses, weighted by batch size; kept on the device until asked for."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count: int | Tensor = 0

    def add(self, losses: dict[str, Tensor], size: int | Tensor) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach() * size
        self.count += size

    def values(self, group: Group = ALONE) -> dict[str, float]:
        """The means; where several processes share the batches, of what all of them added."""
        return {name: float(group.total(value)) / group.size / int(self.count) for name, value in self.sums.items()}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms, gates and mixtures do not."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) in one pass over all weights, which halves its time on a CPU."""
    return torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate, fused=True)


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
    write_whole(path, lambda partial: save_file(tensors, partial))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file once it is whole and on the disk, so that not even a power cut leaves half of it."""
    partial = path.with_suffix(".partial")
    write(partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
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


def random_state(device: torch.device, restore: Sequence[Tensor] = ()) -> list[Tensor]:
    """The state of each generator that dropout draws from: the CPU's, and the device's own. restore: put it back."""
    own = [] if device.type == "cpu" else [torch.get_device_module(device)]
    for module, state in zip([torch, *own], restore, strict=False):
        module.set_rng_state(state)
    return [module.get_rng_state() for module in [torch, *own]]


def summary_writer(folder: Path, step: int) -> Any:
    """TensorBoard's log; what a killed training wrote there after this step is dropped."""
    from torch.utils.tensorboard import SummaryWriter  # takes a second, and only a training needs it

    return SummaryWriter(str(folder), purge_step=step + 1)


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


@torch.inference_mode()
def page_texts(model: StoryModel, dataset: WindowDataset) -> Tensor:
    """(P, Dt) the texts of all pages as the model reads them: frozen, or from the layers that were trained."""
    if not model.upper_layers:
        return dataset.text[:]
    pages = torch.arange(len(dataset.keys)).split(64)
    return torch.cat([model.texts(dataset.text_states(some)).cpu() for some in pages])


if __name__ == "__main__":  # the command "train", for accelerate launch -m
    from storylib.__main__ import main

    sys.exit(main(["train", *sys.argv[1:]]))
