"""The stories of the audit, their frozen features, and their texts in every form that a protocol reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from storylib.audit.protocols import AuditSettings
from storylib.config import configure
from storylib.data.features import Rows, encode_texts
from storylib.data.types import Frame, Story, Window, windows
from storylib.data.vocabulary import load_tokenizer
from storylib.experiments.runs import Data, prepare

CONTEXT = 4  # frames that both systems read
TEXT_LENGTH_B = 32  # word pieces to which system B cuts a text


class WordPieces:
    """BERT's word pieces that occur in ``texts``: [CLS] first, [SEP] last, cut and padded to a length."""

    def __init__(self, tokenizer: Any, texts: Iterable[str]) -> None:
        self.tokenizer = tokenizer
        occurring = {piece for row in tokenizer(sorted(set(texts)))["input_ids"] for piece in row}
        self.ids = sorted(occurring | {*tokenizer.all_special_ids})  # the tokenizer's id of each of our pieces
        self.index = {piece: i for i, piece in enumerate(self.ids)}
        special = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id)
        self.pad, self.start, self.end, self.unknown = (self.index[piece] for piece in special)

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """(N, length) indices of pieces."""
        rows = self.tokenizer(list(texts), truncation=True, max_length=length, padding="max_length")["input_ids"]
        return torch.tensor([[self.index.get(i, self.unknown) for i in row] for row in rows])

    def decode(self, indices: Tensor) -> list[str]:
        """Texts of (N, T) indices, each up to its first [SEP]."""
        texts = []
        for row in indices.tolist():
            row = row[: row.index(self.end)] if self.end in row else row
            texts.append(self.tokenizer.decode([self.ids[i] for i in row], skip_special_tokens=True))
        return texts

    def cut(self, text: str, length: int) -> str:
        """The beginning of a text that ``encode`` keeps, in its original spelling."""
        spans = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(spans) <= length - 2 else text[: spans[length - 3][1]]


class AuditData:
    """Training and held-out stories, their frozen features, and the texts that a protocol assigns to a frame.

    Frames are numbered by their position among the frames of ``stories``: training stories, then held-out ones.
    """

    def __init__(self, data: Data, image: str, text: str, settings: AuditSettings) -> None:
        self.data, self.encoders, self.settings = data, (image, text), settings
        self.train, self.held = data.splits.train[: settings.stories], data.splits.test
        self.stories = [*self.train, *self.held]
        texts = [form(story) for story in data.stories for form in (with_markup, whole_text)]
        texts += [frame.text for story in data.stories for frame in story.frames]
        self.pieces = WordPieces(load_tokenizer(), texts)
        features, rows = data.features, data.features.rows(self.stories)
        frames = [frame for story in self.stories for frame in story.frames]
        self.frame_index = {id(frame): i for i, frame in enumerate(frames)}  # also of frames in a composed window
        self.image = Rows(features.image_vectors, features.image_of[rows])[:]  # (F, Di)
        self.pictures = Rows(features.thumbnails, features.image_of[rows])[:].permute(0, 3, 1, 2)  # (F, 3, S, S) uint8
        # A form is empty where no window reads it, since an encoding takes time.
        self.text_forms: dict[str, Callable[[Story, int], str]] = {
            "story": lambda story, i: whole_text(story),
            "context": lambda story, i: (
                " ".join(f.text for f in story.frames[i + 1 - CONTEXT : i + 1]) if i + 1 < len(story.frames) else ""
            ),
            "cut frame": lambda story, i: self.pieces.cut(story.frames[i].text, TEXT_LENGTH_B),
            "cut story": lambda story, i: self.pieces.cut(whole_text(story), TEXT_LENGTH_B),
            "cut marked story": lambda story, i: self.pieces.cut(with_markup(story), TEXT_LENGTH_B),
        }
        self.story_of = torch.tensor([i for i, story in enumerate(self.stories) for _ in story.frames])  # (F,)
        self.train_windows = self.frames_of(windows(self.train, CONTEXT))  # (W, K + 1)
        self.held_windows = self.frames_of(windows(self.held, CONTEXT))
        is_last = self.story_of[self.train_windows[:, 0]].diff(append=torch.tensor([-1])) != 0
        self.last_windows = self.train_windows[is_last]  # of each training story, on which system B trains
        frame_texts = [features.texts[row] for row in rows]
        self._texts = {"frame": (frame_texts, Rows(features.text_vectors, features.text_of[rows])[:])}

    @classmethod
    @lru_cache(maxsize=1)
    def from_source(cls, source: str, settings: AuditSettings, profile: str = "quick") -> AuditData:
        """From the features of a source, which the other chapters share."""
        config = configure(profile, source=source)
        return cls(prepare(config), config.data.image_encoder, config.data.text_encoder, settings)

    def texts(self, form: str) -> tuple[list[str], Tensor]:
        """The text of every frame in one of ``text_forms``, (F,), and their vectors, (F, Dt); encoded once."""
        if form not in self._texts:
            text_of = self.text_forms[form]
            texts = [text_of(story, i) for story in self.stories for i in range(len(story.frames))]
            known = dict(zip(*self._texts["frame"], strict=True))
            new = [text for text in texts if text not in known]
            known |= dict(zip(new, Rows(*encode_texts(new, self.encoders[1]))[:] if new else (), strict=True))
            self._texts[form] = (texts, torch.stack([known[text] for text in texts]))
        return self._texts[form]

    def frames_of(self, selected: Iterable[Window]) -> Tensor:
        """(W, K + 1) frames of windows: the context, then the target. A window may join frames of several stories."""
        frames = [[self.frame_index[id(frame)] for frame in (*w.context, w.target)] for w in selected]
        return torch.tensor(frames, dtype=torch.long).reshape(-1, CONTEXT + 1)


def whole_text(story: Story) -> str:
    return " ".join(frame.text for frame in story.frames)


def with_markup(story: Story) -> str:
    """The story as one string with markup in the style of StoryReasoning."""
    return " ".join(f"<gdi image{i}> {tagged(frame)} </gdi>" for i, frame in enumerate(story.frames, 1))


def tagged(frame: Frame) -> str:
    """A text with tags on its first name, its first verb-like word and, if still untagged, its last word."""
    text = re.sub(r"\b([A-Z]\w+)", r"<gdo char1>\1</gdo>", frame.text.replace("&", "&amp;"), count=1)
    text = re.sub(r"\b(\w+(?:ed|s))\b(?![^<]*>)", r"<gda char1>\1</gda>", text, count=1)
    return re.sub(r"(?<![\w</])(\w+)([^\w<>]*)$", r"<gdl bg1 bg2>\1</gdl>\2", text, count=1)
