"""Predictors without a trained storyteller, with whose scores a model's are compared.

``Prediction`` is what any predictor, trained or not, predicts; evaluation scores all of them with the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from storylib.config import ModelConfig
from storylib.data.ngrams import Trigrams, WordModel, unigram, with_cache
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import OtherStories, WindowDataset, as_pixels, window_texts
from storylib.decoders import PretrainedTextDecoder
from storylib.metrics.alignment import apply_linear_map, fit_linear_map
from storylib.metrics.retrieval import mean_rank

SAMPLES = 4  # pictures per window where several can be drawn
CACHE_WEIGHT = 0.1  # share of the context's words in an n-gram model with a cache


@dataclass(frozen=True)
class Prediction:
    """What a predictor predicts for W windows and F frames; None for what it cannot predict."""

    image: Tensor | None = None  # (W, Di) in the centred frozen space
    text: Tensor | None = None  # (W, Dt)
    words: list[str] | None = None  # W texts, written freely
    picture: Tensor | None = None  # (W, 3, S, S) pixels in 0..1
    samples: Tensor | None = None  # (W, k, 3, S, S) several pictures of each window
    nll: Tensor | None = None  # (W,) negative log-likelihood of the true text, summed over its tokens, in nats
    nll_shuffled: Tensor | None = None  # (W,) the same with the context of another story
    top1: Tensor | None = None  # (W,) true tokens ranked first
    top5: Tensor | None = None  # (W,) true tokens ranked among the first five
    shared: tuple[Tensor, Tensor] | None = None  # (F, D) unit vectors of all frames' pictures and texts in one space
    described: tuple[Tensor, Tensor] | None = None  # the same of pictures and what they show, for the described frames
    probed: Tensor | None = None  # (F, D) pictures mapped to the texts by a linear probe
    random: bool = False  # ranks at random: its expected score is known without drawing


def baselines(train: WindowDataset, held_out: WindowDataset, vocabulary: Vocabulary) -> dict[str, Prediction]:
    """Every baseline's predictions for the held-out windows, by name. Both data sets must have their bank."""
    k = held_out.frames.shape[1] - 1
    recency = torch.arange(1, k + 1, dtype=torch.float)
    median = as_pixels(train.pictures[:].median(0).values)
    return {
        "chance": chance(train, held_out),
        "copy-last": copy(held_out, k - 1),
        "context": Prediction(samples=as_pixels(held_out.pictures[held_out.frames[:, :-1]])),
        "mean": mean_of_context(held_out, torch.full((k,), 1 / k)),
        "recency": mean_of_context(held_out, recency / recency.sum()),
        "nearest": nearest(train, held_out),
        "median": Prediction(picture=median.expand(len(held_out), -1, -1, -1)),
        **(word_models(train, held_out, vocabulary) if held_out.writes else {}),
        **(language_models(held_out, vocabulary) if held_out.writes and held_out.reading else {}),
        "linear map": linear_map(train, held_out),
    }


def chance(train: WindowDataset, held_out: WindowDataset) -> Prediction:
    """A random frame of a training story for each window; every token equally likely."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(len(train.keys), (len(held_out), SAMPLES), generator=generator)
    tokens = torch.tensor([len(text) for text in target_tokens(held_out)], dtype=torch.double)
    size = held_out.vocabulary_size
    nll = tokens * float(np.log(size))
    pictures = as_pixels(train.pictures[frames])
    return Prediction(
        words=[train.texts[frame] for frame in frames[:, 0]],
        picture=pictures[:, 0],
        samples=pictures,
        nll=nll,
        nll_shuffled=nll,
        top1=tokens / size,
        top5=tokens * min(1.0, 5 / size),
        random=True,
    )


def copy(held_out: WindowDataset, position: int) -> Prediction:
    """The context frame at a position repeated."""
    frames = held_out.frames[:, position]
    return Prediction(
        image=held_out.image_bank[frames],
        text=held_out.text_bank[frames],
        words=[held_out.texts[frame] for frame in frames],
        picture=as_pixels(held_out.pictures[frames]),
    )


def mean_of_context(held_out: WindowDataset, weights: Tensor) -> Prediction:
    """A fixed weighted mean of the context's embeddings and pictures. weights: (K,)."""
    context = held_out.frames[:, :-1]
    return Prediction(
        image=torch.einsum("k,nkd->nd", weights, held_out.image_bank[context]),
        text=torch.einsum("k,nkd->nd", weights, held_out.text_bank[context]),
        picture=torch.einsum("k,nkchw->nchw", weights, as_pixels(held_out.pictures[context])),
    )


def nearest(train: WindowDataset, held_out: WindowDataset) -> Prediction:
    """What followed in the training window whose mean context, picture and text, is most similar."""
    similarity = torch.zeros(len(held_out), len(train))
    for query_bank, bank in ((held_out.image_bank, train.image_bank), (held_out.text_bank, train.text_bank)):
        query = F.normalize(query_bank[held_out.frames[:, :-1]].mean(1), dim=-1)
        similarity = similarity + query @ F.normalize(bank[train.frames[:, :-1]].mean(1), dim=-1).T
    most_similar = similarity.topk(min(SAMPLES, len(train)), dim=1).indices
    frames = train.frames[most_similar, -1]  # (W, k)
    pictures = as_pixels(train.pictures[frames])
    return Prediction(
        image=train.image_bank[frames[:, 0]],
        text=train.text_bank[frames[:, 0]],
        words=[train.texts[frame] for frame in frames[:, 0]],
        picture=pictures[:, 0],
        samples=pictures,
    )


def linear_map(train: WindowDataset, held_out: WindowDataset) -> Prediction:
    """Ridge regression from frozen pictures to frozen texts of the training frames: no story, no contrastive loss."""
    weights = fit_linear_map(train.image_bank, train.text_bank)
    mapped = F.normalize(apply_linear_map(weights, held_out.image_bank), dim=-1)
    described = None
    if train.described.any() and held_out.described.any():
        weights = fit_linear_map(train.image_bank[train.described], train.description_bank[train.described])
        pictures = F.normalize(apply_linear_map(weights, held_out.image_bank[held_out.described]), dim=-1)
        described = pictures, held_out.description_bank[held_out.described]
    return Prediction(shared=(mapped, held_out.text_bank), described=described, probed=mapped)


def word_models(train: WindowDataset, held_out: WindowDataset, vocabulary: Vocabulary) -> dict[str, Prediction]:
    """Models that count words. The trigram model also writes: a random text, whatever the story."""
    size = max(train.vocabulary_size, held_out.vocabulary_size)
    training_texts = [_real(tokens) for tokens in train.tokens]
    frequencies, trigrams = unigram(training_texts, size), Trigrams(training_texts, size)
    targets, others = target_tokens(held_out), OtherStories(held_out)

    def with_context(model: WordModel) -> Prediction:
        nll, top1, top5 = likelihoods(targets, _with_caches(model, held_out))
        nll_shuffled = likelihoods(targets, _with_caches(model, others))[0].masked_fill(others.unchanged, torch.nan)
        return Prediction(nll=nll, nll_shuffled=nll_shuffled, top1=top1, top5=top5)

    nll, top1, top5 = likelihoods(targets, [trigrams.distribution] * len(held_out))
    rng, length = np.random.default_rng(0), held_out.tokens.shape[1]
    texts = [torch.tensor(trigrams.sample(rng, length), dtype=torch.long) for _ in targets]
    written = vocabulary.decode(pad_sequence(texts, batch_first=True, padding_value=Vocabulary.PAD))
    return {
        "unigram": with_context(lambda _: frequencies),
        "trigram": Prediction(nll=nll, nll_shuffled=nll, top1=top1, top5=top5, words=written),
        "trigram and cache": with_context(trigrams.distribution),
    }


def language_models(held_out: WindowDataset, vocabulary: Vocabulary) -> dict[str, Prediction]:
    """The language model of the text decoder, without a story: as it is, and adapted to the training texts."""
    assert held_out.reading is not None
    reading, windows = held_out.reading, torch.arange(len(held_out))
    settings = ModelConfig(text_decoder=reading.name, text_length=reading.text_length)
    decoder = PretrainedTextDecoder(vocabulary, 1, 0, settings).eval()  # corrects nothing
    context, target = held_out.frames[:, :-1], held_out.frames[:, -1]
    texts = {name: window_texts(held_out.texts, frames, target) for name, frames in
             (("language model", context), ("language model, no context", context[:, :0]))}  # fmt: skip
    states = {name: (reading.read(pairs, adapted=False), windows) for name, pairs in texts.items()}
    states["adapted language model"] = held_out.reading_states, held_out.reading_rows
    predictions = {}
    for name, (stored, rows) in states.items():
        scores = []
        for block in windows.split(64):
            tokens = held_out.tokens[target[block]]
            tokens = tokens[:, : int((tokens != Vocabulary.PAD).sum(1).max())]
            own, rank = decoder.ranked(torch.zeros(len(block), 1, 1), tokens, stored.batch(rows[block]))
            real = tokens != Vocabulary.PAD
            scores.append(torch.stack([-own.sum(1), ((rank <= 1) & real).sum(1), ((rank <= 5) & real).sum(1)]))
        nll, top1, top5 = torch.cat(scores, dim=1).detach().double()
        predictions[name] = Prediction(nll=nll, top1=top1, top5=top5)
    ids = [decoder.generate(torch.zeros(len(b), 1, 1), held_out.tokens[context[b]]) for b in windows.split(64)]
    words = [text for block in ids for text in vocabulary.decode(block)]
    predictions["language model"] = replace(predictions["language model"], words=words)
    return predictions


def _with_caches(model: WordModel, held_out: WindowDataset) -> list[WordModel]:
    return [with_cache(model, context, CACHE_WEIGHT) for context in held_out.tokens[held_out.frames[:, :-1]]]


def likelihoods(texts: Sequence[Sequence[int]], models: Sequence[WordModel]) -> tuple[Tensor, Tensor, Tensor]:
    """(W,) each: nats of W texts, each by its own model, and their tokens ranked first and among the first five."""
    rows = np.zeros((len(texts), 3))
    for row, text, model in zip(rows, texts, models, strict=True):
        for i, token in enumerate(text):
            p = model(text[:i])
            rank = mean_rank((p > p[token]).sum(), (p == p[token]).sum() - 1)
            row += (-np.log(p[token]), rank <= 1, rank <= 5)
    nll, top1, top5 = torch.from_numpy(rows).unbind(1)
    return nll, top1, top5


def target_tokens(held_out: WindowDataset) -> list[list[int]]:
    """The token ids of each window's true text, END included."""
    return [_real(held_out.tokens[frame]) for frame in held_out.frames[:, -1]]


def _real(tokens: Tensor) -> list[int]:
    return tokens[tokens != Vocabulary.PAD].tolist()
