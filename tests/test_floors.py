"""Floors by hand, by brute force, and as proper probabilities."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib.decoders import Vocabulary
from storylib.evaluation import ORACLE
from storylib.floors import (
    FLOOR_TITLES,
    Trigrams,
    copies,
    copy,
    floors,
    mean_of_context,
    nearest,
    trigram_nll,
    unigram_nll,
)
from storylib.training import build_model


@pytest.fixture
def sets(tiny_data, tiny_sets):
    model = build_model(tiny_config(), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    for name in ("train", "test"):
        tiny_sets[name].embed_bank(model)
    return tiny_sets["train"], tiny_sets["test"]


def test_every_floor_has_a_title(sets):
    assert {*floors(*sets), ORACLE} == set(FLOOR_TITLES)


@pytest.mark.parametrize("which", range(4))
def test_a_copy_is_the_frame_itself(sets, which):
    _, held = sets
    found = copy(held, which)
    for row, window in enumerate(held.windows):
        frame = window.context[which]
        at = held.keys.index((window.story.id, frame.page))
        assert torch.equal(found.image[row], held.bank["image_bank"][at])
        assert torch.equal(found.text[row], held.bank["text_bank"][at])
        assert found.words[row] == frame.text
        assert torch.allclose(found.picture[row] * 255, held.pictures[at].float())
    assert torch.equal(copies(held)[which].image, found.image)


def test_copy_last_is_the_newest_frame(sets):
    train, held = sets
    assert floors(train, held)["copy-last"].words == [w.context[-1].text for w in held.windows]
    assert len(copies(held)) == 4


def test_means_by_loop(sets):
    train, held = sets
    everything = floors(train, held)
    for name, weights in (("mean", [1, 1, 1, 1]), ("recency", [1, 2, 3, 4])):
        for row, window in enumerate(held.windows):
            rows = [held.keys.index((window.story.id, f.page)) for f in window.context]
            for got, bank in (
                (everything[name].image, held.bank["image_bank"]),
                (everything[name].text, held.bank["text_bank"]),
                (everything[name].picture, held.pictures / 255),
            ):
                expected = sum(w * bank[r] for w, r in zip(weights, rows, strict=True)) / sum(weights)
                assert torch.allclose(got[row], expected, atol=1e-6)


def test_one_weight_of_one_is_a_copy(sets):
    found = mean_of_context(sets[1], torch.tensor([0.0, 0, 1, 0]))
    assert torch.allclose(found.image, copy(sets[1], 2).image)


def test_the_nearest_context_of_a_training_window_is_its_own(sets):
    """Searching the training windows for themselves finds what really followed."""
    train, _ = sets
    found = nearest(train, train)
    assert found.words == [w.target.text for w in train.windows]
    assert torch.equal(found.image, train.bank["image_bank"][train.frames[:, -1]])


def test_nearest_by_loop(sets):
    train, held = sets

    def similarity(mine, theirs):
        total = 0.0
        for bank in ("image_bank", "text_bank"):
            one, two = (d.bank[bank][d.frames[i, :-1]].mean(0) for d, i in ((held, mine), (train, theirs)))
            total += F.cosine_similarity(one, two, dim=0).item()
        return total

    expected = []
    for mine in range(len(held)):
        best = max(range(len(train)), key=lambda theirs: similarity(mine, theirs))
        expected.append(train.windows[best].target.text)
    assert nearest(train, held).words == expected


def test_the_median_picture_is_that_of_training(sets):
    train, held = sets
    found = floors(train, held)["median"].picture
    assert found.shape == (8, 3, 16, 16)
    values = sorted(int(p[1, 4, 7]) for p in train.pictures)
    assert found[3, 1, 4, 7].item() == pytest.approx(values[(len(values) - 1) // 2] / 255)


def test_a_floor_says_nothing_that_it_cannot_know(sets):
    found = floors(*sets)
    said = {name: {k for k, v in vars(p).items() if v is not None} for name, p in found.items()}
    assert said["chance"] == set() and said["median"] == {"picture"}
    assert said["unigram"] == said["trigram"] == {"nll"}
    assert said["mean"] == said["recency"] == {"image", "text", "picture"}
    assert said["nearest"] == said["copy-last"] == {"image", "text", "picture", "words"}


# ---- language models that know no story


def test_unigram_by_loop(sets):
    train, held = sets
    size = train.vocabulary_size
    counts = [1.0] * size
    for row in train.tokens.tolist():
        for token in row:
            counts[token] += 1
    counts[Vocabulary.PAD] = 0
    found = unigram_nll(train, held).tolist()
    for window, nats in zip(held.frames.tolist(), found, strict=True):
        context = [t for r in window[:-1] for t in held.tokens[r].tolist() if t > Vocabulary.UNKNOWN]
        expected = 0.0
        for token in held.tokens[window[-1]].tolist():
            if token != Vocabulary.PAD:
                expected -= math.log(0.9 * counts[token] / sum(counts) + 0.1 * context.count(token) / len(context))
        assert nats == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("context", [(), (4,), (9,), (3, 4), (4, 9), (9, 9), (-1, -1), (-1, 3)])
def test_trigram_probabilities_sum_to_one(context):
    model = Trigrams([[3, 4, 5, 1], [3, 4, 4, 1], [3, 5, 1], [6]], 10, 0.75)
    assert sum(model.probability((*context, token)) for token in range(10)) == pytest.approx(1)


def test_trigrams_by_hand():
    """One text, 3 4 3, in a vocabulary of 10, discount 0.5."""
    model = Trigrams([[3, 4, 3]], 10, 0.5)
    seen = (2 - 0.5) / 3 + 0.5 * 2 / 3 * 0.1  # of three words two are 3; two kinds share the discount
    unseen = 0.5 * 2 / 3 * 0.1
    assert model.probability((3,)) == pytest.approx(seen)
    assert model.probability((7,)) == pytest.approx(unseen)
    after_four = (1 - 0.5) / 1 + 0.5 * 1 / 1 * seen
    assert model.probability((4, 3)) == pytest.approx(after_four)
    assert model.probability((3, 4, 3)) == pytest.approx(0.5 + 0.5 * after_four)
    assert model.probability((8, 4, 3)) == pytest.approx(after_four)  # a context never seen says nothing


def test_a_text_is_the_product_of_its_words():
    model = Trigrams([[3, 4, 5, 1], [3, 5, 1]], 10, 0.75)
    expected = model.probability((-1, -1, 3)) * model.probability((-1, 3, 5)) * model.probability((3, 5, 1))
    assert model.nll([3, 5, 1]) == pytest.approx(-math.log(expected))
    assert model.nll([3, 5, 1]) < model.nll([5, 3, 1])


def test_trigrams_read_training_texts_only(sets):
    train, held = sets
    model = Trigrams([[t for t in row if t] for row in train.tokens.tolist()], train.vocabulary_size, 0.75)
    true = [[t for t in held.tokens[r].tolist() if t] for r in held.frames[:, -1]]
    assert trigram_nll(train, held).tolist() == pytest.approx([model.nll(t) for t in true], rel=1e-5)
