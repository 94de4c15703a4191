"""Floors by hand, by brute force, and as proper probabilities."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib.evaluation import ORACLE
from storylib.floors import (
    FLOOR_TITLES,
    chance,
    copies,
    copy,
    floors,
    linear_map,
    mean_of_context,
    nearest,
    true_tokens,
    word_models,
)
from storylib.training import as_drawn, build_model


@pytest.fixture
def sets(tiny_data, tiny_sets):
    model = build_model(tiny_config(), tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    for name in ("train", "test"):
        tiny_sets[name].embed_bank(model)
    return tiny_sets["train"], tiny_sets["test"]


@pytest.fixture
def found(sets, tiny_sets):
    return floors(*sets, tiny_sets["vocabulary"])


def test_every_floor_has_a_title(found):
    assert {*found, ORACLE} == set(FLOOR_TITLES)


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
        assert torch.allclose(found.picture[row], as_drawn(held.pictures[at]))
    assert torch.equal(copies(held)[which].image, found.image)


def test_copy_last_is_the_newest_frame(sets, found):
    _, held = sets
    assert found["copy-last"].words == [w.context[-1].text for w in held.windows]
    assert len(copies(held)) == 4


def test_means_by_loop(sets, found):
    _, held = sets
    for name, weights in (("mean", [1, 1, 1, 1]), ("recency", [1, 2, 3, 4])):
        for row, window in enumerate(held.windows):
            rows = [held.keys.index((window.story.id, f.page)) for f in window.context]
            for got, bank in (
                (found[name].image, held.bank["image_bank"]),
                (found[name].text, held.bank["text_bank"]),
                (found[name].picture, as_drawn(held.pictures[:])),
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


def test_the_median_picture_is_that_of_training(sets, found):
    train, _ = sets
    picture = found["median"].picture
    assert picture.shape == (8, 3, 16, 16)
    values = sorted(int(p[4, 7, 1]) for p in train.pictures[:])
    assert picture[3, 1, 4, 7].item() == pytest.approx(values[(len(values) - 1) // 2] / 255)


def test_a_floor_says_nothing_that_it_cannot_know(found):
    said = {name: {k for k, v in vars(p).items() if v is not None and v is not False} for name, p in found.items()}
    likelihood = {"nll", "nll_shuffled", "top1", "top5"}
    assert said["chance"] == {"words", "picture", "samples", "guesses", *likelihood}
    assert said["median"] == {"picture"} and said["context"] == {"samples"}
    assert said["unigram"] == said["trigram and cache"] == likelihood
    assert said["trigram"] == {"words", *likelihood}
    assert said["mean"] == said["recency"] == {"image", "text", "picture"}
    assert said["copy-last"] == {"image", "text", "picture", "words"}
    assert said["nearest"] == {"image", "text", "picture", "words", "samples"}
    assert said["linear map"] == {"shared", "probed"}


def test_chance_draws_training_pages_and_believes_every_token_alike(sets):
    train, held = sets
    found = chance(train, held)
    assert set(found.words) <= set(train.texts) and torch.equal(found.picture, found.samples[:, 0])
    tokens = torch.tensor([len(t) for t in true_tokens(held)])
    assert found.nll.tolist() == pytest.approx((tokens * torch.tensor(float(held.vocabulary_size)).log()).tolist())
    assert found.top5.tolist() == pytest.approx((5 * found.top1).tolist())
    assert chance(train, held).words == found.words != chance(train, held, seed=1).words


def test_the_context_is_four_pictures_and_the_nearest_has_its_own_first(sets, found):
    _, held = sets
    for i, one in enumerate(copies(held)):
        assert torch.equal(found["context"].samples[:, i], one.picture)
    assert torch.equal(found["nearest"].samples[:, 0], found["nearest"].picture)


def test_the_linear_map_is_fitted_on_training_pages_only(sets):
    train, held = sets
    image, text = linear_map(train, train).shared
    own = (image * text).sum(1).mean()
    assert own > (image * text.roll(7, 0)).sum(1).mean()  # it does find texts of pictures that it was fitted on
    changed = type(held).__new__(type(held))
    changed.__dict__.update(held.__dict__)
    changed.bank = held.bank | {"text_bank": held.bank["text_bank"].flip(0)}
    assert torch.equal(linear_map(train, changed).probed, linear_map(train, held).probed)


def test_a_model_without_a_story_cannot_miss_it(sets, tiny_sets):
    """The gap of the shuffled context is zero for a model of texts alone, and not for one that repeats its words."""
    found = word_models(*sets, tiny_sets["vocabulary"])
    assert torch.equal(found["trigram"].nll_shuffled, found["trigram"].nll)
    for name in ("unigram", "trigram and cache"):
        assert (found[name].nll_shuffled > found[name].nll).double().mean() > 0.5
