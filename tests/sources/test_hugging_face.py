from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import flip, noise

from storylib.data import store
from storylib.data.splits import split_stories
from storylib.data.store import StoreError
from storylib.sources import SourceError, _dataset_rows, load_stories
from storylib.sources._dataset_rows import parquet_files, rows
from tests.stand_in import plain_stories, write_shards


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    noise(seed, (24, 16)).save(file, "JPEG")
    return file.getvalue()


def write(folder, name, stories, texts="captions"):
    """stories: id -> (number of pictures, captions); the plain schema that pandas or polars would write."""
    folder.mkdir(exist_ok=True)
    table = []
    for key, (count, captions) in stories.items():
        pictures = [{"bytes": jpeg(100 * ord(key[0]) + i), "path": None} for i in range(count)]
        table.append({"pictures": pictures, texts: captions, "key": key})
    pq.write_table(pa.Table.from_pylist(table), folder / name)


def captions(key: str, count: int) -> list[str]:
    return [f"Page {i} of {key}." for i in range(1, count + 1)]


@pytest.fixture
def folder(cache, tmp_path):
    root = tmp_path / "albums"
    write(
        root, "train-0.parquet", {k: (5, captions(k, 5)) for k in "abcdefg"} | {"odd": (3, ["One.", "", "Three.", "?"])}
    )
    write(root, "test-0.parquet", {k: (5, captions(k, 5)) for k in "xy"})
    return root


def test_any_columns_by_name(folder):
    stories = load_stories(f"hugging_face:{folder}?images=pictures&texts=captions&id=key&licence=CC0")
    assert [s.id for s in stories] == [*"abcdefg", "odd", "x", "y"] and {s.licence for s in stories} == {"CC0"}
    assert [(f.number, f.text) for f in stories[7].frames] == [(1, "One."), (3, "Three.")]
    assert stories[0].frames[0].image.read_bytes() == jpeg(9700)
    assert {s.id for s in split_stories(stories).test} == {"x", "y"}
    unnamed = load_stories("hugging_face", root=folder, images="pictures", texts="captions", limit=4)
    assert [s.id for s in unnamed] == ["train-00000", "train-00001", "train-00002", "test-00000"]


def test_strict_stops_at_sequences_of_unequal_length(folder, caplog):
    options = {"root": folder, "images": "pictures", "texts": "captions"}
    load_stories("hugging_face", **options)
    assert "train row 7: the surplus of 3 pictures but 4 texts" in caplog.text
    with pytest.raises(SourceError, match=r"train row 7.*strict=False"):
        load_stories("hugging_face", strict=True, **options)


def test_errors_name_what_is_there(folder, tmp_path):
    def message(source: str) -> str:
        with pytest.raises(SourceError) as caught:
            load_stories(source)
        return str(caught.value)

    assert "Unknown column 'images'. Known: captions, key, pictures." in message(
        f"hugging_face:{folder}?texts=captions"
    )
    assert "Did you mean 'captions'?" in message(f"hugging_face:{folder}?images=pictures&texts=caption")
    error = message(f"hugging_face:{folder}?images=pictures&texts=key")
    assert f"{folder}, train row 0: this data set has one picture or text per row" in error and "story=COLUMN" in error
    assert "Unknown option 'image'. Did you mean 'images'?" in message(f"hugging_face:{folder}?image=pictures")
    assert "Which data set?" in message("hugging_face")
    (tmp_path / "empty").mkdir()
    assert "no Parquet file; expected train-" in message(f"hugging_face:{tmp_path / 'empty'}")
    assert "nowhere does not exist" in message(f"hugging_face:{tmp_path / 'nowhere'}")
    (folder / "train-1.parquet").write_bytes((folder / "train-0.parquet").read_bytes()[:-9])
    error = message(f"hugging_face:{folder}?images=pictures&texts=captions")
    assert "train-1.parquet cannot be read as Parquet" in error and "download it again" in error


def test_splits_by_file_name(tmp_path):
    names = ["train-0.parquet", "a-validation.parquet", "val_1.parquet", "data/test-0.parquet", "latest.parquet"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = {split: [p.name for p in paths] for split, paths in parquet_files(tmp_path).items()}
    assert found == {
        "train": ["latest.parquet", "train-0.parquet"],
        "validation": ["a-validation.parquet"],
        "val": ["val_1.parquet"],
        "test": ["test-0.parquet"],
    }


def read(folder, **options):
    return [(r.split, r.number, r.values["key"], r.pictures) for r in rows(folder, ["key"], "pictures", **options)]


def test_the_second_reading_needs_no_data_set_and_a_killed_one_goes_on(folder, cache, monkeypatch):
    monkeypatch.setattr(_dataset_rows, "SHARD", 3)
    looked = []
    real = _dataset_rows._store_row
    monkeypatch.setattr(_dataset_rows, "_store_row", lambda *a: looked.append(a[1]["key"]) or real(*a))
    stream = rows(folder, ["key"], "pictures")
    first = [next(stream) for _ in range(5)]
    stream.close()  # as if killed: two whole shards are in the store
    assert looked == [*"abcdef"] and [r.number for r in first] == [0, 1, 2, 3, 4]
    everything = read(folder)
    assert looked[6:] == ["g", "odd", "x", "y"] and len(everything) == 10
    assert not list(cache.rglob("*.partial"))
    monkeypatch.setattr(_dataset_rows, "_open_files", None)
    assert read(folder) == everything


def test_a_damaged_picture_is_read_again(folder, cache, caplog):
    before = read(folder)
    picture = before[2][3][0]
    picture.write_bytes(b"half")
    os.utime(picture, (1, 1))
    assert read(folder) == before and picture.read_bytes() == jpeg(9900)
    assert f"{picture} is not what was written" in caplog.text


@pytest.mark.parametrize("name", ["names.json", "train-000000/rows.json"])
def test_a_damaged_file_of_the_cache_is_made_again(folder, cache, caplog, name):
    before = read(folder)
    (path,) = cache.rglob(name)
    content = path.read_bytes()
    for place in (0, -2, -3):
        flip(path, place)
        assert read(folder) == before and path.read_bytes() == content
    assert f"{path} is not what was written" in caplog.text


def test_rows_that_older_code_wrote_are_not_read(folder, cache, monkeypatch):
    before = read(folder)
    monkeypatch.setattr(store, "code_fingerprint", lambda *modules: f"new {modules}")
    again = read(folder)
    assert [row[:3] for row in before] == [row[:3] for row in again]
    assert not {p for row in before for p in row[3]} & {p for row in again for p in row[3]}


def test_a_full_disk_is_said_so(folder, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"is full.*STORYLIB_CACHE"):
        read(folder)


TWO = """
import sys
from storylib.sources import _dataset_rows

def stream(n):  # as slow as a real one, and without the import of one
    return iter([{"key": str(i), "pictures": [{"bytes": bytes([i]) * 50_000}] * 3} for i in range(n, 70)])

_dataset_rows._open_files = lambda *_: {"train": stream}
print(sum(len(row.pictures) for row in _dataset_rows.rows(sys.argv[1], ["key"], "pictures")))
"""


def test_two_processes_fill_the_store_at_once(folder, cache):
    both = [subprocess.Popen([sys.executable, "-c", TWO, str(folder)], stdout=subprocess.PIPE) for _ in range(2)]
    assert [p.communicate()[0].split() for p in both] == [[b"210"], [b"210"]]
    assert len(list(cache.rglob("rows.json"))) == 3 and len(list(cache.rglob(f"{'?' * 64}"))) == 70
    assert not list(cache.rglob("*.partial")) and not list(cache.rglob("*.tmp"))


def made(size: int, start: int) -> Iterator[dict[str, object]]:
    """Rows that are made when they are asked for."""
    content = np.random.default_rng(0).bytes(100_000)
    for i in range(start, size):
        yield {"key": str(i) * 1000, "pictures": [{"bytes": content[i:]}]}


def test_memory_does_not_grow_with_the_data_set(folder, cache, monkeypatch):
    def peak(size: int) -> int:
        monkeypatch.setattr(_dataset_rows, "_open_files", lambda *_: {"train": partial(made, size)})
        tracemalloc.start()
        try:
            assert sum(1 for _ in rows(folder, ["key"], "pictures")) == size
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            shutil.rmtree(store.cache_dir())

    assert peak(128) < 1.5 * peak(64) < 2_500_000  # the pictures of 64 rows have 6 MB


def test_a_picture_that_is_not_embedded_is_never_fetched(cache, tmp_path, caplog):
    table = [
        {
            "pictures": [{"bytes": None, "path": "/etc/hostname"}, {"bytes": jpeg(1), "path": None}],
            "captions": ["a", "b"],
        }
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "train.parquet")
    options = {"root": tmp_path, "images": "pictures", "texts": "captions"}
    (story,) = load_stories("hugging_face", **options)
    assert [f.number for f in story.frames] == [2] and "frame 1: the data set does not hold its picture" in caplog.text
    with pytest.raises(SourceError, match="does not hold its picture"):
        load_stories("hugging_face", strict=True, **options)


@pytest.mark.parametrize("source", ["story_reasoning", "hugging_face:owner/name"])
def test_a_hub_that_does_not_answer_names_the_way_round_it(cache, monkeypatch, source):
    import datasets

    requested = []

    def silent(name: str, config: str | None, **options: object) -> None:
        requested.append(name)
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", silent)
    monkeypatch.delenv("STORYLIB_STORY_REASONING", raising=False)
    with pytest.raises(SourceError) as caught:
        load_stories(source)
    error = str(caught.value)
    assert "could not be read from the Hugging Face hub (ConnectionError: Couldn't reach" in error
    assert "train-*.parquet, test-*.parquet" in error and "'storyworld'" in error
    assert requested == ["daniel3303/StoryReasoning" if source == "story_reasoning" else "owner/name"]
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert all(path.suffix == ".lock" for path in files)  # nothing that a later call would take for data


def test_the_hub_and_local_files_give_the_same(cache, tmp_path, monkeypatch):
    import datasets

    write_shards(tmp_path / "shards", plain_stories(12, frames=5, size=16))
    local = load_stories(f"story_reasoning:{tmp_path / 'shards'}")
    real = datasets.load_dataset

    def load_from_hub(name: str, config: str | None, revision: object, streaming: bool, **columns: object) -> object:
        files = {split: str(tmp_path / "shards" / f"{split}-*.parquet") for split in ("train", "test")}
        return real("parquet", data_files=files, streaming=streaming, cache_dir=str(tmp_path / "hf"), **columns)

    monkeypatch.setattr(datasets, "load_dataset", load_from_hub)
    remote = load_stories("story_reasoning:daniel3303/StoryReasoning")
    assert [(s.id, s.split, [f.text for f in s.frames]) for s in remote] == [
        (s.id, s.split, [f.text for f in s.frames]) for s in local
    ]


def album(path, rows=2, texts=None, **columns):
    """A Parquet file of stories with two pictures, and further columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [[{"bytes": jpeg(10 * row + page), "path": None} for page in range(2)] for row in range(rows)]
    texts = texts or [[f"Page 1 of {path.stem} {row}.", "Page 2."] for row in range(rows)]
    pq.write_table(pa.table({"pics": pictures, "caps": texts} | columns), path)


def albums(folder, options="", strict=True):
    stories = load_stories(f"hugging_face:{folder}?images=pics&texts=caps{options}", strict=strict)
    return [(story.id, story.title, story.split, [frame.number for frame in story.frames]) for story in stories]


@pytest.mark.parametrize("name", ["[a] {b}", "a::b", "zip://x", "what? &#%41", "-'\"$~*", "über ꦏ", "x" * 255])
def test_any_name_of_a_folder(cache, tmp_path, name):
    album(tmp_path / name / f"{name[:200]}-train-0.parquet")
    assert [story[3] for story in albums(tmp_path / name)] == [[1, 2], [1, 2]]


def test_shards_are_read_in_their_natural_order(cache, tmp_path):
    for number in (9, 10, 11):
        album(tmp_path / f"train-{number}.parquet", rows=1)
    stories = load_stories(f"hugging_face:{tmp_path}?images=pics&texts=caps")
    assert [story.frames[0].text for story in stories] == [f"Page 1 of train-{number} 0." for number in (9, 10, 11)]


def test_several_configs(cache, tmp_path):
    for config, count in (("en", 1), ("fr", 3)):
        album(tmp_path / config / "train" / "0.parquet", count)
    with pytest.raises(SourceError, match="holds several data sets: choose one by config=NAME, of en, fr"):
        albums(tmp_path)
    assert len(albums(tmp_path, "&config=fr")) == 3 and len(albums(tmp_path / "en")) == 1
    with pytest.raises(SourceError, match="de does not exist"):
        albums(tmp_path, "&config=de")


def test_hub_shards_with_other_columns(cache, tmp_path):
    from storylib.sources import _dataset_rows

    album(tmp_path / "train-0.parquet", extra=["x", "y"])
    album(tmp_path / "train-1.parquet", score=[1.5, 2.5])
    splits = _dataset_rows._open_hub(["caps", "pics"], str(tmp_path), None, None)  # a folder is read as a repository is
    rows = [*splits["train"](1)]
    assert len(rows) == 3 and rows[0]["pics"][0]["bytes"] == jpeg(10) and set(rows[0]) == {"caps", "pics"}
    single = tmp_path / "single"
    single.mkdir()
    pq.write_table(pa.table({"pic": [{"bytes": jpeg(1), "path": None}], "cap": ["a"]}), single / "train.parquet")
    (row,) = _dataset_rows._open_hub(["cap", "pic"], str(single), None, None)["train"](0)
    assert row["pic"]["bytes"] == jpeg(1)


def test_hub_with_several_configs_names_the_option(cache, tmp_path, monkeypatch):
    import datasets

    def choose(*_: object, **__: object) -> None:
        raise ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'fr']")

    monkeypatch.setattr(datasets, "load_dataset", choose)
    with pytest.raises(
        SourceError, match=r"available configs: \['en', 'fr'\]\)\. Choose one by the option config=NAME"
    ):
        load_stories("hugging_face:owner/name")


def test_a_broken_stream_of_the_hub_is_not_blamed_on_a_file():
    class Broken:
        def skip(self, start: int) -> Iterator[object]:
            raise TypeError("Couldn't cast array")
            yield

    with pytest.raises(SourceError, match=r"Reading owner/name stopped .*Couldn't cast array") as caught:
        next(_dataset_rows._read_hub(Broken(), "owner/name", 0))
    assert "copy" not in str(caught.value)


def test_a_file_that_is_broken_inside_is_named(cache, tmp_path):
    path = tmp_path / "train-0.parquet"
    album(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(2000) + content[2004:])
    with pytest.raises(SourceError, match=r"train-0\.parquet cannot be read as Parquet .*copy or download it again"):
        albums(tmp_path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
    with pytest.raises(SourceError, match=r"train-0\.parquet is a Git LFS pointer.*git lfs pull"):
        albums(tmp_path)


def test_empty_texts_are_an_error_if_strict(cache, tmp_path):
    album(tmp_path / "train-0.parquet", rows=1, texts=[["a", ""]])
    with pytest.raises(SourceError, match=r"frames without a text: 1, the first is .*train row 0, frame 2"):
        albums(tmp_path)


@pytest.mark.parametrize("null", [None, float("nan")])
def test_null_ids_and_titles_get_a_name(cache, tmp_path, null):
    album(tmp_path / "train-0.parquet", key=pa.array([null, 2.0]), name=["One", None])
    made_up = ("train-00000", "One", "train", [1, 2])
    assert albums(tmp_path, "&id=key&title=name") == [made_up, ("2.0", "2.0", "train", [1, 2])]


def test_null_ids_of_story_reasoning(cache, tmp_path):
    table = {"story_id": [None], "images": [[{"bytes": jpeg(1), "path": None}]], "story": ["<gdi image1>A.</gdi>"]}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    (story,) = load_stories(f"story_reasoning:{tmp_path}", strict=True)
    assert (story.id, story.title) == ("train-00000", "Story train-00000")


@pytest.mark.parametrize(("texts", "message"), [
    ([[{"en": "a", "fr": "b"}] * 2] * 2, "train row 0: 'caps' holds the fields en, fr, not texts"),
    ([{"en": "a", "fr": "b"}] * 2, "train row 0: 'caps' holds the fields en, fr, not texts"),
    ([[1, 2]] * 2, "train row 0: 'caps' holds int, not texts"),
    ([1, 2], "train row 0: 'caps' holds int, not texts"),
    ([[["a"], ["b"]]] * 2, "train row 0: 'caps' holds list, not texts"),
])  # fmt: skip
@pytest.mark.parametrize("strict", [True, False])
def test_texts_of_another_kind_are_refused(cache, tmp_path, texts, message, strict):
    album(tmp_path / "train-0.parquet", texts=texts)
    with pytest.raises(SourceError, match=message):
        albums(tmp_path, strict=strict)


def single_rows(path, book, page, texts=None):
    pictures = [{"bytes": jpeg(number), "path": None} for number in range(len(book))]
    texts = texts or [f"Text {number}." for number in range(len(book))]
    pq.write_table(pa.table({"pics": pictures, "caps": texts, "book": book, "page": page}), path)


def test_single_rows_are_grouped_by_story_and_ordered(cache, tmp_path):
    single_rows(tmp_path / "train-0.parquet", ["b", "a", "b", "a", "b"], [3, 1, 1, 2, 2])
    single_rows(tmp_path / "test-0.parquet", ["c", "c"], [1, 2])
    a, b, c = ("a", "a", "train", [1, 2]), ("b", "b", "train", [1, 2, 3]), ("c", "c", "test", [1, 2])
    assert albums(tmp_path, "&story=book&position=page") == [b, a, c]
    stories = load_stories(f"hugging_face:{tmp_path}?images=pics&texts=caps&story=book&position=page")
    assert [frame.text for frame in stories[0].frames] == ["Text 2.", "Text 4.", "Text 0."]
    assert stories[0].frames[2].image.read_bytes() == jpeg(0)
    unordered = load_stories(f"hugging_face:{tmp_path}?images=pics&texts=caps&story=book", limit=1)
    assert [[frame.text for frame in story.frames] for story in unordered] == [["Text 0.", "Text 2.", "Text 4."]]


def test_one_picture_a_row_with_faults(cache, tmp_path, caplog):
    texts = ["One.", "Two.", None, "Four.", "Again."]
    single_rows(tmp_path / "train-0.parquet", ["a", None, "a", "a", "a"], [1.0, 1.0, 2.0, None, 1.0], texts)
    assert albums(tmp_path, "&story=book&position=page", strict=False) == [("a", "a", "train", [1])]
    for problem in (
        "train row 1: 'book' is null",
        "train row 3: position must be a whole number, not ''",
        "train row 4: story 'a' already has a frame at position 1",
        "train row 2: 'caps' is null",
    ):
        assert problem in caplog.text
        assert "None" not in caplog.text
    with pytest.raises(SourceError, match="train row 1: 'book' is null"):
        albums(tmp_path, "&story=book")
