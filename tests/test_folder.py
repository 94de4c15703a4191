from __future__ import annotations

import csv
import json

import pytest
from conftest import noise

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
    assert [(f.page, f.text) for f in dog.frames] == [
        (1, "A dog wakes up."), (2, "The dog runs."), (4, "It sleeps, «très» well."),
    ]  # fmt: skip
    assert dog.frames[0].image == pictures / "a" / "1.png"
    assert len(load_stories("folder", limit=1, root=pictures)) == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize(("change", "message"), [
    ({"position": "one"}, "line 3: position must be a whole number, not 'one'"),
    ({"position": 2}, "line 3: story 'a' already has a page at position 2"),
    ({"file_name": "../../etc/passwd"}, "line 3: file_name '../../etc/passwd' must be a path inside"),
    ({"file_name": "/etc/passwd"}, "line 3: file_name '/etc/passwd' must be a path inside"),
    ({"file_name": ""}, "line 3: file_name '' must be"),
    ({"story_id": " "}, "line 3: story_id is empty"),
])  # fmt: skip
def test_errors_name_file_line_and_column(pictures, kind, change, message):
    rows = [dict(ROWS[0], text="One line."), ROWS[1] | change]
    write(pictures, rows, kind)
    if kind == "jsonl":
        message = message.replace("line 3", "line 2")
    with pytest.raises(SourceError) as caught:
        folder.load(root=pictures)
    assert message in str(caught.value) and f"metadata.{kind}" in str(caught.value)


def test_missing_columns_and_broken_lines(pictures):
    write(pictures, [{k: v for k, v in ROWS[0].items() if k != "text"}])
    with pytest.raises(SourceError, match=r"line 1: the column 'text' is missing\. Wanted: file_name, text"):
        folder.load(root=pictures)
    for line, message in (("{", "line 1 is not JSON"), ("[1]", "line 1 is not a JSON object")):
        (pictures / "metadata.jsonl").write_text(line)
        with pytest.raises(SourceError, match=message):
            folder.load(root=pictures)
    (pictures / "metadata.jsonl").write_bytes(b"\xff\xfe{")
    with pytest.raises(SourceError, match="not UTF-8"):
        folder.load(root=pictures)
    write(pictures, [ROWS[2]])
    with pytest.raises(SourceError, match="no page with a text"):
        folder.load(root=pictures)


def test_where_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("STORYLIB_FOLDER", raising=False)
    with pytest.raises(SourceError, match="STORYLIB_FOLDER"):
        load_stories("folder")
    monkeypatch.setenv("STORYLIB_FOLDER", str(tmp_path))
    with pytest.raises(SourceError, match=r"needs a metadata\.jsonl or metadata\.csv"):
        load_stories("folder")
    with pytest.raises(SourceError, match="does not exist"):
        load_stories(f"folder:{tmp_path / 'nowhere'}")
