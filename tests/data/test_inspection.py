"""One look at each picture: cached by content, shared by processes, and cheap the second time."""

from __future__ import annotations

import errno
import json
from concurrent.futures import ThreadPoolExecutor

import imagehash
import pytest
from conftest import flip, noise
from PIL import Image

from storylib.data import inspection
from storylib.data.inspection import hash_file, inspect
from storylib.data.pictures import open_picture
from storylib.data.store import read_checked, write_checked


def test_two_may_look_at_once(cache):
    images = [noise(i, (32, 32)) for i in range(40)]
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(inspect, (images[::2], images[1::2])))
    kept = read_checked(hash_file())
    assert 20 <= len(kept) <= 40 and [p for p in cache.rglob("*") if p.is_file()] == [hash_file()]
    assert inspect(images)[::2] == halves[0] and inspect(images)[1::2] == halves[1]


def test_a_cache_of_another_version_is_not_believed(cache):
    (image,) = inspect([noise(1)])
    write_checked(hash_file().with_name("hashes-other-code.json"), {image.digest: 0})
    hash_file().write_text(json.dumps({image.digest: 0}))  # without its own digest
    assert inspect([noise(1)]) == [image]


def test_inspect_sees_near_duplicates_and_blanks(cache, tmp_path):
    noise(1, (288, 200)).save(tmp_path / "large.jpg", quality=90)
    noise(1, (150, 100)).save(tmp_path / "small.jpg", quality=60)
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    large, small, blank, other = inspect(
        [tmp_path / "large.jpg", tmp_path / "small.jpg", tmp_path / "blank.png", noise(2)]
    )
    assert large.digest != small.digest
    assert (large.perceptual ^ small.perceptual).bit_count() <= 8 < (large.perceptual ^ other.perceptual).bit_count()
    assert blank.perceptual is None and blank.error is None
    # The reference: the package's own function on the whole picture.
    assert large.perceptual == int(str(imagehash.phash(open_picture(tmp_path / "large.jpg"))), 16)


def test_inspect_looks_once_and_goes_on_after_a_kill(cache, tmp_path, monkeypatch):
    images = [noise(i, (12, 12)) for i in range(12)]
    looked = []
    real_look = inspection._look

    def look(image):
        looked.append(image)
        if len(looked) == 9:
            raise KeyboardInterrupt
        return real_look(image)

    monkeypatch.setattr(inspection, "_look", look)
    monkeypatch.setattr(inspection, "BATCH", 4)
    with pytest.raises(KeyboardInterrupt):
        inspect(images)
    assert len(read_checked(hash_file())) == 8
    looked.clear()
    monkeypatch.setattr(inspection, "_look", lambda image: looked.append(image) or real_look(image))
    first = inspect(images)
    assert len(looked) == 4
    assert inspect(images) == first and len(looked) == 4


def test_broken_pictures_are_not_remembered(cache, tmp_path):
    one, two = tmp_path / "one.jpg", tmp_path / "two.jpg"
    one.write_bytes(b"")
    two.write_bytes(b"")
    errors = [p.error for p in inspect([one, two, tmp_path / "gone.jpg"])]
    assert [str(path) in error for path, error in zip((one, two, tmp_path / "gone.jpg"), errors, strict=True)] == [
        True
    ] * 3
    noise(1).save(one)
    assert inspect([one])[0].error is None


def test_one_changed_byte_of_the_kept_hashes_is_noticed(cache, caplog):
    before = inspect([noise(1), noise(2)])
    store = hash_file()
    good = store.read_bytes()
    last_digit = good.rindex(b"}") - 2  # of a hash: still JSON, and another hash
    for place in (0, 20, last_digit):
        caplog.clear()
        flip(store, place)
        assert inspect([noise(1), noise(2)]) == before and store.read_bytes() == good
        assert f"{store} is not what was written; it is made again" in caplog.text
    store.write_text("[" * 100_000)
    assert inspect([noise(1), noise(2)]) == before


def test_hashes_that_cannot_be_kept_are_made_again(cache, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inspection, "write_checked", full)
    assert inspect([noise(1)])[0].perceptual is not None
    assert f"{hash_file()} cannot be written" in caplog.text and "No space left" in caplog.text


def test_a_second_look_reads_neither_pictures_nor_their_hashes(cache, tmp_path, monkeypatch):
    for i in range(3):
        noise(i).save(tmp_path / f"{i}.png")
    images = sorted(tmp_path.glob("*.png"))
    inspect(images)
    first = inspect(images)  # the hashes are read back once
    monkeypatch.setattr(inspection, "read_checked", lambda path: pytest.fail(f"{path} was parsed again"))
    monkeypatch.setattr("storylib.data.store.file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert inspect(images) == first
