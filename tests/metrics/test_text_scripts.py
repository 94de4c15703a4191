"""Text metrics in every script: identical texts score full, different words differ, English keeps its numbers."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from storylib.metrics import text as text_metrics
from storylib.metrics.text import (
    bleu_counts,
    bleu_from_counts,
    chrf,
    cider_d,
    meteor,
    rouge_l,
    signatures,
    text_columns,
    tokenizer_of,
    words,
)
from storylib.sources import load_stories

# Texts, the tokenizer of sacrebleu, and the number of words of the first text.
SCRIPTS = {
    "english": (["The small boat sailed to the island.", "A dog ran home today."], "13a", 7),
    "french": (["L'été, la forêt était belle à l'île.", "Le garçon a mangé une pêche."], "13a", 7),
    "yoruba": (["Ọ̀rọ̀ àgbà ní ìlú náà.", "Ọ̀bọ̀ ń gùn ẹṣin lọ."], "intl", 5),
    "russian": (["Маленькая лодка плыла к острову.", "Собака быстро бежала домой."], "intl", 5),
    "arabic": (["أبحر القارب الصغير إلى الجزيرة", "ركض كلب إلى البيت بسرعة اليوم"], "intl", 5),
    "hebrew": (["הסירה הקטנה הפליגה אל האי", "הכלב רץ הביתה מהר"], "intl", 5),
    "amharic": (["ትንሽ ጀልባ ወደ ደሴቱ ሄደች", "ውሻ ዛሬ በፍጥነት ወደ ቤት ሮጠ"], "intl", 5),
    "amharic, old dividers": (["ትንሽ፡ጀልባ፡ወደ፡ደሴቱ፡ሄደች።", "ውሻ፡ዛሬ፡ወደ፡ቤት፡ሮጠ።"], "intl", 5),
    "hindi": (["छोटी नाव द्वीप की ओर चली", "एक कुत्ता आज घर की ओर दौड़ा"], "intl", 6),
    "tamil": (["சிறிய படகு தீவுக்கு இன்று சென்றது", "ஒரு நாய் வீட்டிற்கு ஓடியது"], "intl", 5),
    "korean": (["작은 배가 섬으로 천천히 갔다.", "개가 오늘 집으로 달렸다."], "intl", 5),
    "tibetan": (["གྲུ་ཆུང་གླིང་དུ་སོང་།", "ཁྱི་ཁང་པར་རྒྱུགས་སོ།"], "intl", 5),
    "chinese": (["小船慢慢地驶向海岛。", "一只狗今天很快跑回家。"], "zh", 9),
    "japanese": (["小さなふねが島へ向かいました。", "いぬが家にかえりました。"], "char", 14),
    "thai": (["เรือลำเล็กแล่นไปยังเกาะ", "สุนัขวิ่งกลับบ้าน"], "char", 18),
    "khmer": (["ទូកតូចបានទៅកោះ", "ឆ្កែរត់ទៅផ្ទះ"], "char", 8),
    "emoji": (["🐶🏠🌊❤️ 👍🏽🇫🇷", "🦊🎩 🦊🌙"], "char", 6),
}


@pytest.fixture(autouse=True)
def without_wordnet(monkeypatch):
    monkeypatch.setattr(text_metrics, "_wordnet", lambda: SimpleNamespace(synsets=lambda *_: []))


@pytest.mark.parametrize(("texts", "tokenizer", "count"), SCRIPTS.values(), ids=SCRIPTS)
def test_scores_of_other_scripts_are_full_for_identical_texts(texts, tokenizer, count):
    assert [tokenizer_of(text) for text in texts] == [tokenizer] * 2
    assert len(words(texts[0])) == count
    assert bleu_from_counts(bleu_counts(texts, texts).sum(0)) == pytest.approx(100)
    assert [*rouge_l(texts, texts), *chrf(texts, texts)] == pytest.approx([1, 1, 100, 100])
    assert cider_d(texts, texts) == pytest.approx([10, 10])
    assert meteor(texts, texts) == pytest.approx([1 - 0.5 / len(words(text)) ** 3 for text in texts])
    assert not any(
        np.isnan(column).any() for name, column in text_columns(texts, texts).items() if name != "generation"
    )
    assert f"tok:{tokenizer}|" in signatures(texts)["bleu"]


@pytest.mark.parametrize(("texts", "tokenizer", "count"), SCRIPTS.values(), ids=SCRIPTS)
def test_scores_of_other_scripts_fall_where_texts_differ(texts, tokenizer, count):
    for metric, most in ((rouge_l, 0.5), (meteor, 0.5), (chrf, 50), (cider_d, 5)):
        assert (metric(texts, texts[::-1]) < most).all()


def test_hindi_words_that_differ_in_their_vowel_signs_are_different():
    one, other = ["दिन दान की", "कल काल"], ["दीन दून को", "किल कोल"]
    assert words("दिन") != words("दीन") and words("ọ̀rọ") != words("ọrọ")
    assert [*meteor(one, other), *cider_d(one, other), *rouge_l(one, other)] == [0] * 6


def test_the_references_choose_the_tokenizers_and_the_signature_names_all():
    variants = signatures(["The fox ran home.", "小船驶向海岛。", "เรือลำเล็ก"])
    assert [f"tok:{name}|" in variants["bleu"] for name in ("13a", "zh", "char", "intl")] == [True] * 3 + [False]
    assert "stemmed F-measure; F-measure of Unicode words" in variants["rouge_l"]
    assert signatures(["The fox ran."]) == signatures()
    assert rouge_l(["ሄደች the fox"], ["the foxes"]) == [1]  # as in English, whatever was written


def test_english_keeps_the_numbers_of_the_libraries_own_tokenizers():
    texts = [frame.text for story in load_stories("storyworld", limit=4) for frame in story.frames]
    pairs = list(itertools.pairwise(texts))
    by_letters = [["".join(filter(str.isalnum, token)) for token in text.lower().split()] for text in texts]
    assert [list(words(text)) for text in texts] == by_letters
    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    assert rouge_l(*zip(*pairs, strict=True)).tolist() == [scorer.score(b, a)["rougeL"].fmeasure for a, b in pairs]
    scores = [BLEU(lowercase=True).corpus_score([a], [[b]]) for a, b in pairs]
    expected = [[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores]
    assert bleu_counts(*zip(*pairs, strict=True)).tolist() == expected


def test_one_emoji_leaves_an_english_text_english():
    assert tokenizer_of("The fox ran home 🏠.") == tokenizer_of("...") == tokenizer_of("") == "13a"
    assert words("“Hi” — she’s © 2020, ½ naïve co-op!") == ("hi", "shes", "2020", "½", "naïve", "coop")
