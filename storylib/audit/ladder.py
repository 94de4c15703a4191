"""What both ladders share: rungs that differ by one switch, the stories, and features that are encoded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from storylib.config import ConfigError, configure, experiments, unknown
from storylib.decoders import load_tokenizer
from storylib.features import Rows, encode_texts
from storylib.runs import Data, prepare
from storylib.sources.stand_in import tagged
from storylib.stories import Story, Window, windows

P = TypeVar("P")
SCORING = {"trains": False}  # metadata of a switch that changes the scoring only: the trained model is the same


@dataclass(frozen=True)
class Rung(Generic[P]):
    """One step of a ladder: a protocol, and the one switch in which it differs from the rung before."""

    label: str  # what the step does, in a few words
    protocol: P
    change: str = ""  # name of the switch; "" for the protocol as published


def ladder(published: P, *steps: tuple[str, dict[str, Any]]) -> list[Rung[P]]:
    """Rungs from the protocol as published; each step is a label and one switch with its new value."""
    rungs = [Rung("as published", published)]
    for label, change in steps:
        (switch,) = change
        rungs.append(Rung(label, dataclasses.replace(rungs[-1].protocol, **change), switch))  # type: ignore[type-var]
    return rungs


def training_part(protocol: Any) -> dict[str, Any]:
    """The switches that change the trained model; rungs that agree in them share it."""
    return {f.name: getattr(protocol, f.name) for f in dataclasses.fields(protocol) if f.metadata.get("trains", True)}


@dataclass(frozen=True)
class Settings:
    """How much is run: an entry of ``audit`` in ``experiments.yml``."""

    seeds: tuple[int, ...] = (0, 1, 2)
    stories: int = 200  # both systems took the first 200
    epochs_a: int = 5  # of system A's configuration
    epochs_b: int = 2
    vocabulary: str = "occurring"  # word pieces: those that occur, or "all" 30,522 as published
    rungs: int | None = None  # only the first so many of each ladder

    @classmethod
    def of(cls, profile: str) -> Settings:
        plans = experiments()["audit"]
        if profile not in plans:
            raise ConfigError(unknown("profile of the audit", profile, plans))
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plans[profile]:
            if name not in known:
                raise ConfigError(unknown("setting of the audit", name, known))
        return cls(**(plans[profile] | {"seeds": tuple(plans[profile].get("seeds", cls.seeds))}))


class Pieces:
    """BERT's word pieces as both systems use them: [CLS] first, [SEP] last, cut and padded to a length."""

    def __init__(self, tokenizer: Any, texts: Iterable[str], everything: bool = False) -> None:
        self.tokenizer = tokenizer
        rows = [] if everything else tokenizer(sorted(set(texts)))["input_ids"]
        used = range(len(tokenizer)) if everything else {i for row in rows for i in row} | {*tokenizer.all_special_ids}
        self.ids = sorted(used)
        self.ours = {piece: i for i, piece in enumerate(self.ids)}
        special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id)
        self.pad, self.start, self.end, self.unknown = (self.ours[piece] for piece in special)

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """(N, length) ids of ours."""
        rows = self.tokenizer(
            list(texts), truncation=True, max_length=length, padding="max_length", return_attention_mask=False
        )["input_ids"]
        return torch.tensor([[self.ours.get(i, self.unknown) for i in row] for row in rows], dtype=torch.long)

    def decode(self, ids: Tensor) -> list[str]:
        """Texts of (N, T) ids, each up to its first [SEP]."""
        texts = []
        for row in ids.tolist():
            row = row[: row.index(self.end)] if self.end in row else row
            texts.append(self.tokenizer.decode([self.ids[i] for i in row], skip_special_tokens=True))
        return texts

    def cut(self, text: str, length: int) -> str:
        """The beginning of a text that ``encode`` keeps, as it was written."""
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(spans) <= length - 2 else text[: spans[length - 3][1]]


# What is given as "the text" of frame i of a story. B_PIECES cuts as system B does.

B_PIECES = 32


def whole(story: Story) -> str:
    return " ".join(f.text for f in story.frames)


def marked_up(story: Story) -> str:
    """The story as one string with markup in the manner of StoryReasoning."""
    return " ".join(f"<gdi image{i}> {tagged(frame)} </gdi>" for i, frame in enumerate(story.frames, 1))


class Material:
    """Stories to train on and held-out ones, their frozen features, and the texts that a protocol gives a frame.

    A frame's number is its place among the frames of ``stories``, which are those of both parts and no others.
    """

    def __init__(self, data: Data, image: str, text: str, settings: Settings, context: int = 4) -> None:
        self.data, self.encoders, self.context = data, (image, text), context
        self.train: list[Story] = data.splits.train[: settings.stories]
        self.held: list[Story] = data.splits.test
        self.stories = [*self.train, *self.held]
        texts = [t for s in data.stories for t in (marked_up(s), whole(s), *(f.text for f in s.frames))]
        tokenizer = load_tokenizer("gpt2-small", text)
        self.pieces = Pieces(tokenizer, texts, settings.vocabulary == "all")
        features, chosen = data.features, data.features.rows(self.stories)
        self.row = {features.keys[row]: i for i, row in enumerate(chosen)}
        shown = features.image_of[chosen]
        self.image = Rows(features.image_vectors, shown)[:]  # (F, Di)
        self.pictures = Rows(features.thumbnails, shown)[:].permute(0, 3, 1, 2)  # (F, 3, S, S) uint8
        self.kinds: dict[str, Callable[[Story, int], str]] = {
            "page": lambda s, i: s.frames[i].text,
            "story": lambda s, i: whole(s),
            "context": lambda s, i: " ".join(f.text for f in s.frames[max(0, i + 1 - context) : i + 1]),
            "cut page": lambda s, i: self.pieces.cut(s.frames[i].text, B_PIECES),
            "cut story": lambda s, i: self.pieces.cut(whole(s), B_PIECES),
            "cut marked story": lambda s, i: self.pieces.cut(marked_up(s), B_PIECES),
        }
        pages = [features.texts[row] for row in chosen]
        self._texts = {"page": (pages, Rows(features.text_vectors, features.text_of[chosen])[:])}

    @classmethod
    def of(cls, source: str, settings: Settings, profile: str = "quick") -> Material:
        """From the source's features, which the other chapters share; texts in another form are encoded once."""
        config = configure(profile, source=source)
        return cls(prepare(config), config.data.image_encoder, config.data.text_encoder, settings, config.data.context)

    def texts(self, kind: str) -> tuple[list[str], Tensor]:
        """The text of every frame in one of the forms of ``kinds``, (F,), and their vectors, (F, Dt)."""
        if kind not in self._texts:
            form = self.kinds[kind]
            texts = [form(s, i) for s in self.stories for i in range(len(s.frames))]
            encoded = encode_texts(texts, self.encoders[1])
            self._texts[kind] = (texts, Rows(encoded.vectors, encoded.row_of)[:])
        return self._texts[kind]

    def rows(self, chosen: Sequence[Window]) -> Tensor:
        """(W, K + 1) frames of windows: the context's, then the target's."""
        frames = [[self.row[w.story.id, f.page] for f in (*w.context, w.target)] for w in chosen]
        return torch.tensor(frames, dtype=torch.long).reshape(-1, self.context + 1)

    @cached_property
    def sliding(self) -> tuple[Tensor, Tensor]:
        """Every window of the training stories and of the held-out ones."""
        train, held = (self.rows(list(windows(part, self.context))) for part in (self.train, self.held))
        return train, held

    @cached_property
    def last(self) -> Tensor:
        """The last window of each training story, what system B trains on."""
        found = [list(windows([story], self.context))[-1:] for story in self.train]
        return self.rows([w for ws in found for w in ws])

    @cached_property
    def story_of(self) -> Tensor:
        """(F,) number of each frame's story."""
        return torch.tensor([i for i, s in enumerate(self.stories) for _ in s.frames])


def another_story(stories: Tensor) -> Tensor:
    """(W,) for each window one of another story, about half-way round. stories: (W,) number of each window's story."""
    size = len(stories)
    turned = (torch.arange(size) + size // 2) % size
    for _ in range(size):
        same = stories[turned] == stories
        if not same.any():
            break
        turned = torch.where(same, (turned + 1) % size, turned)
    return turned


def order(size: int, seed: int, epoch: int) -> Tensor:
    """A new order of the training windows every epoch."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
