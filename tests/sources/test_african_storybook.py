from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from storylib.data.types import Story, windows
from storylib.sources import SourceError, african_storybook, load_stories
from storylib.sources.african_storybook import plain, read_story
from tests.stand_in import write_story


@pytest.fixture
def bank(tmp_path) -> Path:
    root = tmp_path / "bank"
    for number in ("0001", "0002"):
        write_story(root, number, [f"Page {i}\nof {number}." for i in range(1, 7)], 8)
    write_story(root, "0003", ["One.", "", "Three."], 4, "CC BY-NC-SA")
    write_story(root, "0004", ["Only.", "Two."], 6, "[CC-BY-NC]")  # too many pictures
    write_story(root, "0001", ["Moja.", "Mbili.", "Tatu.", "Nne.", "Tano.", "Sita."], 8, language="sw")
    (root / "asp-source" / "en" / "README.md").write_text("not a story")
    return root


def test_pages_are_aligned_and_credits_kept(cache, bank):
    stories = load_stories("african_storybook", root=bank)
    assert [s.id for s in stories] == ["0001_a-tale", "0002_a-tale", "0003_a-tale"]
    first, _, third = stories
    assert first.title == "A tale" and first.licence == "CC-BY" and third.licence == "CC-BY-NC-SA"
    assert first.credit == (
        "Text: A. Writer; Illustration: B. Painter, C. Painter; Language: en; African Storybook Project"
    )
    assert [f.text for f in first.frames] == [f"Page {i} of 0001." for i in range(1, 7)]
    assert [f.image.name for f in first.frames] == [f"{i:02d}.jpg" for i in range(2, 8)]  # no cover, no back page
    assert [(f.number, f.image.name) for f in third.frames] == [(1, "02.jpg"), (3, "04.jpg")]
    assert list(windows([third], context=1)) == []


def test_pages_without_a_text_are_counted_or_an_error(bank, caplog):
    african_storybook.load(root=bank)
    message = "frames without a text: 1, the first is .*0003_a-tale.md, frame 2"
    assert re.search(f"left out: {message}", caplog.text)
    with pytest.raises(SourceError, match=message):
        african_storybook.load(root=bank, strict=True)


def test_hidden_files_of_a_mac_are_no_pictures(bank, caplog):
    for path in (bank / "asp-imagebank").rglob("*.jpg"):
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    assert [story.id[:4] for story in african_storybook.load(root=bank)] == ["0001", "0002", "0003"]


def test_options(cache, bank, monkeypatch):
    assert [s.id for s in african_storybook.load(root=bank, limit=1)] == ["0001_a-tale"]
    swahili = load_stories(f"african_storybook:{bank}", language="sw")
    assert [f.text for f in swahili[0].frames][:2] == ["Moja.", "Mbili."] and "Language: sw" in swahili[0].credit
    monkeypatch.setenv("STORYLIB_AFRICAN_STORYBOOK", str(bank))
    assert len(african_storybook.load()) == 3


def test_every_language_by_its_code(cache, bank):
    texts = {"am": "አንድ ቀን", "ar": "في يوم", "tw-akua": "Da bi ɛ", "zne": "Ü kpi"}
    for language, text in texts.items():
        write_story(bank, "0002", [f"{text} {i}." for i in range(1, 7)], 8, language=language)
        (story,) = load_stories("african_storybook", root=bank, language=language)
        assert story.frames[2].text == f"{text} 3." and story.frames[2].image.name == "04.jpg"
        assert load_stories(f"african_storybook:{bank}?language={language}") == [story]


def test_a_text_that_cannot_be_read_stays_out_or_stops(bank, caplog):
    path = bank / "asp-source" / "en" / "0002_a-tale.md"
    path.write_bytes(b"# T\n##\n\xff\n##\n* License: [CC-BY]\n")
    assert [s.id[:4] for s in african_storybook.load(root=bank)] == ["0001", "0003"]
    assert f"left out: {path} is not UTF-8" in caplog.text
    with pytest.raises(SourceError, match="is not UTF-8"):
        african_storybook.load(root=bank, strict=True)


def test_a_text_without_permission_stays_out_or_stops(bank, monkeypatch, caplog):
    path, real = bank / "asp-source" / "en" / "0002_a-tale.md", Path.open

    def denied(self, *args, **options):
        if self == path:  # chmod would not stop a superuser
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    assert [s.id[:4] for s in african_storybook.load(root=bank)] == ["0001", "0003"]
    problem = f"{path} may not be read: give yourself permission (chmod u+r)"
    assert problem in caplog.text
    with pytest.raises(SourceError, match=re.escape(problem)):
        african_storybook.load(root=bank, strict=True)


def test_dropped_stories_are_logged_and_counted(bank, caplog):
    with caplog.at_level(logging.INFO):
        african_storybook.load(root=bank)
    assert "dropped 0004_a-tale: 6 pictures do not match 2 pages and a cover" in caplog.text
    assert "1 of 4 stories were dropped" in caplog.text
    write_story(bank, "0005", ["", "  "], 3)
    with caplog.at_level(logging.INFO):
        african_storybook.load(root=bank)
    assert "dropped 0005_a-tale: no page has a text" in caplog.text


def test_reasons(tmp_path):
    def reason(number: str, pages: list[str], pictures: int) -> Story | str:
        text = write_story(tmp_path, number, pages, pictures)
        return read_story(text, tmp_path / "asp-imagebank" / "medium" / number)

    assert isinstance(reason("0101", ["One."], 2), Story)
    assert isinstance(reason("0102", ["One."], 3), Story)
    assert reason("0103", ["One."], 1) == "1 pictures do not match 1 pages and a cover"
    assert reason("0105", ["One."], 0) == "0 pictures do not match 1 pages and a cover"
    assert reason("0024", ["One."], 2) == "pictures and texts disagree from about page 8"
    text = write_story(tmp_path, "0106", ["One.", "Two."], 4)
    folder = tmp_path / "asp-imagebank" / "medium" / "0106"
    (folder / "02.jpg").unlink()
    assert read_story(text, folder) == "a picture number is missing"
    assert read_story(text, tmp_path / "nowhere") == "0 pictures do not match 2 pages and a cover"
    text.write_text("# Only a title")
    assert read_story(text, folder) == "the text has no pages"
    text.write_bytes(b"# T\n##\n\xff\n##\n* License: [CC-BY]\n")
    with pytest.raises(SourceError, match=r"0106_a-tale\.md is not UTF-8 text: save it as UTF-8"):
        read_story(text, folder)
    text.write_text("# T\n##\nOne.\n##\nTwo.\n")
    assert read_story(text, folder) == "the last block names no licence"


@pytest.mark.parametrize(("markdown", "expected"), [
    ("one\ntwo  \n\n three\t\u00a0four", "one two three four"),
    ("_All of it._", "All of it."),
    ("He said *no* and **never** and ***no***!", "He said no and never and no!"),
    (r"five \* six \_ seven", "five * six _ seven"),
    ("2 * 3 * 4 and snake_case_name", "2 * 3 * 4 and snake_case_name"),
    ("## Chapter\ntext # sign", "Chapter text # sign"),
    ("ŋaa, Graça – “quotes” ×4 ቃል", "ŋaa, Graça – “quotes” ×4 ቃል"),
])  # fmt: skip
def test_plain_text(markdown, expected):
    assert plain(markdown) == expected


def test_errors_name_the_folder_and_the_way_out(bank, tmp_path, monkeypatch):
    def message(**options) -> str:
        with pytest.raises(SourceError) as caught:
            african_storybook.load(**options)
        return str(caught.value)

    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"The folder {empty / 'asp-source'} does not exist. Expected asp-source/<language>/" in message(root=empty)
    assert "STORYLIB_AFRICAN_STORYBOOK" in message(root=empty)
    (empty / "asp-source").mkdir()
    (empty / "asp-imagebank" / "medium").mkdir(parents=True)
    assert "holds no story text" in message(root=empty)
    monkeypatch.setenv("STORYLIB_AFRICAN_STORYBOOK", str(tmp_path / "nowhere"))
    assert "nowhere does not exist" in message()
    assert "Unknown language 'swa'. Did you mean 'sw'? Known: en, sw." in message(root=bank, language="swa")
    for picture in (bank / "asp-imagebank" / "medium" / "0001").iterdir():
        picture.unlink()
    assert "The first was dropped: 0001_a-tale: 0 pictures" in message(root=bank, language="sw")


def test_the_real_stories(real_stories_folder, caplog):
    with caplog.at_level(logging.INFO):
        stories = african_storybook.load(root=real_stories_folder)
    assert "23 of 331 stories were dropped" in caplog.text
    assert len(stories) == 308 and sum(len(s.frames) for s in stories) == 3189
    assert len(list(windows(stories))) == 1948
    assert {s.licence for s in stories} == {"CC-BY", "CC-BY-NC"}  # those under CC-BY-NC-SA have no pictures
    assert all("Text: " in s.credit and "Illustration: " in s.credit for s in stories)
    texts = [f.text for s in stories for f in s.frames]
    assert not any("\n" in text or "##" in text or "License" in text for text in texts)
    assert (
        sum(len(f.image.name) == 6 and f.image.stem == f"{f.number + 1:02d}" for s in stories for f in s.frames) == 3189
    )


def test_the_pinned_digests_are_those_of_the_real_texts(real_stories_folder):
    african_storybook.TEXTS.check(real_stories_folder / "asp-source")
