"""Metrics against brute force, simulation, the libraries' own corpus scores and worked cases."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU

from storylib.metrics import images as pictures_module
from storylib.metrics import registry, retrieval
from storylib.metrics import text as text_metrics
from storylib.metrics.alignment import (
    alignment_columns,
    apply_linear_map,
    chance_alignment,
    fit_linear_map,
    modality_gap,
    shuffled_pairs,
    uniformity,
)
from storylib.metrics.frechet import frechet_distance, moments
from storylib.metrics.images import between_samples, image_errors, picture_columns, sharpness
from storylib.metrics.registry import chance_recall, chance_reciprocal_rank
from storylib.metrics.retrieval import Candidates, ranks_by_block, tied_rank
from storylib.metrics.text import (
    bleu_counts,
    bleu_from_counts,
    chrf,
    cider_d,
    distinct_counts,
    grams,
    meteor,
    plain,
    rouge_l,
    signatures,
    similarity,
    words,
)

WORDNET = text_metrics._wordnet  # the real one: the stubs of other tests have no synonyms


def rank_by_hand(scores, target, candidates):
    """Mean rank over all orders of the tied."""
    rivals = [s for i, (s, c) in enumerate(zip(scores, candidates, strict=True)) if c and i != target]
    better = sum(s > scores[target] for s in rivals)
    tied = sum(s == scores[target] for s in rivals)
    return float(np.mean([1 + better + ahead for ahead in range(tied + 1)]))


def test_tied_ranks_equal_brute_force():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 4, (60, 9), generator=generator).float()
    target = torch.randint(0, 9, (60,), generator=generator)
    candidates = torch.rand(60, 9, generator=generator) < 0.6
    expected = [rank_by_hand(*row) for row in zip(scores.tolist(), target.tolist(), candidates.tolist(), strict=True)]
    rivals = candidates.scatter(1, target[:, None], False)
    assert tied_rank(scores, scores.gather(1, target[:, None]), rivals).tolist() == expected
    assert tied_rank(torch.tensor([[0.0, 9.0]]), torch.tensor([[0.0]]), torch.tensor([False, False])).item() == 1


def test_there_is_one_formula_for_ties():
    """Ranks of tokens, of training frames and of retrieval all go through ``mean_rank``."""
    tied = re.compile(r"tied.{0,40}/ 2|== .{0,60}\.sum\(.{0,30}/ 2")
    package = Path(registry.__file__).parents[1]
    copies = {path.name for path in package.rglob("*.py") for _ in tied.findall(path.read_text(encoding="utf-8"))}
    assert copies == {"retrieval.py"}


@pytest.mark.parametrize("n", [1, 2, 5])
def test_chance_equals_every_order_counted(n):
    places = [order.index(0) + 1 for order in itertools.permutations(range(n))]
    counts = np.array([n])
    for k in (1, 3, 10):
        assert chance_recall(counts, k)[0] == pytest.approx(np.mean([p <= k for p in places]))
    assert chance_reciprocal_rank(counts)[0] == pytest.approx(np.mean([1 / p for p in places]))


def test_chance_equals_the_ranks_of_random_scores():
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(4000, 20, generator=generator)
    found = tied_rank(scores, scores[:, :1], torch.arange(20) > 0)
    assert (found <= 5).double().mean().item() == pytest.approx(chance_recall(np.array([20]), 5)[0], abs=0.03)
    assert (1 / found).mean().item() == pytest.approx(chance_reciprocal_rank(np.array([20]))[0], abs=0.02)


def test_no_candidates_means_no_chance_value():
    assert np.isnan(chance_reciprocal_rank(np.array([0, 1]))).tolist() == [True, False]


@pytest.fixture
def without_wordnet(monkeypatch):
    no_synonyms = SimpleNamespace(synsets=lambda *_: [])
    monkeypatch.setattr(text_metrics, "_wordnet", lambda: no_synonyms)


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
    counts = bleu_counts(hypotheses, references)
    assert counts.shape == (len(chosen), 10)
    assert bleu_from_counts(counts.sum(0)) == pytest.approx(expected)


def test_bleu_of_many_sums_at_once_keeps_their_shape():
    counts = bleu_counts(HYPOTHESES, REFERENCES)
    many = bleu_from_counts(np.stack([counts, 2 * counts]))
    assert many.shape == (2, 4)
    assert many[0, [0, 2, 3]] == pytest.approx(many[1, [0, 2, 3]])  # twice the same corpus; nothing to smooth
    for row, value in zip(counts, many[0], strict=True):
        assert float(bleu_from_counts(row)) == pytest.approx(value)


def test_bleu_of_nothing_has_no_counts():
    assert bleu_counts([], []).shape == (0, 10)


@pytest.mark.parametrize(
    ("metric", "perfect"),
    [(rouge_l, 1.0), (meteor, 1.0), (chrf, 100.0), (cider_d, 10.0)],
    ids=["rouge_l", "meteor", "chrf", "cider_d"],
)
def test_identical_texts_score_full_and_empty_ones_nothing(metric, perfect, without_wordnet):
    texts = ["the fox runs over the hill to the big red house", "an owl sleeps"]
    same, empty, nothing = metric([*texts, "", "ox by zu"], [*texts, "a fox", "man cap"])[[0, 2, 3]]
    assert same == pytest.approx(perfect, rel=0.01)
    assert empty == 0 and nothing == 0


def test_rouge_l_by_hand():
    """The longest common subsequence of 5 and 4 words is "the fox the hill" without "runs": 3 of 5 and 3 of 4."""
    value = rouge_l(["the fox sat hill still"], ["the fox runs hill"])[0]
    assert value == pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))


def test_rouge_l_matches_stems():
    assert rouge_l(["foxes running"], ["fox runs"])[0] == pytest.approx(1)


def test_meteor_by_hand(without_wordnet):
    """Three of four words match in two chunks: F = 10 P R / (R + 9 P), penalty 0.5 (2 / 3)^3."""
    value = meteor(["the fox ate fish"], ["the fox liked fish"])[0]
    f = 10 * 0.75 * 0.75 / (0.75 + 9 * 0.75)
    assert value == pytest.approx(f * (1 - 0.5 * (2 / 3) ** 3))


def test_meteor_ignores_punctuation_and_case(without_wordnet):
    assert meteor(["The FOX, runs!"], ["the fox runs"])[0] == meteor(["the fox runs"], ["the fox runs"])[0]
    assert meteor(["..."], ["the fox"])[0] == 0


def test_words_are_lower_case_without_punctuation():
    assert words("The fox's  hat — is RED, 2 m.") == ("the", "foxs", "hat", "is", "red", "2", "m")


def test_equal_pictures_have_no_error():
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    l1, ssim = image_errors(pictures, pictures)
    assert l1.tolist() == [0, 0, 0]
    assert ssim == pytest.approx(np.ones(3), abs=1e-5)


def test_picture_errors_by_hand_and_one_by_one():
    generator = torch.Generator().manual_seed(0)
    truth, drawn = torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 3, 16, 16, generator=generator)
    l1, ssim = image_errors(drawn, truth)
    assert l1 == pytest.approx([np.abs(a - b).mean() for a, b in zip(drawn.numpy(), truth.numpy(), strict=True)])
    alone = [image_errors(drawn[i : i + 1], truth[i : i + 1])[1][0] for i in range(2)]
    assert ssim == pytest.approx(alone, abs=1e-6)
    assert (ssim < 0.5).all()
    flat = image_errors(torch.full((1, 3, 16, 16), 0.25), torch.full((1, 3, 16, 16), 0.75))
    c1 = 0.01**2
    assert flat[0][0] == pytest.approx(0.5)
    assert flat[1][0] == pytest.approx((2 * 0.25 * 0.75 + c1) / (0.25**2 + 0.75**2 + c1), abs=1e-3)  # luminance term


def test_pixels_beyond_the_range_are_clamped():
    white = torch.ones(1, 3, 16, 16)
    assert image_errors(white * 7, white)[0][0] == 0


# ---- ranks by block


def many_frames(seed: int, queries: int = 37, frames: int = 23):
    """Few different values, so that ties and copies abound; groups of frames are stories."""
    rng = np.random.default_rng(seed)
    ids, groups = rng.integers(0, 12, frames).tolist(), np.sort(rng.integers(0, 4, frames)).tolist()
    target = rng.integers(0, frames, queries).tolist()
    context = [rng.choice([c for c in range(frames) if c != t], 3, replace=False).tolist() for t in target]
    answers = torch.from_numpy(rng.integers(0, 3, (12, 6))).float()[ids]  # copies have equal vectors
    return torch.from_numpy(rng.integers(0, 3, (queries, 6))).float(), answers, target, ids, context, groups


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("in_story", [False, True])
def test_ranks_by_block_equal_brute_force_with_ties_and_copies(seed, in_story, monkeypatch):
    query, answers, target, ids, context, groups = many_frames(seed)
    chosen = Candidates(target, ids, context, groups if in_story else None)
    expected, counts = [], []
    for row, t in enumerate(target):
        rivals = [c for c in range(len(ids)) if ids[c] != ids[t] and c not in context[row]]
        rivals = [c for c in rivals if not in_story or groups[c] == groups[t]]
        score = (query[row] @ answers.T).tolist()
        expected.append(1 + sum(score[c] > score[t] for c in rivals) + sum(score[c] == score[t] for c in rivals) / 2)
        counts.append(1 + len(rivals))
    assert chosen.counts.tolist() == counts
    for block in (7, 64):
        monkeypatch.setattr(retrieval, "BLOCK", block)
        assert ranks_by_block(query, answers, chosen).tolist() == expected


def test_any_exact_copy_of_the_target_counts_as_the_target():
    """Scores may differ in their last digit between copies: the best of them is the target's."""
    chosen = Candidates([0], [5, 6, 5])
    assert chosen.ranks(torch.tensor([[0.1, 0.5, 0.9]])).item() == 1
    assert chosen.counts.tolist() == [2]


def test_one_candidate_is_always_first():
    chosen = Candidates([1], [0, 1], context=[[0]])
    assert chosen.counts.tolist() == [1] and chosen.ranks(torch.tensor([[9.0, 0.0]])).tolist() == [1]
    assert ranks_by_block(torch.zeros(0, 3), torch.zeros(2, 3), Candidates([], [0, 1])).shape == (0,)


def test_ranks_agree_with_torchmetrics_and_scikit_learn():
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMRR

    generator = torch.Generator().manual_seed(3)
    query, answers = (torch.randn(n, 8, generator=generator) for n in (40, 25))
    target = torch.randint(0, 25, (40,), generator=generator)
    rank = ranks_by_block(query, answers, Candidates(target.tolist(), range(25)))
    scores = (query @ answers.T).sigmoid().flatten()  # torchmetrics takes a negative score for "not retrieved"
    truth = torch.nn.functional.one_hot(target, 25).flatten().bool()
    index = torch.arange(40).repeat_interleave(25)
    assert (1 / rank).mean().item() == pytest.approx(RetrievalMRR()(scores, truth, indexes=index).item())
    for k in (1, 5, 10):
        hits = RetrievalHitRate(top_k=k)(scores, truth, indexes=index).item()
        assert (rank <= k).double().mean().item() == pytest.approx(hits)
    sklearn = pytest.importorskip("sklearn.metrics")
    top = sklearn.top_k_accuracy_score(target, scores.view(40, 25), k=5, labels=range(25))
    assert (rank <= 5).double().mean().item() == pytest.approx(top)


# ---- texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<gdi image1> <gdo char1>Sarah</gdo> ran. </gdi>", "Sarah ran."),
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("  two\n words ", "two words"),
        ("<!-- no -->yes", "yes"),
        ("", ""),
    ],
)
def test_markup_is_no_language(text, expected):
    assert plain(text) == expected


def test_cider_d_gives_the_published_worked_example():
    """The README of aac-metrics (Labbé 2023): 0.9614 over the corpus, 1.3641 and 0.5587 for its two sentences."""
    hypotheses = ["a man is speaking", "rain falls"]
    references = [
        ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
        ["rain is falling hard on a surface"],
    ]
    frequencies = Counter(gram for group in references for gram in set().union(*map(grams, group)))
    scores = [
        np.mean([similarity(grams(hypothesis), grams(reference), frequencies, 2) for reference in group])
        for hypothesis, group in zip(hypotheses, references, strict=True)
    ]
    assert scores == pytest.approx([1.3641, 0.5587], abs=5e-5) and np.mean(scores) == pytest.approx(0.9614, abs=5e-5)


def test_cider_d_by_hand():
    """Two documents; "the" stands in both and weighs nothing. Of "fox" and "the fox" both are hit, length one short."""
    found = cider_d(["the fox", "x"], ["the fox ran", "the owl"])[0]
    one = np.log(2)  # the weight of whatever stands in one document only
    singles = one * one / (np.sqrt(one**2) * np.sqrt(2 * one**2))  # fox; against fox, ran
    pairs = one * one / (np.sqrt(one**2) * np.sqrt(2 * one**2))  # the fox; against the fox, fox ran
    assert found == pytest.approx(10 * (singles + pairs) / 4 * np.exp(-1 / (2 * 6**2)))


def test_repeating_a_rare_word_gains_nothing_and_one_document_has_no_rare_words():
    others = ["the owl slept", "a bear ate"]
    once, often = (cider_d([text, *others], ["the fox ran", *others])[0] for text in ("the fox ran", "fox fox fox"))
    assert often < once
    assert cider_d(["the fox"], ["the fox"]).tolist() == [0]


def test_distinct_counts_sum_to_the_number_of_different_grams():
    texts = ["a b a", "a b", "", "c"]
    ones, twos = (distinct_counts(texts, n).sum(0) for n in (1, 2))
    assert ones.tolist() == pytest.approx([3, 6]) and twos.tolist() == pytest.approx([2, 3])
    assert distinct_counts(["x y", "x y"], 2).tolist() == [[0.5, 1], [0.5, 1]]


def test_meteor_with_wordnet_knows_synonyms(monkeypatch):
    monkeypatch.setattr(text_metrics, "_wordnet", WORDNET)
    synonym, other = meteor(["the big car ran", "the big owl ran"], ["the big auto ran"] * 2)
    assert synonym > 0.99 > other


def test_signatures_name_every_variant():
    variants = signatures()
    assert all(part in variants["bleu"] for part in ("case:lc", "tok:13a", "smooth:exp"))
    assert "nc:6" in variants["chrf"] and variants["meteor"] == "METEOR (WordNet 3.0)"


# ---- pictures


def test_the_frechet_distance_is_scipys():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5)), 0.5 + rng.normal(size=(80, 5))
    a, b = (np.cov(x, rowvar=False, bias=True) for x in (one, other))
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(moments(one).sum(0), moments(other).sum(0)) == pytest.approx(expected)
    many = np.stack([moments(one).sum(0), moments(one + 3).sum(0)])  # moved only: the squared distance
    assert frechet_distance(many, many[:1]) == pytest.approx([0, 5 * 9], abs=1e-6)


def test_sharpness_falls_with_blur_and_is_the_variance_of_the_laplacian():
    rough = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(rough, 3, 1, 1)
    assert (sharpness(soft) < 0.3 * sharpness(rough)).all()
    assert sharpness(torch.full((1, 3, 8, 8), 0.4)).tolist() == pytest.approx([0], abs=1e-10)
    grey = (rough[0] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0).numpy()
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * grey[1:-1, 1:-1]
    assert sharpness(rough)[0] == pytest.approx(edges.var(), rel=1e-4)


def test_the_columns_of_pictures_are_those_of_each_alone(monkeypatch):
    rough = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(rough, 3, 1, 1)
    drawn = torch.cat([soft[:4], rough[4:]])
    together = picture_columns(drawn, rough)
    assert set(together) == {"image_l1", "image_ssim", "picture_distance", "sharpness", "true_sharpness"}
    assert (together["picture_distance"][:4] > 0.05).all() and together["picture_distance"][4] == 0
    monkeypatch.setattr(pictures_module, "BLOCK", 2)
    for name, column in picture_columns(drawn, rough).items():
        assert column == pytest.approx(together[name], abs=1e-5), name


def test_samples_apart_by_hand():
    samples = torch.stack([torch.full((3, 4, 4), v) for v in (0.0, 0.2, 0.6)])[None]
    assert between_samples(samples)[0] == pytest.approx((0.2 + 0.6 + 0.4) / 3)
    assert between_samples(samples[:, :1]).tolist() == [0]


# ---- alignment


def clouds(frames: int = 50, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.nn.functional.normalize(torch.randn(frames, 6, generator=generator), dim=-1) for _ in range(2))


def test_alignment_and_its_chance_by_loop():
    image, text = clouds()
    distance = alignment_columns(image, text, random=False)["alignment"]
    assert distance[3] == pytest.approx(((image[3] - text[3]) ** 2).sum().item())
    every = [((i - t) ** 2).sum().item() for i in image for t in text]
    assert chance_alignment(image, text).mean().item() == pytest.approx(np.mean(every), rel=1e-5)
    assert alignment_columns(image, image, random=False)["alignment"].tolist() == [0] * 50


def test_uniformity_by_loop():
    image, _ = clouds()
    pairs = [np.exp(-2 * ((image[i] - image[j]) ** 2).sum().item()) for i in range(50) for j in range(i)]
    assert uniformity(image).mean().item() == pytest.approx(np.mean(pairs), rel=1e-4)
    assert uniformity(image[:1]).isnan().all()
    same = image[:1].repeat(5, 1)
    assert uniformity(same).mean().log().item() == pytest.approx(0, abs=1e-5)  # all in one place


def test_the_modality_gap_is_the_distance_of_the_centres():
    image, text = clouds()
    gap = modality_gap(image + 0.3, text)
    assert gap.mean().item() == pytest.approx((image + 0.3 - text).mean(0).norm().item(), rel=1e-5)
    mixed = shuffled_pairs(image + 0.3, text)
    assert modality_gap(*mixed).mean() < gap.mean()
    assert torch.equal(mixed[0] + mixed[1], image + 0.3 + text)  # only which is which has changed


def test_a_linear_map_is_scikit_learns_ridge():
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(1)
    source, true = torch.randn(80, 5, generator=generator), torch.randn(5, 3, generator=generator)
    target = source @ true + 2
    centred = (source - source.mean(0)).double()
    penalty = (centred.T @ centred).trace().item() / 5
    ridge = linear.Ridge(alpha=penalty).fit(source.double(), target.double())
    mapped = apply_linear_map(fit_linear_map(source, target), source)
    assert mapped.numpy() == pytest.approx(ridge.predict(source.double()), abs=1e-4)
