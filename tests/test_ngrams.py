"""Language models that count: by hand, by loop, and as proper probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from storylib.decoders import Vocabulary
from storylib.ngrams import Trigrams, likelihood, likelihoods, unigram, with_cache


@pytest.mark.parametrize("context", [[], [4], [9], [3, 4], [4, 9], [9, 9], [7, 8, 3]])
def test_trigram_probabilities_sum_to_one(context):
    model = Trigrams([[3, 4, 5, 1], [3, 4, 4, 1], [3, 5, 1], [6]], 10)
    p = model.distribution(context)
    assert p.shape == (10,) and p.sum() == pytest.approx(1) and (p > 0).all()


def test_trigrams_by_hand():
    """One text, 3 4 3, in a vocabulary of 10, discount 0.5."""
    model = Trigrams([[3, 4, 3]], 10, 0.5)
    seen = (2 - 0.5) / 3 + 0.5 * 2 / 3 * 0.1  # of three words two are 3; two kinds share the discount
    unseen = 0.5 * 2 / 3 * 0.1
    never = model.distribution([8, 7])  # a context never seen says nothing
    assert (never[3], never[7]) == (pytest.approx(seen), pytest.approx(unseen))
    after_four = (1 - 0.5) / 1 + 0.5 * 1 / 1 * seen
    assert model.distribution([8, 4])[3] == pytest.approx(after_four)
    assert model.distribution([3, 4])[3] == pytest.approx(0.5 + 0.5 * after_four)


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
    assert empty([]).tolist() == base.tolist()  # nothing to repeat


def test_ties_share_the_mean_rank():
    assert likelihood([2], lambda _: np.array([0.1, 0.1, 0.1, 0.7]))[1:] == (0, 1)  # mean rank of the tied is 3
    assert likelihood([2], lambda _: np.full(20, 0.05))[1:] == (0, 0)  # 10.5 of 20
    assert likelihood([3], lambda _: np.array([0.1, 0.1, 0.1, 0.7]))[1:] == (1, 1)


def test_many_texts_are_the_rows_of_one():
    model = Trigrams([[3, 4, 5, 1], [3, 5, 1]], 10)
    texts = [[3, 4, 5, 1], [], [7]]
    columns = likelihoods(texts, [model.distribution] * 3)
    assert torch.stack(columns, 1).tolist() == [pytest.approx(likelihood(t, model.distribution)) for t in texts]
    assert [c.shape for c in likelihoods([], [])] == [(0,)] * 3


def test_a_written_text_looks_like_those_that_were_read():
    model = Trigrams([[3, 4, 5, 1]] * 200, 10)
    texts = [model.write(np.random.default_rng(seed), 6) for seed in range(40)]
    assert sum(t == [3, 4, 5] for t in texts) > 30
    assert all(len(t) <= 6 and not {Vocabulary.PAD, Vocabulary.END, Vocabulary.UNKNOWN} & set(t) for t in texts)
    assert model.write(np.random.default_rng(1), 6) == model.write(np.random.default_rng(1), 6)
