"""Predictors that learned nothing about stories. A score means something only beside theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.decoders import Vocabulary
from storylib.training import WindowDataset


@dataclass(frozen=True)
class Prediction:
    """What any predictor, trained or not, says about W windows; parts that it cannot say are None."""

    image: Tensor | None = None  # (W, Di) in the centred frozen space
    text: Tensor | None = None  # (W, Dt)
    words: list[str] | None = None  # W texts, written freely
    picture: Tensor | None = None  # (W, 3, S, S) pixels in 0..1
    nll: Tensor | None = None  # (W,) negative log-likelihood of the true text, summed over its tokens, in nats
    nll_shuffled: Tensor | None = None  # (W,) the same when the context is another story's


def floors(train: WindowDataset, held: WindowDataset) -> dict[str, Prediction]:
    """Every floor's predictions for the held-out windows. Both data sets must have their bank."""
    k = held.frames.shape[1] - 1
    weights = torch.arange(1, k + 1, dtype=torch.float)
    nothing = Prediction()
    median = train.pictures.float().median(0).values / 255
    return {
        "chance": nothing,
        "copy-last": copy(held, k - 1),
        "mean": mean_of_context(held, torch.full((k,), 1 / k)),
        "recency": mean_of_context(held, weights / weights.sum()),
        "nearest": nearest(train, held),
        "median": replace(nothing, picture=median.expand(len(held), -1, -1, -1)),
        "unigram": replace(nothing, nll=unigram_nll(train, held)),
        "trigram": replace(nothing, nll=trigram_nll(train, held)),
    }


FLOOR_TITLES = {
    "chance": "a random order",
    "copy-last": "the last frame again",
    "mean": "mean of the context",
    "recency": "mean of the context, weights 1 : 2 : 3 : 4",
    "nearest": "what followed the most similar training window",
    "median": "median training picture",
    "unigram": "word frequencies of the training texts, mixed with the context's words",
    "trigram": "a trigram model of the training texts; knows no story",
    "best of context": "the best of the four context frames, chosen by an oracle that knows the answer",
}


def copies(held: WindowDataset) -> list[Prediction]:
    """One prediction per context frame; an oracle picks the best of them in evaluation."""
    return [copy(held, i) for i in range(held.frames.shape[1] - 1)]


def copy(held: WindowDataset, which: int) -> Prediction:
    """Context frame number ``which`` again."""
    rows = held.frames[:, which]
    return Prediction(
        image=held.bank["image_bank"][rows],
        text=held.bank["text_bank"][rows],
        words=[held.texts[r] for r in rows],
        picture=held.pictures[rows].float() / 255,
    )


def mean_of_context(held: WindowDataset, weights: Tensor) -> Prediction:
    """A fixed weighted mean of the context's embeddings and pictures. weights: (K,)."""
    context = held.frames[:, :-1]
    return Prediction(
        image=torch.einsum("k,nkd->nd", weights, held.bank["image_bank"][context]),
        text=torch.einsum("k,nkd->nd", weights, held.bank["text_bank"][context]),
        picture=torch.einsum("k,nkchw->nchw", weights, held.pictures[context].float() / 255),
    )


def nearest(train: WindowDataset, held: WindowDataset) -> Prediction:
    """What followed in the training window whose mean context, picture and text, is most similar."""

    def key(data: WindowDataset, bank: str) -> Tensor:
        return F.normalize(data.bank[bank][data.frames[:, :-1]].mean(1), dim=-1)

    similarity = sum(key(held, b) @ key(train, b).T for b in ("image_bank", "text_bank"))
    assert isinstance(similarity, Tensor)
    rows = train.frames[similarity.argmax(1), -1]
    return Prediction(
        image=train.bank["image_bank"][rows],
        text=train.bank["text_bank"][rows],
        words=[train.texts[r] for r in rows],
        picture=train.pictures[rows].float() / 255,
    )


def unigram_nll(train: WindowDataset, held: WindowDataset, cache_weight: float = 0.1) -> Tensor:
    """(W,) nats under add-one word frequencies mixed with the words of the context."""
    counts = torch.bincount(train.tokens.flatten(), minlength=_vocabulary_size(train, held)).float() + 1
    counts[Vocabulary.PAD] = 0
    unigram = counts / counts.sum()
    result = []
    for row in held.frames:
        tokens = _real(held.tokens[row[-1]])
        context = held.tokens[row[:-1]].flatten()
        context = context[context > Vocabulary.UNKNOWN]
        cache = torch.bincount(context, minlength=len(unigram)) / max(1, len(context))
        result.append(-((1 - cache_weight) * unigram + cache_weight * cache)[tokens].log().sum())
    return torch.stack(result)


def trigram_nll(train: WindowDataset, held: WindowDataset, discount: float = 0.75) -> Tensor:
    """(W,) nats under a trigram model with interpolated absolute discounting (Ney, Essen and Kneser 1994)."""
    model = Trigrams([_real(t).tolist() for t in train.tokens], _vocabulary_size(train, held), discount)
    return torch.tensor([model.nll(_real(held.tokens[row[-1]]).tolist()) for row in held.frames])


class Trigrams:
    """Counts of one, two and three tokens, each order backing off to the one below by absolute discounting."""

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary_size: int, discount: float) -> None:
        self.size, self.discount = vocabulary_size, discount
        self.counts: Counter[tuple[int, ...]] = Counter()
        for text in texts:
            padded = [-1, -1, *text]
            for i in range(2, len(padded)):
                self.counts.update(tuple(padded[i - n : i + 1]) for n in range(3))
        self.totals: Counter[tuple[int, ...]] = Counter()
        self.kinds: Counter[tuple[int, ...]] = Counter()
        for gram, count in self.counts.items():
            self.totals[gram[:-1]] += count
            self.kinds[gram[:-1]] += 1

    def probability(self, gram: tuple[int, ...]) -> float:
        """P(last token | the ones before it)."""
        below = self.probability(gram[1:]) if len(gram) > 1 else 1 / self.size
        total = self.totals[gram[:-1]]
        if not total:
            return below
        seen = max(self.counts[gram] - self.discount, 0) / total
        return seen + self.discount * self.kinds[gram[:-1]] / total * below

    def nll(self, text: Sequence[int]) -> float:
        padded = [-1, -1, *text]
        return float(-sum(np.log(self.probability(tuple(padded[i - 2 : i + 1]))) for i in range(2, len(padded))))


def _real(tokens: Tensor) -> Tensor:
    return tokens[tokens != Vocabulary.PAD]


def _vocabulary_size(*datasets: WindowDataset) -> int:
    return max(int(d.vocabulary_size) for d in datasets)
