"""The word pieces that a model reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from storylib.data.encoders import load_text_tokenizer
from storylib.data.language_model import is_pretrained, load_language_model
from storylib.data.unknown import report_unknown, tokenize


class Vocabulary:
    """The word pieces that recur in the training texts, without special tokens: a few thousand, not 30,522."""

    PAD, END, UNKNOWN = 0, 1, 2  # the pieces have the ids from 3 on

    def __init__(self, tokenizer: Any, pieces: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.pieces = list(pieces)  # the tokenizer's id of each of our ids, from 3 on
        self._id_of_piece = {piece: i + 3 for i, piece in enumerate(self.pieces)}

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any) -> Vocabulary:
        """Pieces that occur twice or more; from the others the model learns the unknown piece."""
        counts: Counter[int] = Counter()
        for ids in tokenize(tokenizer, texts):
            counts.update(ids)
        report_unknown(tokenizer, texts, "The text decoder", "text_decoder='hf:<a model of that language>'")
        frequent = {piece for piece, count in counts.items() if count >= 2}
        return cls(tokenizer, sorted(frequent - set(tokenizer.all_special_ids)))

    @classmethod
    def whole(cls, tokenizer: Any) -> Vocabulary:
        """All pieces of a pretrained language model."""
        return cls(tokenizer, range(len(tokenizer)))

    def __len__(self) -> int:
        return len(self.pieces) + 3

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """(N, length) ids. Each text ends with END unless it was cut, and is padded with PAD."""
        rows = torch.full((len(texts), length), self.PAD, dtype=torch.long)
        for row, pieces in zip(rows, tokenize(self.tokenizer, texts), strict=True):
            ids = [*(self._id_of_piece.get(piece, self.UNKNOWN) for piece in pieces), self.END][:length]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def scored(self, texts: Sequence[str], length: int) -> list[str]:
        """The texts as far as ``encode`` keeps them, with the pieces that it does not know."""
        kept = (pieces[:length] if len(pieces) >= length else None for pieces in tokenize(self.tokenizer, texts))
        return [text if part is None else self.tokenizer.decode(part) for text, part in zip(texts, kept, strict=True)]

    def decode(self, ids: Tensor) -> list[str]:
        """Texts of (N, T) ids, up to each END, without padding and unknown pieces."""
        texts = []
        for row in ids.tolist():
            row = row[: row.index(self.END)] if self.END in row else row
            texts.append(self.tokenizer.decode([self.pieces[i - 3] for i in row if i > self.UNKNOWN]).strip())
        return texts


def load_tokenizer(text_decoder: str = "") -> Any:
    """The tokenizer of a pretrained language model, or else the word pieces of bert-base-uncased."""
    if is_pretrained(text_decoder):
        return load_language_model(text_decoder, "cpu").tokenizer
    return load_text_tokenizer("minilm", "text_decoder='gpt2-shallow'")
