"""Language models that count: frequencies of words, trigrams, and a cache of the context's words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from storylib.data.vocabulary import Vocabulary

DISCOUNT = 0.75  # of n-gram counts

# (T,) preceding tokens of a text -> (V,) probabilities of the next one.
WordModel = Callable[[Sequence[int]], np.ndarray]


class Trigrams:
    """Counts of one, two and three tokens, each order backing off to the one below by absolute discounting.

    Interpolated (Ney, Essen and Kneser 1994). nltk.lm has the same model, but scores one word at a time, while ranks
    need the whole vocabulary. texts: token ids without padding.
    """

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary_size: int) -> None:
        self.size = vocabulary_size
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            padded = [-1, -1, *text]
            for i in range(2, len(padded)):
                for order in range(3):
                    counts[tuple(padded[i - order : i])][padded[i]] += 1
        self.after = {
            history: (np.array(list(following)), np.array(list(following.values()), dtype=float))
            for history, following in counts.items()
        }
        self._unigram = self._interpolated(np.full(vocabulary_size, 1 / vocabulary_size), ())

    def distribution(self, text: Sequence[int]) -> np.ndarray:
        """(V,) P(next token | the last two), from the start of a text on."""
        history = (-1, -1, *text)[-2:]
        return self._interpolated(self._interpolated(self._unigram, history[1:]), history)

    def _interpolated(self, below: np.ndarray, history: tuple[int, ...]) -> np.ndarray:
        if history not in self.after:
            return below
        tokens, counts = self.after[history]
        probabilities = DISCOUNT * len(tokens) / counts.sum() * below
        probabilities[tokens] += (counts - DISCOUNT) / counts.sum()
        return probabilities

    def sample(self, rng: np.random.Generator, length: int) -> list[int]:
        """A text drawn token by token, without END, padding and unknown tokens."""
        text: list[int] = []
        while len(text) < length:
            p = self.distribution(text).copy()
            p[[Vocabulary.PAD, Vocabulary.UNKNOWN]] = 0
            token = int(rng.choice(self.size, p=p / p.sum()))
            if token == Vocabulary.END:
                break
            text.append(token)
        return text


def unigram(texts: Sequence[Sequence[int]], vocabulary_size: int) -> np.ndarray:
    """(V,) add-one frequencies; padding has none."""
    counts = np.bincount([token for text in texts for token in text], minlength=vocabulary_size) + 1.0
    counts[Vocabulary.PAD] = 0
    return counts / counts.sum()


def with_cache(model: WordModel, context: Tensor, weight: float) -> WordModel:
    """Mixed with the frequencies of the context's words, (K, L) ids: names and places recur (Kuhn and De Mori 1990)."""
    words = context[context > Vocabulary.UNKNOWN].numpy()
    if not len(words):
        return model
    tokens, counts = np.unique(words, return_counts=True)

    def distribution(text: Sequence[int]) -> np.ndarray:
        p = (1 - weight) * model(text)
        p[tokens] += weight * counts / len(words)
        return p

    return distribution
