from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import noise

from storylib.data import code, download, store
from storylib.data.features import encode, features_fingerprint
from storylib.data.store import (
    StoreError,
    cache_entry,
    describe_cache,
    find_damage,
    make_sealed,
    replace_atomically,
    write_atomically,
)
from storylib.data.types import Frame, Story
from storylib.sources import african_storybook, storyworld
from storylib.sources._books import find_root


def test_the_cache_is_described(cache):
    for name, size in (("features/a/vectors.npy", 2_000_000), ("storyworld/1.png", 3_000_000)):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(bytes(size))
    where, first, second, hint = describe_cache().splitlines()
    assert str(cache) in where and "STORYLIB_CACHE" in hint
    assert first.split() == ["3.0", "MB", "storyworld"] and second.split() == ["2.0", "MB", "features"]


@pytest.mark.parametrize("make", [
    lambda: storyworld.load(limit=1, size=32),
    lambda: encode([Story("s", "s", (Frame(noise(1), "A fox."),))], image_size=8),
    lambda: find_root("nowhere", [african_storybook.TEXTS]),
])  # fmt: skip
def test_a_cache_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch, make):
    file = tmp_path / "file"  # in the place of the folder; a superuser may write to any folder
    file.touch()
    monkeypatch.setenv("STORYLIB_CACHE", str(file))
    monkeypatch.setattr(download, "GITHUB", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=rf"{file}/.* cannot be written.*set STORYLIB_CACHE to a folder"):
        make()


def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "deep" / "record.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o044  # readable by others, unlike a temporary file


def test_replace_atomically_leaves_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "weights.bin"
    replace_atomically(path, lambda partial: partial.write_bytes(b"old"))

    def stop_half_way(partial):
        partial.write_bytes(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_atomically(path, stop_half_way)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the data package whose code may be changed: a function from module, old and new text."""
    shutil.copytree(code.PACKAGE / "data", tmp_path / "storylib" / "data")
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "storylib")

    def forget():
        for function in vars(code).values():
            if hasattr(function, "cache_clear"):
                function.cache_clear()

    def change(module, old, new):
        path = tmp_path / "storylib" / "data" / f"{module}.py"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        forget()

    forget()
    yield change
    forget()


FRAMES = [Story("s", "s", (Frame(noise(1), "A fox."),))]
ENCODED = (FRAMES, "efficientnet_lite0", "minilm", 64)
PREPARE = "picture = open_picture(image).resize((self.size, self.size), Image.Resampling.BICUBIC)"


@pytest.mark.parametrize(("module", "old", "new"), [
    ("encoders", PREPARE, PREPARE.replace("BICUBIC", "NEAREST")),
    ("pictures", "Image.Resampling.LANCZOS", "Image.Resampling.NEAREST"),  # of the thumbnails
])  # fmt: skip
def test_features_of_other_code_are_not_used(package, module, old, new):
    before = features_fingerprint(*ENCODED)
    package(module, old, new)
    assert features_fingerprint(*ENCODED) != before


def test_comments_docstrings_and_unrelated_code_keep_the_features(package):
    before = features_fingerprint(*ENCODED)
    package("encoders", PREPARE, f"# squeezed, not cropped\n        {PREPARE}")
    package("encoders", '"""A transformer over word pieces, pooled to one vector."""', '"""Reads texts."""')
    package("splits", "HELD_OUT = 0.15", "HELD_OUT = 0.25")
    package("inspection", ".std() < 4", ".std() < 5")
    assert features_fingerprint(*ENCODED) == before


def test_an_entry_is_named_after_all_that_it_depends_on(cache, package):
    before = cache_entry("features", "image", ["weights", 64], "data.encoders")
    assert before.parent == cache / "features" and before.name.startswith("image-")
    others = [
        cache_entry("features", "image", ["weights", 32], "data.encoders"),
        cache_entry("features", "image", ["weights", 64], "data.language_model"),
    ]
    package("encoders", "clamp(min=1)", "clamp(min=2)")
    others.append(cache_entry("features", "image", ["weights", 64], "data.encoders"))
    assert len({before, *others}) == 4


def make_file(folder):
    (folder / "file").write_text("content")


def test_a_folder_whose_making_fails_keeps_the_old_one(tmp_path, caplog):
    folder = tmp_path / "entry"
    make_sealed(folder, make_file)
    (folder / "file").write_text("changed")

    def fail(partial):
        (partial / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_sealed(folder, fail)
    assert (folder / "file").read_text() == "changed" and not (tmp_path / "entry.partial").exists()
    assert f"the cache is damaged, {folder / 'file'} is not what was written; it is made again" in caplog.text
    make_sealed(folder, make_file)
    assert (folder / "file").read_text() == "content" and find_damage(folder) is None


def test_two_at_once_make_a_folder_once(tmp_path, monkeypatch):
    waiting, calls, real_lock = threading.Semaphore(0), [], store.FileLock

    def lock(path):
        waiting.release()
        return real_lock(path)

    def make(folder):
        calls.append(folder)
        assert all(waiting.acquire(timeout=60) for _ in range(2))  # until both want to make it
        make_file(folder)

    monkeypatch.setattr(store, "FileLock", lock)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: make_sealed(tmp_path / "entry", make), range(2)))
    assert len(calls) == 1 and find_damage(tmp_path / "entry") is None
