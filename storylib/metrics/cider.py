"""CIDEr-D (Vedantam, Zitnick and Parikh 2015): n-grams that are rare in the references count most.

Each text becomes, for n = 1 to 4, a vector of its n-grams weighted by tf-idf, document frequencies being taken over the
references. A hypothesis scores the cosine with its reference, its own counts clipped to the reference's so that
repeating a rare word gains nothing, times a Gaussian penalty on the difference in length, averaged over n, times 10.

The formulas are those of the authors' ``CiderDScorer`` (sigma = 6, tf = raw counts, idf = log N - log max(1, df)), over
our own words: lower case, no punctuation, and no stemming, as there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import exp, log, sqrt

import numpy as np

from storylib.metrics.text import words

Gram = tuple[str, ...]
LONGEST, SIGMA = 4, 6.0


def cider_d(
    hypotheses: Sequence[str], references: Sequence[str | Sequence[str]], corpus: Sequence[str] | None = None
) -> np.ndarray:
    """(N,) CIDEr-D in 0..10, each hypothesis with one reference or several, over which its score is averaged.

    corpus: the texts whose document frequencies say what is rare; the references by default, those of one hypothesis
    being one document. One document alone has nothing that is rarer than the rest, so it scores 0.
    """
    every = [[r] if isinstance(r, str) else list(r) for r in references]
    counted = [[_grams(text) for text in group] for group in every]
    documents = counted if corpus is None else [[_grams(text)] for text in corpus]
    seen = Counter(gram for group in documents for gram in set().union(*group))
    ours = [_grams(h) for h in hypotheses]
    return np.array(
        [
            sum(similarity(one, theirs, seen, len(documents)) for theirs in group) / len(group)
            for one, group in zip(ours, counted, strict=True)
        ]
    )


def grams(tokens: Sequence[str]) -> Counter[Gram]:
    """How often each n-gram of length 1 to 4 occurs."""
    return Counter(tuple(tokens[i : i + n]) for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


@lru_cache(2**14)
def _grams(text: str) -> Counter[Gram]:
    return grams(words(text))


def similarity(ours: Mapping[Gram, int], theirs: Mapping[Gram, int], seen: Mapping[Gram, int], documents: int) -> float:
    """CIDEr-D of one hypothesis and one reference. seen: in how many of the documents each n-gram stands."""

    def weights(counts: Mapping[Gram, int], n: int) -> dict[Gram, float]:
        return {g: c * (log(documents) - log(max(1, seen.get(g, 0)))) for g, c in counts.items() if len(g) == n}

    total = 0.0
    for n in range(1, LONGEST + 1):
        hypothesis, reference = weights(ours, n), weights(theirs, n)
        lengths = _norm(hypothesis) * _norm(reference)
        if lengths:
            shared = hypothesis.keys() & reference.keys()
            total += sum(min(hypothesis[g], reference[g]) * reference[g] for g in sorted(shared)) / lengths
    difference = sum(c for g, c in ours.items() if len(g) == 1) - sum(c for g, c in theirs.items() if len(g) == 1)
    return 10 * total / LONGEST * exp(-(difference**2) / (2 * SIGMA**2))


def _norm(vector: Mapping[Gram, float]) -> float:
    return sqrt(sum(v * v for v in vector.values()))
