"""Metrics against brute force, simulation, the libraries' own corpus scores and worked cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from storylib import metrics


def rank_by_hand(scores, target, candidates):
    """Mean rank over all orders of the tied."""
    rivals = [s for i, (s, c) in enumerate(zip(scores, candidates, strict=True)) if c and i != target]
    better = sum(s > scores[target] for s in rivals)
    tied = sum(s == scores[target] for s in rivals)
    return float(np.mean([1 + better + ahead for ahead in range(tied + 1)]))


def test_ranks_equal_brute_force_with_many_ties():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (60, 9), generator=generator).float()
    target = torch.randint(0, 9, (60,), generator=generator)
    candidates = torch.rand(60, 9, generator=generator) < 0.6
    expected = [rank_by_hand(*row) for row in zip(scores.tolist(), target.tolist(), candidates.tolist(), strict=True)]
    assert metrics.ranks(scores, target, candidates).tolist() == expected
    counts = [
        sum(c for i, c in enumerate(row) if i != t) + 1 for row, t in zip(candidates.tolist(), target, strict=True)
    ]
    assert metrics.candidate_counts(target, candidates).tolist() == counts


def test_ranks_leave_their_arguments_alone():
    candidates = torch.ones(1, 3, dtype=torch.bool)
    metrics.ranks(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([0]), candidates)
    metrics.candidate_counts(torch.tensor([0]), candidates)
    assert candidates.all()


def test_a_left_out_copy_is_neither_rival_nor_second_chance():
    scores = torch.tensor([[0.5, 0.5, 0.9, 0.1]])  # column 1 is an exact copy of the target, column 0
    left_out = torch.tensor([[True, False, True, True]])
    assert metrics.ranks(scores, torch.tensor([0]), left_out).item() == 2
    assert metrics.ranks(scores, torch.tensor([0]), torch.ones_like(left_out)).item() == 2.5
    assert metrics.candidate_counts(torch.tensor([0]), left_out).item() == 3


def test_many_queries_may_share_one_target():
    scores = torch.tensor([[3.0, 1, 2], [1, 3, 2], [2, 2, 2]])
    ranks = metrics.ranks(scores, torch.tensor([0, 0, 0]), torch.ones(3, 3, dtype=torch.bool))
    assert ranks.tolist() == [1, 3, 2]


def test_a_target_alone_is_first():
    assert metrics.ranks(torch.tensor([[0.0, 9.0]]), torch.tensor([0]), torch.zeros(1, 2, dtype=torch.bool)).item() == 1


@pytest.mark.parametrize("n", [1, 2, 5])
def test_chance_equals_every_order_counted(n):
    places = [order.index(0) + 1 for order in itertools.permutations(range(n))]
    counts = np.array([n])
    for k in (1, 3, 10):
        assert metrics.chance_recall(counts, k)[0] == pytest.approx(np.mean([p <= k for p in places]))
    assert metrics.chance_reciprocal_rank(counts)[0] == pytest.approx(np.mean([1 / p for p in places]))


def test_chance_equals_the_ranks_of_random_scores():
    generator = torch.Generator().manual_seed(1)
    ranks = metrics.ranks(
        torch.rand(4000, 20, generator=generator),
        torch.randint(0, 20, (4000,), generator=generator),
        torch.ones(4000, 20, dtype=torch.bool),
    )
    assert (ranks <= 5).double().mean().item() == pytest.approx(metrics.chance_recall(np.array([20]), 5)[0], abs=0.03)
    assert (1 / ranks).mean().item() == pytest.approx(metrics.chance_reciprocal_rank(np.array([20]))[0], abs=0.02)


def test_no_candidates_means_no_chance_value():
    assert np.isnan(metrics.chance_reciprocal_rank(np.array([0, 1]))).tolist() == [True, False]


HYPOTHESES = ["The fox runs to the red hill.", "An owl, asleep", "", "the bear eats a fish and sleeps all day long"]
REFERENCES = [
    "the fox ran to the red hill!",
    "An owl is asleep",
    "A goat",
    "The bear eats a fish and sleeps all night long",
]


@pytest.mark.parametrize("chosen", [[0, 1, 2, 3], [0, 3], [1], [2], [1, 2]])
def test_summed_counts_give_the_corpus_bleu_of_sacrebleu(chosen):
    hypotheses, references = ([texts[i] for i in chosen] for texts in (HYPOTHESES, REFERENCES))
    expected = BLEU(lowercase=True).corpus_score(hypotheses, [references]).score
    counts = metrics.bleu_counts(hypotheses, references)
    assert counts.shape == (len(chosen), 10)
    assert metrics.bleu_from_counts(counts.sum(0)) == pytest.approx(expected)


def test_bleu_of_many_sums_at_once_keeps_their_shape():
    counts = metrics.bleu_counts(HYPOTHESES, REFERENCES)
    many = metrics.bleu_from_counts(np.stack([counts, 2 * counts]))
    assert many.shape == (2, 4)
    assert many[0, [0, 2, 3]] == pytest.approx(many[1, [0, 2, 3]])  # twice the same corpus; nothing to smooth
    for row, value in zip(counts, many[0], strict=True):
        assert float(metrics.bleu_from_counts(row)) == pytest.approx(value)


def test_bleu_of_nothing_has_no_counts():
    assert metrics.bleu_counts([], []).shape == (0, 10)


def test_the_signature_says_how_bleu_was_computed():
    assert all(part in metrics.bleu_signature() for part in ("case:lc", "tok:13a", "smooth:exp"))


@pytest.mark.parametrize(
    ("metric", "perfect"),
    [(metrics.rouge_l, 1.0), (metrics.meteor, 1.0), (metrics.chrf, 100.0)],
    ids=["rouge_l", "meteor", "chrf"],
)
def test_identical_texts_score_full_and_empty_ones_nothing(metric, perfect):
    texts = ["the fox runs over the hill to the big red house", "an owl sleeps"]
    same, empty, nothing = metric([*texts, "", "ox by zu"], [*texts, "a fox", "man cap"])[[0, 2, 3]]
    assert same == pytest.approx(perfect, rel=0.01)
    assert empty == 0 and nothing == 0


def test_rouge_l_by_hand():
    """The longest common subsequence of 5 and 4 words is "the fox the hill" without "runs": 3 of 5 and 3 of 4."""
    value = metrics.rouge_l(["the fox sat hill still"], ["the fox runs hill"])[0]
    assert value == pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))


def test_rouge_l_matches_stems():
    assert metrics.rouge_l(["foxes running"], ["fox runs"])[0] == pytest.approx(1)


def test_meteor_by_hand():
    """Three of four words match in two chunks: F = 10 P R / (R + 9 P), penalty 0.5 (2 / 3)^3."""
    value = metrics.meteor(["the fox ate fish"], ["the fox liked fish"])[0]
    f = 10 * 0.75 * 0.75 / (0.75 + 9 * 0.75)
    assert value == pytest.approx(f * (1 - 0.5 * (2 / 3) ** 3))


def test_meteor_does_not_see_punctuation_case_or_need_wordnet():
    assert (
        metrics.meteor(["The FOX, runs!"], ["the fox runs"])[0] == metrics.meteor(["the fox runs"], ["the fox runs"])[0]
    )
    assert metrics.meteor(["..."], ["the fox"])[0] == 0


def test_words_are_lower_case_without_punctuation():
    assert metrics.words("The fox's  hat — is RED, 2 m.") == ["the", "foxs", "hat", "is", "red", "2", "m"]


def test_equal_pictures_have_no_error():
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    l1, ssim = metrics.image_errors(pictures, pictures)
    assert l1.tolist() == [0, 0, 0]
    assert ssim == pytest.approx(np.ones(3), abs=1e-5)


def test_picture_errors_by_hand_and_one_by_one():
    generator = torch.Generator().manual_seed(0)
    truth, drawn = torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)
    l1, ssim = metrics.image_errors(drawn, truth)
    assert l1 == pytest.approx([np.abs(a - b).mean() for a, b in zip(drawn.numpy(), truth.numpy(), strict=True)])
    alone = [metrics.image_errors(drawn[i : i + 1], truth[i : i + 1])[1][0] for i in range(2)]
    assert ssim == pytest.approx(alone, abs=1e-6)
    assert (ssim < 0.5).all()
    flat = metrics.image_errors(torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75))
    c1 = 0.01**2
    assert flat[0][0] == pytest.approx(0.5)
    assert flat[1][0] == pytest.approx((2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1), abs=1e-3)  # luminance term


def test_pixels_beyond_the_range_are_clamped():
    white = torch.ones(1, 3, 16, 16)
    assert metrics.image_errors(white * 7, white)[0][0] == 0
