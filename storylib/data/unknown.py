"""Texts that a tokenizer cannot read: whole words of them become one and the same piece, the unknown one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from storylib.data.encoders import EncoderError

log = logging.getLogger(__name__)

# The largest share of unknown pieces in texts that count as readable. In BERT's word pieces English has none, Hindi
# 0.1, Chinese 0.6; Amharic, Khmer, Thai and emoji have nothing else, so that all texts of as many words look the same.
MOST_UNKNOWN = 0.05
MULTILINGUAL = "text_encoder='hf:sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2'"


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
    """Ids of each text, some texts at a time: all at once, 36,000 texts fill half a gigabyte."""
    for start in range(0, len(texts), 1024):
        yield from tokenizer(list(texts[start : start + 1024]), add_special_tokens=False)["input_ids"]


def unknown_share(tokenizer: Any, texts: Sequence[str]) -> float:
    """The share of unknown pieces in some texts, 0 to 1. To a byte-level tokenizer nothing is unknown."""
    pieces = [piece for ids in tokenize(tokenizer, texts) for piece in ids]
    return pieces.count(tokenizer.unk_token_id) / max(1, len(pieces))


def report_unknown(tokenizer: Any, texts: Sequence[str], reader: str, way_out: str, strict: bool = False) -> None:
    """Log that there are unknown pieces, with the way out; raise EncoderError if they are many and ``strict``."""
    share = unknown_share(tokenizer, texts)
    message = f"{reader} cannot read {100 * share:.3g} % of the texts' word pieces; choose {way_out}."
    if share > MOST_UNKNOWN and strict:
        raise EncoderError(message)
    if share:
        log.log(logging.WARNING if share > MOST_UNKNOWN else logging.INFO, "%s", message)
