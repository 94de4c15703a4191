from __future__ import annotations

import csv
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import noise
from PIL import Image

from storylib.data.pictures import open_picture
from storylib.sources import SourceError, folder, load_stories

ROWS = [
    {"file_name": "a/2.png", "text": " The dog\n runs. ", "story_id": "a", "position": 2},
    {
        "file_name": "a/1.png",
        "text": "A dog wakes up.",
        "story_id": "a",
        "position": 1,
        "title": "The dog",
        "licence": "CC0",
    },
    {"file_name": "a/3.png", "text": "", "story_id": "a", "position": 3},
    {"file_name": "a/4.png", "text": "It sleeps, «très» well.", "story_id": "a", "position": 4},
    {"file_name": "b.png", "text": "A cat.", "story_id": 7, "position": 1},
]


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "a").mkdir()
    for n, row in enumerate(ROWS):
        noise(n).save(tmp_path / row["file_name"])
    return tmp_path


def write(root, rows, kind="jsonl"):
    path = root / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["file_name", "text", "story_id", "position", "title", "licence"])
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_both_forms_give_the_same_stories(cache, pictures, kind):
    write(pictures, ROWS, kind)
    dog, cat = load_stories(f"folder:{pictures}")
    assert (dog.id, dog.title, dog.licence, cat.id, cat.title) == ("a", "The dog", "CC0", "7", "7")
    assert [(f.number, f.text) for f in dog.frames] == [
        (1, "A dog wakes up."), (2, "The dog runs."), (4, "It sleeps, «très» well."),
    ]  # fmt: skip
    assert dog.frames[0].image == pictures / "a" / "1.png"
    assert len(load_stories("folder", limit=1, root=pictures)) == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(("change", "message"), [
    ({"position": "one"}, "line 3: position must be a whole number, not 'one'"),
    ({"position": "1,000"}, "line 3: position must be a whole number, not '1,000'"),
    ({"position": 2}, "line 3: story 'a' already has a frame at position 2"),
    ({"file_name": "../../etc/passwd"}, "line 3: file_name '../../etc/passwd' must be a path inside"),
    ({"file_name": "/etc/passwd"}, "line 3: file_name '/etc/passwd' must be a path inside"),
    ({"file_name": ""}, "line 3: file_name '' must be"),
    ({"story_id": " "}, "line 3: story_id is empty"),
])  # fmt: skip
def test_errors_name_file_line_and_column(pictures, kind, change, message, caplog):
    rows = [dict(ROWS[0], text="One line."), ROWS[1] | change]
    write(pictures, rows, kind)
    if kind == "jsonl":
        message = message.replace("line 3", "line 2")
    with pytest.raises(SourceError) as caught:
        folder.load(root=pictures, strict=True)
    assert message in str(caught.value) and f"metadata.{kind}" in str(caught.value)
    (story,) = folder.load(root=pictures)  # without strict the row is left out and named
    assert [f.number for f in story.frames] == [2]
    assert message in caplog.text


def test_missing_columns_and_broken_lines(pictures):
    write(pictures, [{k: v for k, v in ROWS[0].items() if k != "text"}])
    with pytest.raises(SourceError, match=r"line 1: the column 'text' is missing\. Expected: file_name, text"):
        folder.load(root=pictures, strict=True)
    with pytest.raises(SourceError, match="has no frame with a text and a picture"):
        load_stories(f"folder:{pictures}")
    deep = "[" * 100_000
    for line, message in (("{", "line 1 is not JSON"), ("[1]", "line 1 is not a JSON object"), (deep, "is not JSON")):
        (pictures / "metadata.jsonl").write_text(line)
        with pytest.raises(SourceError, match=message):
            folder.load(root=pictures, strict=True)
    write(pictures, [ROWS[2]])
    assert folder.load(root=pictures) == []


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_line_that_is_not_utf8_stays_out_or_stops(pictures, kind, caplog):
    write(pictures, ROWS[:2], kind)
    path = pictures / f"metadata.{kind}"
    path.write_bytes(path.read_bytes().replace(b"The dog\\n runs", b"caf\xe9").replace(b"The dog\n runs", b"caf\xe9"))
    assert b"\xe9" in path.read_bytes()
    line = 1 if kind == "jsonl" else 2
    with pytest.raises(SourceError, match=rf"metadata\.{kind}, line {line} is not UTF-8 text: save the file as UTF-8"):
        folder.load(root=pictures, strict=True)
    (story,) = folder.load(root=pictures)
    assert [f.text for f in story.frames] == ["A dog wakes up."] and f"line {line} is not UTF-8" in caplog.text


def bomb() -> bytes:
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def denied(path, real_open):
    """A function that opens any file but this one."""

    def open_or_raise(file, *args, **options):
        if file == path:
            raise PermissionError(13, "Permission denied")
        return real_open(file, *args, **options)

    return open_or_raise


@pytest.mark.parametrize(("spoil", "problem", "remedy"), [
    (lambda path: path.write_bytes(path.read_bytes()[:300]), "cannot be read as a picture", "an intact copy"),
    (lambda path: path.write_bytes(b""), "cannot identify", "replace it by an intact copy"),
    (lambda path: path.write_bytes(b"<html>"), "is a web page", "download the file itself"),
    (lambda path: path.write_bytes(bomb()), "is too large", "scale it to less than 89,478,485 pixels"),
    (lambda path: path.unlink(), "does not exist", "correct the name, capitals included, or add the file"),
    (lambda path: path.unlink() or path.mkdir(), "Is a directory", "replace it by an intact copy"),
    ("denied", "may not be read", "give yourself permission (chmod u+r)"),
])  # fmt: skip
def test_a_bad_picture_stays_out_or_stops_and_the_message_says_what_to_do(
    cache, pictures, monkeypatch, caplog, spoil, problem, remedy
):
    write(pictures, ROWS[:2])
    path = pictures / "a" / "2.png"
    if spoil == "denied":  # chmod would not stop a superuser
        for owner in (Path, Image):
            monkeypatch.setattr(owner, "open", denied(path, owner.open))
    else:
        spoil(path)
    (story,) = load_stories(f"folder:{pictures}")
    assert [f.number for f in story.frames] == [1]
    with pytest.raises(SourceError) as caught:
        load_stories(f"folder:{pictures}", strict=True)
    for message in (caplog.text, str(caught.value)):
        assert all(part in message for part in (str(path), problem, remedy))


def test_where_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("STORYLIB_FOLDER", raising=False)
    with pytest.raises(SourceError, match="STORYLIB_FOLDER"):
        load_stories("folder")
    monkeypatch.setenv("STORYLIB_FOLDER", str(tmp_path))
    with pytest.raises(SourceError, match=r"needs a metadata\.jsonl or metadata\.csv.*such as .*position"):
        load_stories("folder")
    with pytest.raises(SourceError, match="does not exist"):
        load_stories(f"folder:{tmp_path / 'nowhere'}")


def test_a_file_without_permission_says_so(pictures, monkeypatch):
    write(pictures, ROWS)
    monkeypatch.setattr(Path, "open", denied(pictures / "metadata.jsonl", Path.open))
    with pytest.raises(SourceError, match=r"metadata\.jsonl may not be read: .*chmod u\+r"):
        folder.load(root=pictures)


def test_every_kind_of_picture_becomes_upright_rgb(cache, tmp_path):
    red = Image.new("RGB", (20, 10), (200, 30, 30))
    exif = red.getexif()
    exif[0x0112] = 6
    red.save(tmp_path / "turned.jpg", exif=exif)
    red.convert("RGBA").save(tmp_path / "rgba.png")
    red.convert("L").save(tmp_path / "grey.png")
    red.convert("1").save(tmp_path / "bits.tiff")
    red.convert("CMYK").save(tmp_path / "cmyk.jpg")
    red.convert("P").save(tmp_path / "palette.gif")
    red.save(tmp_path / "moving.webp", save_all=True, append_images=[red.rotate(180)], lossless=True)
    Image.fromarray(np.full((10, 20), 40_000, np.uint16)).save(tmp_path / "deep.png")
    names = sorted(p.name for p in tmp_path.iterdir() if p.is_file())
    write(tmp_path, [{"file_name": n, "text": n, "story_id": "s", "position": i} for i, n in enumerate(names)])
    (story,) = load_stories(f"folder:{tmp_path}", strict=True)
    opened = {f.text: open_picture(f.image) for f in story.frames}
    assert {p.mode for p in opened.values()} == {"RGB"} and len(opened) == 8
    assert {n for n, p in opened.items() if p.size == (10, 20)} == {"turned.jpg"}


HEAD = "file_name,text,story_id,position\n"
LINES = [f"p/{number}.png,Text {number},mira,{number}" for number in range(1, 5)]


@pytest.fixture
def loaded(cache, tmp_path):
    """A function that writes a table beside four pictures, and loads the texts of its only story by position."""
    (tmp_path / "p").mkdir()
    for number in range(1, 5):
        noise(number).save(tmp_path / f"p/{number}.png")

    def load(content, name="metadata.csv", strict=True, encoding="utf-8"):
        (tmp_path / name).write_bytes(content.encode(encoding))
        stories = load_stories(f"folder:{tmp_path}", strict=strict)
        assert [story.id for story in stories] == ["mira"]
        return {frame.number: frame.text for frame in stories[0].frames}

    load.folder = tmp_path
    return load


TEXTS = {number: f"Text {number}" for number in range(1, 5)}
PLAIN = HEAD + "\n".join(LINES)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c"])
def test_a_cell_keeps_what_other_programs_take_for_the_end_of_a_line(loaded, separator):
    assert loaded(PLAIN.replace("Text 1", f"Text{separator}1")) == TEXTS


@pytest.mark.parametrize(("content", "message"), [
    ("", "is empty: write the columns"),
    ("\n\n", "is empty: write the columns"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:12\n", "is a Git LFS pointer.*git lfs pull"),
    ("<!DOCTYPE html><html>", "is a web page"),
])  # fmt: skip
def test_a_file_that_is_no_table_says_so(loaded, content, message):
    with pytest.raises(SourceError, match=message):
        loaded(content)


def test_names_of_pictures_are_kept(cache, tmp_path):
    names = [
        "two  spaces, a comma.png",
        " leading.png",
        "\u00a0\u3000.png",
        "a\\b.png",
        "{x} [1] #?&$%41.png",
        "-'\"~.png",
    ]
    for number, name in enumerate(names):
        noise(number).save(tmp_path / name, "PNG")
    with (tmp_path / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        rows = [[name, "A text.", "s", number] for number, name in enumerate(names)]
        csv.writer(file).writerows([list(folder.COLUMNS), *rows])
    (story,) = load_stories(f"folder:{tmp_path}", strict=True)
    assert [frame.image.name for frame in story.frames] == names
    for name in ("\0../a.png", "..\\a.png", "\ud800/../../a.png"):
        (tmp_path / "metadata.jsonl").write_text(json.dumps(ROWS[0] | {"file_name": name}))
        with pytest.raises(SourceError, match="must be a path inside"):
            folder.load(root=tmp_path, strict=True)
