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


def texts(markup: str, images: int = 3) -> list[str]:
    return [frame.text for frame in parse_story(markup, images)]


def repairs(markup: str, images: int = 3) -> str:
    return "; ".join(r for frame in parse_story(markup, images) for r in frame.repairs)


A, B, C = (f"<gdi image{n}> {word} </gdi> " for n, word in enumerate(("One.", "Two.", "Three."), 1))


def test_the_published_example():
    first, second = parse_story(
        "<gdi image1> <gdo char1>Sarah</gdo> <gda char1>held</gda> <gdo obj3>the book</gdo> near\n"
        "<gdl bg1>the shoreline</gdl>. </gdi> <gdi image2> She <gda char1 char2>ran</gda>. </gdi>",
        2,
    )
    assert first.text == "Sarah held the book near the shoreline." and not first.repairs
    assert second.text == "She ran." and not second.repairs


@pytest.mark.parametrize(("markup", "expected", "repair"), [
    (A + B + C, ["One.", "Two.", "Three."], ""),
    (C + A + B, ["One.", "Two.", "Three."], "out of order"),
    (A + B + C + "<gdi image1> Again. </gdi>", ["One. Again.", "Two.", "Three."], "repeated block was joined"),
    (A + B + C + A, ["One.", "Two.", "Three."], "repeated block was joined"),
    (A + C, ["One.", "", "Three."], "says nothing about this picture"),
    (A + B, ["One.", "Two.", ""], "says nothing about this picture"),
    (A.replace("</gdi>", "") + B + C, ["One.", "Two.", "Three."], "the block was not closed"),
    (A + B + C.replace("</gdi>", ""), ["One.", "Two.", "Three."], "the block was not closed"),
    (A + "</gdi>" + B + C, ["One.", "Two.", "Three."], "an end without a block"),
    (A + B + C + "<gdi image4> Four. </gdi>", ["One.", "Two.", "Three."], "1 blocks without a picture"),
    (A + "Lost. " + B + C, ["One. Lost.", "Two.", "Three."], "text after the end of the block"),
    ("Early. " + A + B + C, ["Early. One.", "Two.", "Three."], "text before the first block"),
    ("No blocks at all.", ["", "", ""], "the story has no blocks"),
    ("", ["", "", ""], "the story has no blocks"),
    ("<GDI Image1>One.</GDI><gdi IMAGE_2>Two.</Gdi ><gdi id='image3'>Three.</gdi>", ["One.", "Two.", "Three."], ""),
    ("< gdi image 1 >One.< / gdi><gdi\nimage2>Two.</gdi><gdi3>Three.", ["One.", "Two.", "Three."], "not closed"),
    ("<gdi>One.</gdi><gdi>Two.</gdi><gdi>Three.</gdi>", ["One.", "Two.", "Three."], "without a number"),
    ("<gdi image1 One.</gdi><gdi image2>Two.</gdi", ["One.", "Two.", ""], "without its >"),
    ("&lt;gdi image1&gt;Tom &amp; Jo &amp;lt;3 &quot;x&quot;&lt;/gdi&gt;", ['Tom & Jo <3 "x"', "", ""], ""),
    ("<gdi image1>a &#60;gdo char1&#62;b&#x3c;/gdo&gt; &#" + "9" * 5000 + ";</gdi>", ["a b \ufffd", "", ""], ""),
    ("<gdi image1>x <b>bold</b><br/> <!-- y --> 2 < 3 <3</gdi>", ["x bold 2 < 3 <3", "", ""], "another kind"),
    ("<gdi image1><gd<gdo char1>i image2>a</gdo> <<gdo obj1>gdi image3>b</gdi>", None, "stray <"),
    ("<gdi image1>a\x00b\ud800c\u2028d</gdi>", ["a b c d", "", ""], ""),
])  # fmt: skip
def test_damaged_blocks_are_repaired_and_reported(markup, expected, repair):
    parsed = texts(markup)
    if expected is not None:
        assert parsed == expected
    assert (repair in repairs(markup)) if repair else not re.search("block|tag|<", repairs(markup))
    assert not TAG_LEFT.search("".join(parsed))


@pytest.mark.parametrize(("inside", "expected"), [
    ("<gdo char1>they <gda char1>ran</gdo> off</gda>", "they ran off"),
    ("<gdo char1 OBJ2, bg_3>the <gdo obj4>red</gdo> hat</gdo>", "the red hat"),
    ("<gdo char1>Ann <gda char1>ran</gda> far away.", "Ann ran far away."),
    ("x</gdl>", "x"), ("<gdo>x</gdo>", "x"),
])  # fmt: skip
def test_tags_inside_a_block_are_removed_whether_or_not_they_match(inside, expected):
    (frame,) = parse_story(f"<gdi image1>{inside}</gdi>", 1)
    assert frame == (expected, [])


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
    frames = parse_story(markup, images)
    assert len(frames) == images
    for frame in frames:
        assert not TAG_LEFT.search(frame.text) and frame.text == " ".join(frame.text.split())
        frame.text.encode()


@settings(max_examples=100)
@given(st.lists(st.text("abc ", min_size=1, max_size=9).filter(str.strip), min_size=1, max_size=6), st.randoms())
def test_whole_blocks_in_any_order_are_read_exactly(words, random):
    blocks = [f"<gdi image{n}>{text}</gdi>" for n, text in enumerate(words, 1)]
    random.shuffle(blocks)
    assert texts("\n".join(blocks), len(words)) == [" ".join(w.split()) for w in words]


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
    frame = stories[0].frames[0]
    assert set(frame.attributes) == {"repairs"}
    assert any("out of order" in r for s in stories for f in s.frames for r in f.attributes["repairs"])
    assert not any(TAG_LEFT.search(f.text) for s in stories for f in s.frames)


def test_limit_takes_from_both_splits(shards):
    few = load_stories("story_reasoning", root=shards[0], limit=20)
    assert [s.split for s in few] == ["train"] * 17 + ["test"] * 3
