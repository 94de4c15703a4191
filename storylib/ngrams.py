"""Language models that count: what knows the words of the training texts, and nothing of the story before it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from storylib.decoders import Vocabulary

# History of a text so far -> (V,) probabilities of the next token.
Distribution = Callable[[Sequence[int]], np.ndarray]


class Trigrams:
    """Counts of one, two and three tokens, each order backing off to the one below by absolute discounting.

    Interpolated (Ney, Essen and Kneser 1994). texts: token ids without padding.
    """

    def __init__(self, texts: Iterable[Sequence[int]], vocabulary_size: int, discount: float = 0.75) -> None:
        self.size, self.discount = vocabulary_size, discount
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            padded = [-1, -1, *text]
            for i in range(2, len(padded)):
                for n in range(3):
                    counts[tuple(padded[i - n : i])][padded[i]] += 1
        self.after = {
            history: (np.array(list(next_.keys())), np.array(list(next_.values()), dtype=float))
            for history, next_ in counts.items()
        }
        self._unigram = self._backed_off(np.full(vocabulary_size, 1 / vocabulary_size), ())

    def distribution(self, text: Sequence[int]) -> np.ndarray:
        """(V,) P(next token | the last two), from the start of a text on."""
        history = (-1, -1, *text)[-2:]
        return self._backed_off(self._backed_off(self._unigram, history[1:]), history)

    def _backed_off(self, below: np.ndarray, history: tuple[int, ...]) -> np.ndarray:
        if history not in self.after:
            return below
        tokens, counts = self.after[history]
        result = self.discount * len(tokens) / counts.sum() * below
        result[tokens] += (counts - self.discount) / counts.sum()
        return result

    def write(self, rng: np.random.Generator, length: int) -> list[int]:
        """A text drawn token by token, END not included; neither padding nor the unknown are written."""
        text: list[int] = []
        while len(text) < length:
            p = self.distribution(text).copy()
            p[[Vocabulary.PAD, Vocabulary.UNKNOWN]] = 0
            token = int(rng.choice(self.size, p=p / p.sum()))
            if token == Vocabulary.END:
                break
            text.append(token)
        return text


def unigram(texts: Iterable[Sequence[int]], vocabulary_size: int) -> np.ndarray:
    """(V,) add-one frequencies; padding never occurs."""
    counts = np.ones(vocabulary_size)
    for text in texts:
        np.add.at(counts, np.asarray(text, dtype=int), 1)
    counts[Vocabulary.PAD] = 0
    return counts / counts.sum()


def with_cache(base: Distribution, context: Tensor, weight: float) -> Distribution:
    """Mixed with the frequencies of the context's words, (K, T) ids: names and places recur (Kuhn and De Mori 1990)."""
    words = context[context > Vocabulary.UNKNOWN].numpy()
    if not len(words):
        return base
    tokens, counts = np.unique(words, return_counts=True)

    def distribution(text: Sequence[int]) -> np.ndarray:
        p = (1 - weight) * base(text)
        p[tokens] += weight * counts / len(words)
        return p

    return distribution


def likelihood(text: Sequence[int], distribution: Distribution) -> tuple[float, int, int]:
    """Nats of a whole text, how many of its tokens come first, and how many among the first five; ties share ranks."""
    nats, first, five = 0.0, 0, 0
    for i, token in enumerate(text):
        p = distribution(text[:i])
        rank = 1 + (p > p[token]).sum() + ((p == p[token]).sum() - 1) / 2
        nats -= float(np.log(p[token]))
        first, five = first + int(rank <= 1), five + int(rank <= 5)
    return nats, first, five


def likelihoods(texts: Sequence[Sequence[int]], models: Sequence[Distribution]) -> tuple[Tensor, Tensor, Tensor]:
    """The same for W texts, each with its own model: nats (W,), first (W,), among the first five (W,)."""
    rows = torch.tensor(
        [likelihood(text, model) for text, model in zip(texts, models, strict=True)], dtype=torch.double
    ).view(-1, 3)
    return rows[:, 0], rows[:, 1], rows[:, 2]
