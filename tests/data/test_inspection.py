"""One look at each picture: cached by content, and cheap the second time."""

from __future__ import annotations

import imagehash
import pytest
from conftest import noise
from PIL import Image

from storylib.data import inspection
from storylib.data.inspection import inspect
from storylib.data.pictures import open_picture


@pytest.fixture(autouse=True)
def another_process(cache, monkeypatch):
    """Nothing that an earlier test looked at is known; returns a function that forgets again."""

    def forget():
        monkeypatch.setattr(inspection, "_known", {})

    forget()
    return forget


def test_inspect_sees_near_duplicates_and_blanks(tmp_path):
    noise(1, (288, 200)).save(tmp_path / "large.jpg", quality=90)
    noise(1, (150, 100)).save(tmp_path / "small.jpg", quality=60)
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    large, small, blank, other = inspect(
        [tmp_path / "large.jpg", tmp_path / "small.jpg", tmp_path / "blank.png", noise(2)]
    )
    assert (large.perceptual ^ small.perceptual).bit_count() <= 8 < (large.perceptual ^ other.perceptual).bit_count()
    assert blank.perceptual is None and blank.error is None
    # The reference: the package's own function on the whole picture.
    assert large.perceptual == int(str(imagehash.phash(open_picture(tmp_path / "large.jpg"))), 16)


def test_each_picture_is_looked_at_once(tmp_path, monkeypatch, another_process):
    for i in range(4):
        noise(i % 3).save(tmp_path / f"{i}.png")
    images = sorted(tmp_path.glob("*.png"))
    looked, look = [], inspection._look
    monkeypatch.setattr(inspection, "_look", lambda image: looked.append(image) or look(image))
    first = inspect(images)
    assert len(looked) == 3  # two have the same content
    assert inspect(images[::-1]) == first[::-1]
    another_process()
    assert inspect(images) == first and len(looked) == 3


def test_broken_pictures_are_not_remembered(tmp_path):
    paths = [tmp_path / name for name in ("one.jpg", "two.jpg", "gone.jpg")]
    for path in paths[:2]:
        path.write_bytes(b"")
    for _ in range(2):
        for path, picture in zip(paths, inspect(paths), strict=True):
            assert str(path) in picture.error and picture.perceptual is None
    noise(1).save(paths[0])
    assert inspect(paths[:1])[0].error is None
