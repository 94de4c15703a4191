"""Predictors that learned nothing about stories. A score means something only beside theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.decoders import Vocabulary
from storylib.metrics import apply_linear_map, fit_linear_map
from storylib.ngrams import Distribution, Trigrams, likelihoods, unigram, with_cache
from storylib.training import WindowDataset, as_drawn

SAMPLES = 4  # pictures of one window where several can be drawn
CACHE_WEIGHT = 0.1  # share of the context's words in a model that counts words


@dataclass(frozen=True)
class Prediction:
    """What any predictor, trained or not, says about W windows and P pages; parts that it cannot say are None."""

    image: Tensor | None = None  # (W, Di) in the centred frozen space
    text: Tensor | None = None  # (W, Dt)
    words: list[str] | None = None  # W texts, written freely
    picture: Tensor | None = None  # (W, 3, S, S) pixels in 0..1
    samples: Tensor | None = None  # (W, k, 3, S, S) several pictures of each window
    nll: Tensor | None = None  # (W,) negative log-likelihood of the true text, summed over its tokens, in nats
    nll_shuffled: Tensor | None = None  # (W,) the same when the context is another story's
    top1: Tensor | None = None  # (W,) true tokens that came first
    top5: Tensor | None = None  # (W,) true tokens among the first five
    shared: tuple[Tensor, Tensor] | None = None  # (P, D) unit vectors of all pages' pictures and texts in one space
    probed: Tensor | None = None  # (P, D) pictures as a linear probe puts them among the texts
    guesses: bool = False  # it picks pages at random: where it stands is known without drawing


def floors(train: WindowDataset, held: WindowDataset, vocabulary: Vocabulary) -> dict[str, Prediction]:
    """Every floor's predictions for the held-out windows. Both data sets must have their bank."""
    k = held.frames.shape[1] - 1
    weights = torch.arange(1, k + 1, dtype=torch.float)
    nothing = Prediction()
    median = as_drawn(train.pictures[:].median(0).values)
    return {
        "chance": chance(train, held),
        "copy-last": copy(held, k - 1),
        "context": replace(nothing, samples=as_drawn(held.pictures[held.frames[:, :-1]])),
        "mean": mean_of_context(held, torch.full((k,), 1 / k)),
        "recency": mean_of_context(held, weights / weights.sum()),
        "nearest": nearest(train, held),
        "median": replace(nothing, picture=median.expand(len(held), -1, -1, -1)),
        **(word_models(train, held, vocabulary) if held.writes else {}),
        "linear map": linear_map(train, held),
    }


FLOOR_TITLES = {
    "chance": "a random order, a random page of a training story",
    "copy-last": "the last frame again",
    "context": "the four context pictures",
    "mean": "mean of the context",
    "recency": "mean of the context, weights 1 : 2 : 3 : 4",
    "nearest": "what followed the most similar training window",
    "median": "median training picture",
    "unigram": "word frequencies of the training texts, mixed with the context's words",
    "trigram": "a trigram model of the training texts; knows no story",
    "trigram and cache": "a trigram model of the training texts, mixed with the context's words",
    "linear map": "ridge regression from the frozen pictures to the frozen texts",
    "best of context": "the best of the four context frames, chosen by an oracle that knows the answer",
}


def chance(train: WindowDataset, held: WindowDataset, seed: int = 0) -> Prediction:
    """A page of a training story drawn at random for each window; any token as likely as any other."""
    drawn = torch.randint(len(train.keys), (len(held), SAMPLES), generator=torch.Generator().manual_seed(seed))
    tokens = torch.tensor([len(t) for t in true_tokens(held)], dtype=torch.double)
    size = held.vocabulary_size
    nll = tokens * float(np.log(size))
    pictures = as_drawn(train.pictures[drawn])
    return Prediction(
        words=[train.texts[r] for r in drawn[:, 0]],
        picture=pictures[:, 0],
        samples=pictures,
        nll=nll,
        nll_shuffled=nll,
        top1=tokens / size,
        top5=tokens * min(1.0, 5 / size),
        guesses=True,
    )


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
        picture=as_drawn(held.pictures[rows]),
    )


def mean_of_context(held: WindowDataset, weights: Tensor) -> Prediction:
    """A fixed weighted mean of the context's embeddings and pictures. weights: (K,)."""
    context = held.frames[:, :-1]
    return Prediction(
        image=torch.einsum("k,nkd->nd", weights, held.bank["image_bank"][context]),
        text=torch.einsum("k,nkd->nd", weights, held.bank["text_bank"][context]),
        picture=torch.einsum("k,nkchw->nchw", weights, as_drawn(held.pictures[context])),
    )


def nearest(train: WindowDataset, held: WindowDataset) -> Prediction:
    """What followed in the training window whose mean context, picture and text, is most similar."""

    def key(data: WindowDataset, bank: str) -> Tensor:
        return F.normalize(data.bank[bank][data.frames[:, :-1]].mean(1), dim=-1)

    similarity = sum(key(held, b) @ key(train, b).T for b in ("image_bank", "text_bank"))
    assert isinstance(similarity, Tensor)
    best = similarity.topk(min(SAMPLES, len(train)), dim=1).indices
    rows = train.frames[best, -1]  # (W, k)
    pictures = as_drawn(train.pictures[rows])
    return Prediction(
        image=train.bank["image_bank"][rows[:, 0]],
        text=train.bank["text_bank"][rows[:, 0]],
        words=[train.texts[r] for r in rows[:, 0]],
        picture=pictures[:, 0],
        samples=pictures,
    )


def word_models(
    train: WindowDataset, held: WindowDataset, vocabulary: Vocabulary, seed: int = 0
) -> dict[str, Prediction]:
    """Models that count words. The trigram model also writes: a text drawn at random, the same for no story."""
    size = max(train.vocabulary_size, held.vocabulary_size)
    texts = [_real(t) for t in train.tokens]
    frequencies, trigrams = unigram(texts, size), Trigrams(texts, size)
    true, others = true_tokens(held), Rotated(held)

    def cached(base: Distribution, data: WindowDataset) -> tuple[Tensor, Tensor, Tensor]:
        return likelihoods(true, [with_cache(base, c, CACHE_WEIGHT) for c in data.tokens[data.frames[:, :-1]]])

    def in_context(base: Distribution) -> Prediction:
        nll, top1, top5 = cached(base, held)
        away = cached(base, others)[0].masked_fill(others.lonely, torch.nan)
        return Prediction(nll=nll, nll_shuffled=away, top1=top1, top5=top5)

    nll, top1, top5 = likelihoods(true, [trigrams.distribution] * len(held))
    rng = np.random.default_rng(seed)
    length = held.tokens.shape[1]
    written = [trigrams.write(rng, length) for _ in range(len(held))]
    ids = torch.full((len(held), length), Vocabulary.PAD)
    for row, tokens in zip(ids, written, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return {
        "unigram": in_context(lambda _: frequencies),
        "trigram": Prediction(nll=nll, nll_shuffled=nll, top1=top1, top5=top5, words=vocabulary.decode(ids)),
        "trigram and cache": in_context(trigrams.distribution),
    }


def linear_map(train: WindowDataset, held: WindowDataset) -> Prediction:
    """Ridge regression from the frozen pictures to the frozen texts of the training pages: no story, no contrast."""
    weights = fit_linear_map(train.bank["image_bank"], train.bank["text_bank"])
    mapped = F.normalize(apply_linear_map(weights, held.bank["image_bank"]), dim=-1)
    return Prediction(shared=(mapped, held.bank["text_bank"]), probed=mapped)


class Rotated(WindowDataset):
    """The same windows, each with the frames of a window of another story, about half-way round the list."""

    def __init__(self, held: WindowDataset) -> None:
        self.__dict__.update(held.__dict__)
        story = held.story_id[held.frames[:, 0]]
        turned = (torch.arange(len(story)) + len(story) // 2) % len(story)
        for _ in range(len(story)):
            same = story[turned] == story
            if not same.any():
                break
            turned = torch.where(same, (turned + 1) % len(story), turned)
        self.lonely = story[turned] == story  # windows of the only story there is: no other to take a context from
        self.frames = held.frames[turned]


def true_tokens(held: WindowDataset) -> list[list[int]]:
    """The token ids of each window's true text, its end included."""
    return [_real(held.tokens[i]) for i in held.frames[:, -1]]


def _real(tokens: Tensor) -> list[int]:
    return tokens[tokens != Vocabulary.PAD].tolist()
