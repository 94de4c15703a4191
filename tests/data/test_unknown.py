"""Texts that a tokenizer cannot read are counted, named and refused."""

from __future__ import annotations

import logging

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from storylib.data.encoders import EncoderError
from storylib.data.features import encode_texts
from storylib.data.unknown import report_unknown, unknown_share
from storylib.data.vocabulary import Vocabulary, load_tokenizer

AMHARIC = ["ትንሽ ጀልባ ወደ ደሴቱ", "ውሻ ዛሬ በፍጥነት ቤት"]


@pytest.fixture(scope="module")
def word_pieces():
    return load_tokenizer()


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The small boat sailed.", 0),
        ("L'été à l'île", 0),
        ("Маленькая лодка", 0),
        ("the fox ሮጠ home", 0.25),
        ("ትንሽ ጀልባ", 1),
        ("ទូកតូច", 1),
        ("เรือลำเล็ก", 1),
        ("🐶 🏠", 1),
        ("", 0),
    ],
)
def test_unknown_script_is_counted_in_pieces(word_pieces, text, share):
    assert unknown_share(word_pieces, [text]) == share


def test_the_share_is_of_all_pieces_of_all_texts(word_pieces):
    assert unknown_share(word_pieces, ["the fox runs", "ሮጠ"]) == 0.25
    assert unknown_share(word_pieces, []) == 0


def test_a_byte_level_tokenizer_knows_every_text():
    pieces = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert unknown_share(PreTrainedTokenizerFast(tokenizer_object=tokenizer), [*AMHARIC, "🐶"]) == 0


def test_what_is_unknown_is_logged_and_refused_if_it_is_much(word_pieces, caplog):
    caplog.set_level(logging.INFO)
    report_unknown(word_pieces, ["the fox runs"], "minilm", "another", strict=True)
    assert not caplog.records
    mostly_english = "the fox runs home " * 9 + "🐶"
    report_unknown(word_pieces, [mostly_english], "minilm", "another", strict=True)
    report_unknown(word_pieces, AMHARIC, "minilm", "another")
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    message = "minilm cannot read 100 % of the texts' word pieces; choose another."
    assert caplog.messages[1] == message
    with pytest.raises(EncoderError, match=message):
        report_unknown(word_pieces, AMHARIC, "minilm", "another", strict=True)


def test_the_vocabulary_of_the_text_decoder_names_unknown_script(word_pieces, caplog):
    vocabulary = Vocabulary.of(AMHARIC * 2, word_pieces)
    assert "text decoder" in caplog.text and "100 %" in caplog.text and "text_decoder='hf:" in caplog.text
    assert vocabulary.decode(vocabulary.encode(AMHARIC, 4)) == ["", ""]


def test_english_is_never_refused(cache, caplog):
    encode_texts(["The fox ran home.", "She slept."], strict=True)
    assert not caplog.text
