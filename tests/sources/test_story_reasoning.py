from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storylib.data.splits import split_stories
from storylib.data.types import windows
from storylib.sources import load_stories
from storylib.sources.story_reasoning import parse_story
from tests.stand_in import plain_stories, write_shards

A, B, C = (f"<gdi image{n}> {word} </gdi> " for n, word in enumerate(("One.", "Two.", "Three."), 1))


def test_the_published_example():
    markup = (
        "<gdi image1> <gdo char1>Sarah</gdo> <gda char1>held</gda> <gdo obj3>the book</gdo> near\n"
        "<gdl bg1>the shoreline</gdl>. </gdi> <gdi image2> She <gda char1 char2>ran</gda>. </gdi>"
    )
    assert parse_story(markup, 2) == ["Sarah held the book near the shoreline.", "She ran."]


@pytest.mark.parametrize(("markup", "expected"), [
    (A + B + C, ["One.", "Two.", "Three."]),
    (C + A + B, ["One.", "Two.", "Three."]),
    (A + B + C + "<gdi image1> Again. </gdi>", ["One. Again.", "Two.", "Three."]),
    (A + B + C + A, ["One.", "Two.", "Three."]),
    (A + C, ["One.", "", "Three."]),
    (A + B, ["One.", "Two.", ""]),
    (A.replace("</gdi>", "") + B + C, ["One.", "Two.", "Three."]),
    (A + B + C.replace("</gdi>", ""), ["One.", "Two.", "Three."]),
    (A + "</gdi>" + B + C, ["One.", "Two.", "Three."]),
    (A + B + C + "<gdi image4> Four. </gdi>", ["One.", "Two.", "Three."]),
    (A + "Lost. " + B + C, ["One. Lost.", "Two.", "Three."]),
    ("Early. " + A + B + C, ["Early. One.", "Two.", "Three."]),
    ("No blocks at all.", ["", "", ""]),
    ("", ["", "", ""]),
    ("<GDI Image1>One.</GDI><gdi IMAGE_2>Two.</Gdi ><gdi id='image3'>Three.</gdi>", ["One.", "Two.", "Three."]),
    ("< gdi image 1 >One.< / gdi><gdi\nimage2>Two.</gdi><gdi3>Three.", ["One.", "Two.", "Three."]),
    ("<gdi>One.</gdi><gdi>Two.</gdi><gdi>Three.</gdi>", ["One.", "Two.", "Three."]),
    ("<gdi image1 One.</gdi><gdi image2>Two.</gdi", ["One.", "Two.", ""]),
    ("&lt;gdi image1&gt;Tom &amp; Jo &amp;lt;3 &quot;x&quot;&lt;/gdi&gt;", ['Tom & Jo <3 "x"', "", ""]),
    ("<gdi image1>a &#60;gdo char1&#62;b&#x3c;/gdo&gt; &#" + "9" * 5000 + ";</gdi>", ["a b \ufffd", "", ""]),
    ("<gdi image1>x <b>bold</b><br/> <!-- y --> 2 < 3 <3</gdi>", ["x bold 2 < 3 <3", "", ""]),
    ("<gdi image1><gd<gdo char1>i image2>a</gdo> <<gdo obj1>gdi image3>b</gdi>", ["gdi image2>a gdi image3>b", "", ""]),
    ("<gdi image1>a\x00b\ud800c\u2028d</gdi>", ["a b c d", "", ""]),
])  # fmt: skip
def test_damaged_blocks_are_read(markup, expected):
    assert parse_story(markup, 3) == expected


@pytest.mark.parametrize(("inside", "expected"), [
    ("<gdo char1>they <gda char1>ran</gdo> off</gda>", "they ran off"),
    ("<gdo char1 OBJ2, bg_3>the <gdo obj4>red</gdo> hat</gdo>", "the red hat"),
    ("<gdo char1>Ann <gda char1>ran</gda> far away.", "Ann ran far away."),
    ("x</gdl>", "x"), ("<gdo>x</gdo>", "x"),
])  # fmt: skip
def test_tags_inside_a_block_are_removed_whether_or_not_they_match(inside, expected):
    assert parse_story(f"<gdi image1>{inside}</gdi>", 1) == [expected]


TAG_LEFT = re.compile(r"<[\s/!?]*[a-z]", re.I)
SOUP = st.lists(st.sampled_from([
    "<", ">", "/", "<gdi image1>", "</gdi>", "<gdi image2>", "<GDI Image 3>", "<gdi", "gdi image1>", "<gdo char1>",
    "</gdo>", "<gda char1 char2>", "</gda>", "<gdl bg1>", "</gdl>", "&lt;", "&amp;", "&amp;lt;", "&#60;", "&#x3c;",
    "gd", "i", "o", " ", "\n", "\x00", "\u200b", "<3", "1",
    "Ann", "<b>", "<!--", "ı", "\ud800", "&#99999999999;", '"',
]), max_size=60).map("".join)  # fmt: skip


@settings(max_examples=200)
@given(st.one_of(SOUP, st.text(max_size=200)), st.integers(0, 4))
@example("<gd<gdo x>i image1>", 2)
@example("&l<gdo x>t;gdi image1>", 2)
def test_no_text_raises_or_leaves_a_tag(markup, images):
    texts = parse_story(markup, images)
    assert len(texts) == images
    for text in texts:
        assert not TAG_LEFT.search(text) and text == " ".join(text.split())
        text.encode()


@settings(max_examples=100)
@given(st.lists(st.text("abc ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=6), st.randoms())
def test_whole_blocks_in_any_order_are_read_exactly(words, random):
    blocks = [f"<gdi image{n}>{text}</gdi>" for n, text in enumerate(words, 1)]
    random.shuffle(blocks)
    assert parse_story("\n".join(blocks), len(words)) == [" ".join(w.split()) for w in words]


@pytest.mark.parametrize("unit", [
    "<", "< ", "< /", "<gdo char1>", "<gdo char1>x</gdo>", "<gdi image1>", "<gdi ", "<gdo char ", "&", "&amp;", "&#0",
    "<gdo char1><gda char1><gdl bg1>x", "</gdo>", "<a ", "&#38;",
])  # fmt: skip
def test_hostile_texts_take_linear_time(unit):
    def seconds(size: int) -> float:
        markup = "<gdi image1>" + unit * (size // len(unit))
        start = time.process_time()
        parse_story(markup, 3)
        return time.process_time() - start

    assert seconds(100_000) < 2  # quadratic time would be minutes


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    counts = write_shards(folder, plain_stories(60, frames=6, size=24), faults=0.5, shard=20)
    return folder, counts


def test_the_official_test_split_is_kept(shards):
    folder, counts = shards
    assert [p.name for p in sorted(folder.iterdir())] == [
        "test-00000.parquet", *(f"train-0000{i}.parquet" for i in range(3)),
    ]  # fmt: skip
    stories = load_stories(f"story_reasoning:{folder}")
    assert {s.licence for s in stories} == {"CC-BY-ND-4.0"} and len(stories) == 60
    official = {s.id for s in stories if s.split == "test"}
    for by in ("group", "story"):
        splits = split_stories(stories, by=by)
        assert {s.id for s in splits.test} == official and len(official) == counts["test"] > 0
        assert splits.validation and not splits.left_out
    assert len(list(windows(stories))) > 80  # those with faults lose some of their two
    assert not any(TAG_LEFT.search(f.text) for s in stories for f in s.frames)


def test_limit_takes_from_both_splits(shards):
    few = load_stories("story_reasoning", root=shards[0], limit=20)
    assert [s.split for s in few] == ["train"] * 17 + ["test"] * 3
