"""The vocabulary: word pieces that recur in the training texts."""

from __future__ import annotations

import pytest
import torch

from storylib.data.vocabulary import Vocabulary, load_tokenizer

PAD, END, UNKNOWN = Vocabulary.PAD, Vocabulary.END, Vocabulary.UNKNOWN


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary.of(["the fox runs home.", "The FOX sleeps", "a fox runs"], tokenizer)


def test_only_pieces_that_recur_are_words(vocabulary, tokenizer):
    assert tokenizer.convert_ids_to_tokens(sorted(vocabulary.pieces)) == sorted(
        ["the", "fox", "runs"], key=tokenizer.convert_tokens_to_ids
    )
    assert len(vocabulary) == 6


def test_encode_by_hand(vocabulary):
    the, fox, runs = (vocabulary.encode([w], 1)[0, 0].item() for w in ("the", "fox", "runs"))
    assert len({the, fox, runs}) == 3 and min(the, fox, runs) > UNKNOWN
    rows = vocabulary.encode(["The fox runs", "the owl runs fox the", ""], 5)
    assert rows.tolist() == [[the, fox, runs, END, PAD], [the, UNKNOWN, runs, fox, the], [END, PAD, PAD, PAD, PAD]]
    assert vocabulary.encode([], 5).shape == (0, 5)


def test_decode_reverses_encode_and_stops_at_the_end(vocabulary):
    assert vocabulary.decode(vocabulary.encode(["The fox runs", "fox the"], 6)) == ["the fox runs", "fox the"]
    fox = vocabulary.encode(["fox"], 1)[0, 0].item()
    rows = torch.tensor([[fox, PAD, UNKNOWN, fox], [fox, END, fox, fox], [END, fox, PAD, PAD]])
    assert vocabulary.decode(rows) == ["fox fox", "fox", ""]


def test_special_tokens_are_no_words(tokenizer):
    found = Vocabulary.of(["[SEP] fox [CLS] [PAD] [UNK] [MASK]"] * 3, tokenizer)
    assert not set(found.pieces) & set(tokenizer.all_special_ids)
    assert tokenizer.convert_tokens_to_ids("fox") in found.pieces
    assert found.encode(["[SEP] fox"], 3)[0].tolist()[0] == UNKNOWN


def test_a_vocabulary_is_rebuilt_from_its_pieces(vocabulary, tokenizer):
    again = Vocabulary(tokenizer, vocabulary.pieces)
    texts = ["the fox sleeps", "runs"]
    assert torch.equal(again.encode(texts, 4), vocabulary.encode(texts, 4))
    assert len(again) == len(vocabulary)
