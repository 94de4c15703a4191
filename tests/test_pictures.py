from __future__ import annotations

import errno
import itertools
import json
import struct
import subprocess
import sys
import zlib

import imagehash
import numpy as np
import pytest
from conftest import flip, noise
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from storylib import pictures
from storylib.cache import read_checked, write_checked
from storylib.pictures import PictureError, inspect, near_hashes, open_picture, picture_digest, write_atomically


def pixel(image, at=(0, 0)):
    return open_picture(image).getpixel(at)


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (20, 10), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_picture(tmp_path / "turned.jpg").size == (10, 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white_not_black(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (200, 0, 0, 255))
    path = tmp_path / "clear.png"
    if mode == "P":
        image.convert("P").save(path, transparency=image.convert("P").getpixel((3, 3)))
    else:
        image.convert(mode).save(path)
    assert pixel(path, (3, 3)) == (255, 255, 255)
    assert pixel(path)[0] > 50  # the opaque pixel stays


def test_cmyk_keeps_its_colour(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red, green, blue = pixel(tmp_path / "red.jpg")
    assert red > 240 and green < 15 and blue < 15


@pytest.mark.parametrize(("name", "array"), [
    ("grey.png", np.full((4, 4), 0x8000, dtype=np.uint16)),
    ("grey.tiff", np.full((4, 4), 0x8000, dtype=np.uint16)),
    ("float.tiff", np.full((4, 4), 0.5, dtype=np.float32)),
])  # fmt: skip
def test_sixteen_bits_and_floats_are_scaled_not_cut(tmp_path, name, array):
    Image.fromarray(array).save(tmp_path / name)
    assert pixel(tmp_path / name) == pytest.approx((128, 128, 128), abs=1)


def test_first_image_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert pixel(tmp_path / "moving.gif") == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"not a picture", None, "cut"])
def test_an_unreadable_picture_is_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content == "cut":
        noise(1, (300, 200)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(PictureError, match=r"broken\.jpg") as caught:
        open_picture(path)
    cause = "the file is empty" if content == b"" else "No such file" if content is None else ""
    assert cause in str(caught.value) and "replace it by a whole copy" in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(cache, tmp_path):
    path = tmp_path / "bomb.png"
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(PictureError, match=r"bomb\.png is too large.*scale it to less than 89,478,485 pixels"):
        open_picture(path)
    Image.new("1", (10_000, 9_000)).save(path)  # below what Pillow itself refuses
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(PictureError, match="10000 x 9000 pixels"):
        open_picture(path)


def test_a_picture_without_permission_says_so(tmp_path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", denied)
    with pytest.raises(PictureError, match=r"a\.png may not be read: give yourself permission"):
        open_picture(tmp_path / "a.png")


LOOK = """
import sys
from pathlib import Path
from storylib.pictures import inspect
print(sorted(str(p.perceptual) for p in inspect(sorted(Path(sys.argv[1]).iterdir())[int(sys.argv[2])::2], False)))
"""


def test_two_processes_may_look_at_once(cache, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(40):
        noise(i, (32, 32)).save(folder / f"{i:02d}.png")
    both = [subprocess.Popen([sys.executable, "-c", LOOK, folder, str(i)], stdout=subprocess.PIPE) for i in range(2)]
    assert all(p.communicate()[0].count(b",") == 19 for p in both)
    kept = read_checked(cache / pictures.HASHES)
    assert 20 <= len(kept) <= 40 and [p.name for p in cache.iterdir()] == [pictures.HASHES]
    assert all(p.perceptual == kept.get(p.digest, p.perceptual) for p in inspect(sorted(folder.iterdir()), False))


def test_a_cache_of_another_version_is_not_believed(cache):
    cache.mkdir()
    (image,) = inspect([noise(1)], False)
    (cache / pictures.HASHES).rename(cache / "picture-hashes-0.json")
    write_checked(cache / "picture-hashes-0.json", {image.digest: 0})
    (cache / pictures.HASHES).write_text(json.dumps({image.digest: 0}))  # without its own digest, as it once was
    assert inspect([noise(1)], False) == [image]


def test_digest_is_of_content(tmp_path):
    for name in ("a.png", "b.png"):
        noise(1).save(tmp_path / name)
    assert picture_digest(tmp_path / "a.png") == picture_digest(tmp_path / "b.png")
    assert picture_digest(noise(1)) == picture_digest(noise(1)) != picture_digest(noise(2))
    before = picture_digest(tmp_path / "a.png")
    noise(2).save(tmp_path / "a.png", optimize=True)
    assert picture_digest(tmp_path / "a.png") != before
    one, other = Image.new("P", (2, 2)), Image.new("P", (2, 2))
    other.putpalette([255, 0, 0] * 256)
    assert picture_digest(one) != picture_digest(other)  # same indices, other colours


def test_inspect_sees_near_duplicates_and_blanks(cache, tmp_path):
    noise(1, (288, 200)).save(tmp_path / "large.jpg", quality=90)
    noise(1, (150, 100)).save(tmp_path / "small.jpg", quality=60)
    Image.new("RGB", (50, 50), "white").save(tmp_path / "blank.png")
    large, small, blank, other = inspect(
        [tmp_path / "large.jpg", tmp_path / "small.jpg", tmp_path / "blank.png", noise(2)], progress=False
    )
    assert large.digest != small.digest
    assert (large.perceptual ^ small.perceptual).bit_count() <= 8 < (large.perceptual ^ other.perceptual).bit_count()
    assert blank.perceptual is None and blank.error is None
    # The reference: the package's own function on the whole picture.
    assert large.perceptual == int(str(imagehash.phash(open_picture(tmp_path / "large.jpg"))), 16)


def test_inspect_looks_once_and_goes_on_after_a_kill(cache, tmp_path, monkeypatch):
    images = [noise(i, (12, 12)) for i in range(12)]
    looked = []
    real_look = pictures._look

    def look(image):
        looked.append(image)
        if len(looked) == 9:
            raise KeyboardInterrupt
        return real_look(image)

    monkeypatch.setattr(pictures, "_look", look)
    monkeypatch.setattr(pictures, "islice", lambda work, n: itertools.islice(work, 4))  # save every 4
    with pytest.raises(KeyboardInterrupt):
        inspect(images, progress=False)
    assert len(read_checked(cache / pictures.HASHES)) == 8
    looked.clear()
    monkeypatch.setattr(pictures, "_look", lambda image: looked.append(image) or real_look(image))
    first = inspect(images, progress=False)
    assert len(looked) == 4
    assert inspect(images, progress=False) == first and len(looked) == 4


def test_broken_pictures_are_not_remembered(cache, tmp_path):
    one, two = tmp_path / "one.jpg", tmp_path / "two.jpg"
    one.write_bytes(b"")
    two.write_bytes(b"")
    errors = [p.error for p in inspect([one, two, tmp_path / "gone.jpg"], progress=False)]
    assert [str(path) in error for path, error in zip((one, two, tmp_path / "gone.jpg"), errors, strict=True)] == [
        True
    ] * 3
    noise(1).save(one)
    assert inspect([one], progress=False)[0].error is None


def test_one_changed_byte_of_the_kept_hashes_is_noticed(cache, caplog):
    before = inspect([noise(1), noise(2)], progress=False)
    store = cache / pictures.HASHES
    good = store.read_bytes()
    last_digit = good.rindex(b"}") - 2  # of a hash: still JSON, and another hash
    for place in (0, 20, last_digit):
        caplog.clear()
        flip(store, place)
        assert inspect([noise(1), noise(2)], progress=False) == before and store.read_bytes() == good
        assert f"{store} is not what was written; it is made again" in caplog.text
    store.write_text("[" * 100_000)
    assert inspect([noise(1), noise(2)], progress=False) == before


def test_hashes_that_cannot_be_kept_are_made_again(cache, monkeypatch, caplog):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pictures, "write_checked", full)
    assert inspect([noise(1)], progress=False)[0].perceptual is not None
    assert f"{cache / pictures.HASHES} cannot be written" in caplog.text and "No space left" in caplog.text


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=10)), max_size=12),
    st.sampled_from([0, 1, 2, 5, 6, 8, 11]),
)
def test_near_hashes_equals_all_pairs(base, changes, distance):
    hashes = list(base)
    for start, bits in changes:  # neighbours at a known number of flipped bits
        if base:
            hashes.append(base[start % len(base)] ^ sum(1 << b for b in bits))
    pairs = itertools.combinations(range(len(hashes)), 2)
    assert near_hashes(hashes, distance) == [
        (i, j) for i, j in pairs if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]


def test_near_hashes_of_many_equal_to_all_pairs():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 300, dtype=np.uint64)
    for _ in range(3):  # chains of small changes, as re-saved pictures make
        flips = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (300, 4)).astype(np.uint64), axis=1)
        hashes = np.concatenate([hashes, hashes[:300] ^ flips])
    ints = hashes.tolist()
    expected = [(i, j) for i, j in itertools.combinations(range(len(ints)), 2) if (ints[i] ^ ints[j]).bit_count() <= 8]
    assert near_hashes(ints, 8) == expected and len(expected) > 900


def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "deep" / "record.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o044  # readable by others, unlike a temporary file
