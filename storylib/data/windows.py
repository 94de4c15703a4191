"""Windows of stories as tensors, gathered from stored features a whole batch at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from storylib.config import Config
from storylib.data.features import Features, Rows
from storylib.data.language_model import WindowTexts, is_pretrained
from storylib.data.types import Story, windows
from storylib.data.vocabulary import Vocabulary


class Batch(TypedDict, total=False):
    """B windows of K context frames and their target, with C candidates for the target."""

    image: Tensor  # (B, K + 1, Di) frozen picture features
    text: Tensor  # (B, K + 1, Dt) frozen text features
    image_id: Tensor  # (B, K + 1) equal for equal pictures
    text_id: Tensor  # (B, K + 1) equal for equal texts; of descriptions where they are aligned
    description: Tensor  # (B, K + 1, Dt) of what the pictures show; only if the contrastive loss aligns it
    story_id: Tensor  # (B, K + 1)
    candidates: Tensor  # (C,) frames of the data set, ascending
    image_bank: Tensor  # (C, Di) their pictures in the frozen space
    text_bank: Tensor  # (C, Dt) their texts in the frozen space
    target: Tensor  # (B,) index among the candidates
    image_excluded: Tensor  # (B, C) bool: the window's own context, and copies of the target's picture
    text_excluded: Tensor  # (B, C) bool: the same for texts
    same_story: Tensor  # (B, C) bool: candidates of the target's own story
    states: Tensor  # (B, T, D) a pretrained language model's before each token; only if one writes
    tokens: Tensor  # (B, T) the target's word pieces, -100 for padding; only if the text loss is on
    context_tokens: Tensor  # (B, K, L) the context's word pieces; only if the text loss is on
    picture: Tensor  # (B, 3, S, S) the target's pixels in 0..1; only if the image loss is on
    context_pictures: Tensor  # (B, K, 3, S, S) the context's pixels; only if the image loss is on


class WindowDataset(Dataset):
    """The windows of some stories; frames are numbered in the order of the stories.

    All frames are candidates in next-frame retrieval, unless ``embed_bank`` limits them. Word pieces and pixels are in
    a batch only if their loss is on: a decoder that is not trained is neither run nor scored.
    """

    def __init__(self, features: Features, stories: Sequence[Story], vocabulary: Vocabulary, config: Config) -> None:
        self.windows = list(windows(stories, config.data.context))
        rows = features.rows(stories)
        self.keys = [features.keys[row] for row in rows]  # (story, number) of each frame
        index = {key: i for i, key in enumerate(self.keys)}
        frames = [[index[w.story.id, f.number] for f in (*w.context, w.target)] for w in self.windows]
        self.frames = torch.tensor(frames, dtype=torch.long).view(-1, config.data.context + 1)  # (W, K + 1)
        self.image = Rows(features.image_vectors, features.image_of[rows])  # (F, Di)
        self.text = Rows(features.text_vectors, features.text_of[rows])  # (F, Dt)
        self.pictures = Rows(features.thumbnails, features.image_of[rows])  # (F, S, S, 3) uint8
        self.image_id = torch.from_numpy(features.image_of[rows])
        self.text_id = torch.from_numpy(features.text_of[rows])
        self.description = Rows(features.text_vectors, features.description_of[rows])  # (F, Dt)
        self.description_id = torch.from_numpy(features.description_of[rows])
        self.described = self.description_id != self.text_id  # (F,) bool
        training = config.train
        self.aligns_descriptions = training.contrastive_weight > 0 and training.contrastive_text == "description"
        self.story_id = torch.tensor([i for i, story in enumerate(stories) for _ in story.frames])
        self.texts = [features.texts[row] for row in rows]
        self.tokens = vocabulary.encode(self.texts, config.model.text_length)  # (F, L)
        self.scored_texts = vocabulary.scored(self.texts, config.model.text_length)
        self.reading = features.reading if is_pretrained(config.model.text_decoder) else None
        if self.reading:
            rows_of = [self.reading.window_of[w.story.id, w.target.number] for w in self.windows]
            self.reading_states, self.reading_rows = self.reading.states, torch.tensor(rows_of)  # (W,)
        self.vocabulary_size = len(vocabulary)
        self.writes, self.draws = training.text_weight > 0, training.image_weight > 0
        self.image_bank = self.text_bank = self.description_bank = torch.zeros(0)
        self.most_candidates = len(rows)

    def embed_bank(self, image_space: nn.Module, text_space: nn.Module, most_candidates: int | None = None) -> None:
        """Put all frames into the model's frozen spaces, which do not change in training.

        most_candidates: in a training batch, whose cost would otherwise grow with the data; None: all frames.
        """
        self.most_candidates = len(self.keys) if most_candidates is None else most_candidates
        self.image_bank = _embedded(image_space, self.image)
        self.text_bank = _embedded(text_space, self.text)
        self.description_bank = _embedded(text_space, self.description) if self.described.any() else torch.zeros(0)

    def candidates(self, indices: Sequence[int]) -> Tensor:
        """(C,) ascending frames that a batch chooses among: all of its stories, and others drawn for the batch."""
        frames = torch.arange(len(self.keys))
        if len(frames) <= self.most_candidates:
            return frames
        own = torch.isin(self.story_id, self.story_id[self.frames[torch.as_tensor(indices), -1]])
        content = ",".join(str(int(index)) for index in indices)  # gives the same seed on every machine and Python
        seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big") >> 1
        others = torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))
        others = others[~own[others]][: max(0, self.most_candidates - int(own.sum()))]
        return torch.cat([frames[own], others]).sort().values

    def __len__(self) -> int:
        return len(self.windows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        frames = self.frames[torch.as_tensor(indices)]  # (B, K + 1)
        context, target = frames[:, :-1], frames[:, -1]
        candidates = self.candidates(indices)
        column = torch.searchsorted(candidates, frames)
        in_context = torch.zeros(len(frames), len(candidates), dtype=torch.bool).scatter_(1, column[:, :-1], True)
        every = len(candidates) == len(self.keys)
        batch: Batch = {
            "image": self.image[frames],
            "text": self.text[frames],
            "image_id": self.image_id[frames],
            "text_id": (self.description_id if self.aligns_descriptions else self.text_id)[frames],
            "story_id": self.story_id[frames],
            "candidates": candidates,
            "image_bank": self.image_bank if every else self.image_bank[candidates],
            "text_bank": self.text_bank if every else self.text_bank[candidates],
            "target": column[:, -1],
            "image_excluded": in_context | (self.image_id[target][:, None] == self.image_id[candidates]),
            "text_excluded": in_context | (self.text_id[target][:, None] == self.text_id[candidates]),
            "same_story": self.story_id[target][:, None] == self.story_id[candidates],
        }
        if self.aligns_descriptions:
            batch["description"] = self.description[frames]
        if self.writes:
            tokens = self.tokens[target]
            longest = int((tokens != Vocabulary.PAD).sum(1).max())
            tokens = tokens[:, :longest]
            batch["tokens"] = tokens.masked_fill(tokens == Vocabulary.PAD, -100)
            batch["context_tokens"] = self.tokens[context]
            if self.reading:
                batch["states"] = self.reading_states.batch(self.reading_rows[torch.as_tensor(indices)])
        if self.draws:
            batch["picture"] = as_pixels(self.pictures[target])
            batch["context_pictures"] = as_pixels(self.pictures[context])
        return batch

    def batches(self, device: torch.device | str, size: int = 64) -> Iterator[Batch]:
        """All windows in order, for evaluation."""
        for start in range(0, len(self), size):
            batch = self.__getitems__(range(start, min(start + size, len(self))))
            yield {name: value.to(device) for name, value in batch.items()}  # type: ignore[attr-defined, misc]


class OtherStories(WindowDataset):
    """The same windows, each with the frames of a window of another story; see ``other_story``."""

    def __init__(self, dataset: WindowDataset) -> None:
        self.__dict__.update(dataset.__dict__)
        story = dataset.story_id[dataset.frames[:, 0]]
        other = other_story(story)
        self.unchanged = story[other] == story  # (W,) windows of the only story: there is no other context
        self.frames = dataset.frames[other]
        if self.reading:
            self.reading_states = self.reading.read(
                window_texts(self.texts, self.frames[:, :-1], dataset.frames[:, -1])
            )
            self.reading_rows = torch.arange(len(self.frames))


def window_texts(texts: Sequence[str], context: Tensor, target: Tensor) -> list[WindowTexts]:
    """The texts of windows as a language model reads them. context: (W, K) frames, K may be 0. target: (W,)."""
    pairs = zip(context.tolist(), target.tolist(), strict=True)
    return [(tuple(texts[frame] for frame in frames), texts[last]) for frames, last in pairs]


def other_story(stories: Tensor) -> Tensor:
    """(W,) for each window the index of one of another story, about half-way round the list.

    stories: (W,) the story of each window. Where there is only one story, the window is of the same.
    """
    size = len(stories)
    other = (torch.arange(size) + size // 2) % max(1, size)
    for _ in range(size):
        same = stories[other] == stories
        if not same.any():
            break
        other = torch.where(same, (other + 1) % size, other)
    return other


def as_pixels(thumbnails: Tensor) -> Tensor:
    """(..., S, S, 3) bytes as pixels in 0..1, (..., 3, S, S)."""
    return thumbnails.movedim(-1, -3).float() / 255


def _embedded(space: nn.Module, vectors: Rows) -> Tensor:
    """(F, D) features in a frozen space, a few rows in memory at a time."""
    bank = torch.empty(len(vectors), len(space.mean))  # type: ignore[arg-type]
    with torch.no_grad():
        for rows in torch.arange(len(vectors)).split(Rows.CHUNK):
            bank[rows] = space(vectors[rows])
    return bank


class BatchSampler(Sampler[list[int]]):
    """One process's share of each batch, by rank. A last batch with fewer windows than processes is left out.

    The order depends on the seed and the epoch alone, so that a resumed run sees the same.
    """

    def __init__(self, windows: int, size: int, seed: int, rank: int, processes: int) -> None:
        self.windows, self.size, self.seed, self.epoch = windows, size, seed, 0
        self.rank, self.processes = rank, processes

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        for batch in torch.randperm(self.windows, generator=generator).split(self.size):
            if len(batch) >= self.processes:
                first, last = (len(batch) * rank // self.processes for rank in (self.rank, self.rank + 1))
                yield batch[first:last].tolist()


def data_loader(dataset: WindowDataset, size: int, seed: int, rank: int = 0, processes: int = 1) -> DataLoader[Batch]:
    """A loader of whole batches; nothing is left to collate. size: windows of a batch, over all processes."""
    batches = BatchSampler(len(dataset), size, seed, rank, processes)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=lambda batch: batch)
