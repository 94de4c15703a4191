from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from conftest import noise
from PIL import Image, ImageOps

from storylib.data.pictures import PictureError, open_picture, picture_digest, pictures_in, thumbnail


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
])  # fmt: skip
def test_sixteen_bits_are_scaled_not_cut(tmp_path, name, array):
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
    assert ("does not exist" if content is None else "replace it by an intact copy") in str(caught.value)


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


def test_a_thumbnail_is_the_whole_picture():
    picture = noise(1, (40, 30))
    small = thumbnail(picture, 8)
    assert small.shape == (8, 8, 3) and small.dtype == np.uint8
    assert np.array_equal(small, np.asarray(picture.resize((8, 8), Image.Resampling.LANCZOS)))


def exif(*entries: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + b"\0" * 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_counts_even_if_exif_cannot_be_rewritten(tmp_path, orientation):
    turn = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    width = struct.pack("<HHI4s", 0x0100, 2, 4, b"abc\0")  # a text, where Pillow can write only a number
    image = noise(1, (40, 20))
    image.save(tmp_path / "good.png", exif=exif(turn))
    image.save(tmp_path / "odd.png", exif=exif(turn, width))
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "good.png"))
    opened = open_picture(tmp_path / "odd.png")
    assert np.array_equal(np.asarray(opened), np.asarray(upright))
    assert np.array_equal(np.asarray(open_picture(opened)), np.asarray(upright))  # not turned again
    image.save(tmp_path / "broken.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_picture(tmp_path / "broken.png").size == (40, 20)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


@pytest.mark.parametrize(("name", "content", "kind", "remedy"), [
    ("a.png", LFS, "is a Git LFS pointer", "git lfs pull"),
    ("a.jpg", b"\n<!-- saved --> <!DOCTYPE html>\n<html><svg/></html>", "is a web page", "download the file itself"),
    ("a.svg", b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing", "PNG"),
    ("a.png", b"<svg/>", "is an SVG drawing", "PNG"),
    ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "is a HEIC picture", "pip install pillow-heif"),
    ("a.jpg", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(99), "is a HEIC picture", "pip install pillow-heif"),
])  # fmt: skip
def test_what_is_no_picture_is_named_with_the_way_out(tmp_path, name, content, kind, remedy):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PictureError) as caught:
        open_picture(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name} {kind}") and remedy in message and "intact copy" not in message


def test_heic_opens_where_its_package_is_installed():
    code = """
import sys, types
sys.modules["pillow_heif"] = types.SimpleNamespace(register_heif_opener=lambda: print("registered"))
import storylib.data.pictures
"""
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"registered"


def test_pictures_of_a_folder_in_natural_order(tmp_path):
    for number in (9, 10, 11, 12):
        noise(number).save(tmp_path / f"page{number}.png")
        (tmp_path / f"._page{number}.png").write_bytes(b"what a Mac writes beside a file")
    noise(1).save(tmp_path / "Page2.avif")
    noise(1).save(tmp_path / "page 3, at night.JPG")
    (tmp_path / "page1.heic").write_bytes(b"named, so that open_picture can say what it is")
    (tmp_path / "notes.txt").write_text("no picture")
    pages = ["page1.heic", "Page2.avif", "page9.png", "page10.png", "page11.png", "page12.png"]
    assert [path.name for path in pictures_in(tmp_path)] == [*pages, "page 3, at night.JPG"]
    assert open_picture(tmp_path / "Page2.avif").size == (96, 64)
