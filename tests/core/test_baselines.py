"""Baselines by hand, by brute force, and as proper probabilities."""

from __future__ import annotations

import copy as copying
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from storylib.baselines import (
    baselines,
    chance,
    copy,
    likelihoods,
    linear_map,
    mean_of_context,
    nearest,
    target_tokens,
)
from storylib.data.ngrams import DISCOUNT, Trigrams, unigram, with_cache
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import as_pixels


@pytest.fixture
def sets(build, tiny_sets):
    build()
    return tiny_sets["train"], tiny_sets["test"]


@pytest.fixture(scope="module")
def predictions(build, tiny_sets):
    build()
    return baselines(tiny_sets["train"], tiny_sets["test"], tiny_sets["vocabulary"])


def test_a_baseline_predicts_only_what_it_can_know(predictions):
    parts = {
        name: {part for part, value in vars(prediction).items() if value is not None and value is not False}
        for name, prediction in predictions.items()
    }
    likelihood = {"nll", "nll_shuffled", "top1", "top5"}
    assert parts["chance"] == {"words", "picture", "samples", "random", *likelihood}
    assert parts["median"] == {"picture"} and parts["context"] == {"samples"}
    assert parts["unigram"] == parts["trigram and cache"] == likelihood
    assert parts["trigram"] == {"words", *likelihood}
    assert parts["mean"] == parts["recency"] == {"image", "text", "picture"}
    assert parts["copy-last"] == {"image", "text", "picture", "words"}
    assert parts["nearest"] == {"image", "text", "picture", "words", "samples"}
    assert parts["linear map"] == {"shared", "probed"}


# Copies, means and neighbours


@pytest.mark.parametrize("position", range(4))
def test_a_copy_is_the_frame_itself(sets, predictions, position):
    _, held_out = sets
    prediction = copy(held_out, position)
    for row, window in enumerate(held_out.windows):
        frame = window.context[position]
        at = held_out.keys.index((window.story.id, frame.number))
        assert torch.equal(prediction.image[row], held_out.image_bank[at])
        assert torch.equal(prediction.text[row], held_out.text_bank[at])
        assert prediction.words[row] == frame.text
        assert torch.allclose(prediction.picture[row], as_pixels(held_out.pictures[at]))
    assert torch.equal(predictions["context"].samples[:, position], prediction.picture)


def test_copy_last_is_the_newest_frame(sets, predictions):
    assert predictions["copy-last"].words == [window.context[-1].text for window in sets[1].windows]


def test_means_equal_a_loop(sets, predictions):
    _, held_out = sets
    for name, weights in (("mean", [1, 1, 1, 1]), ("recency", [1, 2, 3, 4])):
        prediction = predictions[name]
        for row, window in enumerate(held_out.windows):
            rows = [held_out.keys.index((window.story.id, frame.number)) for frame in window.context]
            for value, bank in (
                (prediction.image, held_out.image_bank),
                (prediction.text, held_out.text_bank),
                (prediction.picture, as_pixels(held_out.pictures[:])),
            ):
                expected = sum(w * bank[r] for w, r in zip(weights, rows, strict=True)) / sum(weights)
                assert torch.allclose(value[row], expected, atol=1e-6)
    one = mean_of_context(held_out, torch.tensor([0.0, 0, 1, 0]))
    assert torch.allclose(one.image, copy(held_out, 2).image)


def test_the_nearest_context_of_a_training_window_is_its_own(sets):
    """Searching the training windows for themselves gives what really followed."""
    train, _ = sets
    prediction = nearest(train, train)
    assert prediction.words == [window.target.text for window in train.windows]
    assert torch.equal(prediction.image, train.image_bank[train.frames[:, -1]])


def test_nearest_equals_a_loop(sets, predictions):
    train, held_out = sets

    def similarity(i, j):
        total = 0.0
        for bank in ("image_bank", "text_bank"):
            query = getattr(held_out, bank)[held_out.frames[i, :-1]].mean(0)
            total += F.cosine_similarity(query, getattr(train, bank)[train.frames[j, :-1]].mean(0), dim=0).item()
        return total

    expected = []
    for i in range(len(held_out)):
        best = max(range(len(train)), key=lambda j: similarity(i, j))
        expected.append(train.windows[best].target.text)
    prediction = predictions["nearest"]
    assert prediction.words == expected and torch.equal(prediction.samples[:, 0], prediction.picture)


def test_the_median_picture_is_that_of_training(sets, predictions):
    train, _ = sets
    picture = predictions["median"].picture
    assert picture.shape == (8, 3, 16, 16)
    values = sorted(int(p[4, 7, 1]) for p in train.pictures[:])
    assert picture[3, 1, 4, 7].item() == pytest.approx(values[(len(values) - 1) // 2] / 255)


def test_chance_draws_training_frames_and_finds_every_token_equally_likely(sets):
    train, held_out = sets
    prediction = chance(train, held_out)
    assert set(prediction.words) <= set(train.texts) and torch.equal(prediction.picture, prediction.samples[:, 0])
    tokens = torch.tensor([len(text) for text in target_tokens(held_out)])
    expected = tokens * math.log(held_out.vocabulary_size)
    assert prediction.nll.tolist() == pytest.approx(expected.tolist())
    assert prediction.top5.tolist() == pytest.approx((5 * prediction.top1).tolist())
    assert chance(train, held_out).words == prediction.words


def test_the_linear_map_is_fitted_on_training_frames_only(sets):
    train, held_out = sets
    image, text = linear_map(train, train).shared
    assert (image * text).sum(1).mean() > (image * text.roll(7, 0)).sum(1).mean()  # it does fit the training frames
    changed = copying.copy(held_out)
    changed.text_bank = held_out.text_bank.flip(0)
    assert torch.equal(linear_map(train, changed).probed, linear_map(train, held_out).probed)


def test_only_models_with_a_cache_lose_by_another_storys_context(predictions):
    assert torch.equal(predictions["trigram"].nll_shuffled, predictions["trigram"].nll)
    for name in ("unigram", "trigram and cache"):
        assert (predictions[name].nll_shuffled > predictions[name].nll).double().mean() > 0.5


# Models that count words


def likelihood(text, model):
    """Nats of one text, and how many of its tokens rank first and among the first five."""
    return tuple(column.item() for column in likelihoods([text], [model]))


@pytest.mark.parametrize("context", [[], [4], [9], [3, 4], [4, 9], [9, 9], [7, 8, 3]])
def test_trigram_probabilities_sum_to_one(context):
    model = Trigrams([[3, 4, 5, 1], [3, 4, 4, 1], [3, 5, 1], [6]], 10)
    p = model.distribution(context)
    assert p.shape == (10,) and p.sum() == pytest.approx(1) and (p > 0).all()


def test_trigrams_by_hand():
    """One text, 3 4 3, in a vocabulary of 10."""
    d, model = DISCOUNT, Trigrams([[3, 4, 3]], 10)
    seen = (2 - d) / 3 + d * 2 / 3 * 0.1  # two of the three words are 3; the discount of two kinds is shared
    unseen = d * 2 / 3 * 0.1
    unknown_context = model.distribution([8, 7])  # backs off to the unigrams
    assert (unknown_context[3], unknown_context[7]) == (pytest.approx(seen), pytest.approx(unseen))
    after_four = (1 - d) + d * seen
    assert model.distribution([8, 4])[3] == pytest.approx(after_four)
    assert model.distribution([3, 4])[3] == pytest.approx((1 - d) + d * after_four)


def test_the_same_words_are_likelier_in_the_order_they_were_seen():
    model = Trigrams([[3, 4, 5, 1], [3, 5, 1]], 10)
    p = [model.distribution(text)[token] for text, token in (([], 3), ([3], 5), ([3, 5], 1))]
    nats, first, _ = likelihood([3, 5, 1], model.distribution)
    assert nats == pytest.approx(-sum(map(math.log, p)))
    assert first == 3  # after 3 came 4 as often as 5, but 5 is the more frequent word
    assert nats < likelihood([5, 3, 1], model.distribution)[0]


def test_unigram_by_hand():
    p = unigram([[3, 3, 4], [1]], 6)
    assert p.tolist() == pytest.approx([0, 2 / 9, 1 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert p[Vocabulary.PAD] == 0


def test_the_cache_by_hand():
    base = np.full(8, 1 / 8)
    context = torch.tensor([[3, 4, Vocabulary.END, 0], [3, 3, Vocabulary.UNKNOWN, 1]])
    p = with_cache(lambda _: base, context, 0.2)([])
    assert p.tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1 + 0.2 * 3 / 4, 0.1 + 0.2 / 4, 0.1, 0.1, 0.1])
    assert (base == 1 / 8).all()
    empty = with_cache(lambda _: base, torch.zeros(2, 4, dtype=torch.long), 0.2)
    assert empty([]).tolist() == base.tolist()


def test_tied_tokens_share_the_mean_rank():
    assert likelihood([2], lambda _: np.array([0.1, 0.1, 0.1, 0.7]))[1:] == (0, 1)  # ranks 2 to 4: 3
    assert likelihood([2], lambda _: np.full(20, 0.05))[1:] == (0, 0)  # 10.5 of 20
    assert likelihood([3], lambda _: np.array([0.1, 0.1, 0.1, 0.7]))[1:] == (1, 1)


def test_many_texts_are_scored_one_by_one():
    model = Trigrams([[3, 4, 5, 1], [3, 5, 1]], 10).distribution
    texts = [[3, 4, 5, 1], [], [7]]
    together = torch.stack(likelihoods(texts, [model] * 3), 1).tolist()
    assert together == [pytest.approx(likelihood(text, model)) for text in texts]
    assert [column.shape for column in likelihoods([], [])] == [(0,)] * 3


def test_a_sampled_text_resembles_the_training_texts():
    model = Trigrams([[3, 4, 5, 1]] * 200, 10)
    texts = [model.sample(np.random.default_rng(seed), 6) for seed in range(40)]
    assert sum(text == [3, 4, 5] for text in texts) > 30
    special = {Vocabulary.PAD, Vocabulary.END, Vocabulary.UNKNOWN}
    assert all(len(text) <= 6 and not special & set(text) for text in texts)
    assert model.sample(np.random.default_rng(1), 6) == model.sample(np.random.default_rng(1), 6)
