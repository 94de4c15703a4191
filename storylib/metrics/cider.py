"""CIDEr-D (Vedantam, Zitnick and Parikh 2015): n-grams that are rare in the references count most.

For n = 1 to 4, each text becomes a vector of its n-grams weighted by tf-idf, with document frequencies over the
references. A hypothesis scores the cosine with its reference, with its own counts clipped to the reference's so that
repeating a rare word gains nothing, times a Gaussian penalty on the difference in length, averaged over n, times 10.

The formulas are those of the authors' ``CiderDScorer`` (sigma = 6, tf = raw counts, idf = log N - log max(1, df)), over
our own words: lower case, no punctuation, no stemming. pycocoevalcap is not used: it has CIDEr but not CIDEr-D.
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
    """(N,) CIDEr-D in 0..10, each hypothesis against one reference, or averaged over several.

    corpus: the texts that document frequencies are taken from; by default the references, those of one hypothesis being
    one document. In a single document nothing is rarer than the rest, so all scores are 0.
    """
    groups = [[group] if isinstance(group, str) else list(group) for group in references]
    counts = [[grams(text) for text in group] for group in groups]
    documents = counts if corpus is None else [[grams(text)] for text in corpus]
    frequencies = Counter(gram for group in documents for gram in set().union(*group))
    scores = []
    for hypothesis, group in zip(map(grams, hypotheses), counts, strict=True):
        similarities = [similarity(hypothesis, reference, frequencies, len(documents)) for reference in group]
        scores.append(sum(similarities) / len(group))
    return np.array(scores)


@lru_cache(2**14)
def grams(text: str) -> Counter[Gram]:
    """How often each n-gram of length 1 to 4 occurs."""
    tokens = words(text)
    return Counter(tokens[i : i + n] for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


def similarity(
    hypothesis: Mapping[Gram, int], reference: Mapping[Gram, int], frequencies: Mapping[Gram, int], documents: int
) -> float:
    """CIDEr-D of one hypothesis and one reference. frequencies: the number of documents that have each n-gram."""

    def weights(counts: Mapping[Gram, int], n: int) -> dict[Gram, float]:
        idf = {gram: log(documents) - log(max(1, frequencies.get(gram, 0))) for gram in counts if len(gram) == n}
        return {gram: counts[gram] * weight for gram, weight in idf.items()}

    total = 0.0
    for n in range(1, LONGEST + 1):
        a, b = weights(hypothesis, n), weights(reference, n)
        norms = sqrt(sum(v * v for v in a.values())) * sqrt(sum(v * v for v in b.values()))
        if norms:
            total += sum(min(a[gram], b[gram]) * b[gram] for gram in sorted(a.keys() & b.keys())) / norms
    lengths = [sum(count for gram, count in counts.items() if len(gram) == 1) for counts in (hypothesis, reference)]
    return 10 * total / LONGEST * exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))
