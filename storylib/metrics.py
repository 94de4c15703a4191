"""Pure metric functions: arrays in, one value per query out. Setting them beside floors is evaluation's work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


def ranks(scores: Tensor, target: Tensor, candidates: Tensor) -> Tensor:
    """Rank of each query's target among its candidates, 1 is best; ties share the mean rank.

    scores: (Q, C). target: (Q,) column of the target. candidates: (Q, C) bool; the target always counts as one, and
    exact copies of it must be left out by the caller, so that a copy is neither a rival nor a second chance.
    Returns (Q,) float.
    """
    own = scores.gather(1, target[:, None])
    rivals = candidates.clone()
    rivals.scatter_(1, target[:, None], False)
    better = ((scores > own) & rivals).sum(1)
    tied = ((scores == own) & rivals).sum(1)
    return 1 + better + tied / 2


def candidate_counts(target: Tensor, candidates: Tensor) -> Tensor:
    """(Q,) how many candidates each query has, its target among them."""
    return candidates.clone().scatter_(1, target[:, None], True).sum(1)


def chance_recall(counts: np.ndarray, k: int) -> np.ndarray:
    """Expected recall@k of a random order of ``counts`` candidates."""
    return np.minimum(k / np.maximum(counts, 1), 1.0)


def chance_reciprocal_rank(counts: np.ndarray) -> np.ndarray:
    """Expected reciprocal rank of a random order: the n-th harmonic number over n."""
    harmonic = np.concatenate([[np.nan], np.cumsum(1 / np.arange(1, max(int(counts.max()), 1) + 1))])
    return harmonic[counts] / np.maximum(counts, 1)


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N, 10) n-gram matches 1-4, n-grams 1-4, hypothesis and reference length: their sums make corpus BLEU-4.

    sacrebleu, tokenizer 13a, lower case (Post 2018); see ``bleu_signature``.
    """
    bleu = _bleu()
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        score = bleu.corpus_score([hypothesis], [[reference]])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=float).reshape(-1, 10)


def bleu_from_counts(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 in 0..100 from sums of ``bleu_counts``, (..., 10) -> (...); smoothed as by sacrebleu."""
    from sacrebleu.metrics.bleu import BLEU

    flat = sums.reshape(-1, 10)
    values = [
        BLEU.compute_bleu(list(r[:4]), list(r[4:8]), round(r[8]), round(r[9]), smooth_method="exp").score for r in flat
    ]
    return np.array(values).reshape(sums.shape[:-1])


def bleu_signature() -> str:
    """What was computed exactly, in sacrebleu's own words."""
    bleu = _bleu()
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


@lru_cache
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(lowercase=True)


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L F-measure with stemming (Lin 2004; rouge-score)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return np.array([scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(hypotheses, references, strict=True)])


class _NoSynonyms:
    """Stands in for WordNet, so that METEOR matches exact words and stems only and says so in its name."""

    def synsets(self, *_: object) -> list[object]:
        return []


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) METEOR (exact + stem) (Banerjee and Lavie 2005; nltk), over words without punctuation."""
    from nltk.translate.meteor_score import single_meteor_score

    none: Any = _NoSynonyms()
    return np.array(
        [
            single_meteor_score(words(r), words(h), wordnet=none) if words(h) else 0.0
            for h, r in zip(hypotheses, references, strict=True)
        ]
    )


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) sentence chrF in 0..100 (Popovic 2015; sacrebleu)."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF(lowercase=True)
    return np.array([scorer.sentence_score(h, [r]).score for h, r in zip(hypotheses, references, strict=True)])


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return [w for w in ("".join(c for c in t if c.isalnum()) for t in text.lower().split()) if w]


def image_errors(predicted: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N,) L1 and (N,) SSIM (Wang et al. 2004; torchmetrics) of pictures (N, 3, S, S) in 0..1."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    predicted = predicted.clamp(0, 1)
    l1 = (predicted - target).abs().mean((1, 2, 3))
    similarity = [
        ssim(p, t, data_range=1.0, reduction="none")
        for p, t in zip(predicted.split(256), target.split(256), strict=True)
    ]
    values: Any = torch.cat([torch.as_tensor(s).reshape(-1) for s in similarity])
    return l1.numpy(), values.numpy()
