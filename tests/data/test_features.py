"""Features: every picture and text is encoded once, stored, and an interrupted pass is resumed."""

from __future__ import annotations

import dataclasses
import errno
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import flip, noise
from PIL import Image

from storylib.config import cache_dir
from storylib.data import arrays, store
from storylib.data import features as module
from storylib.data.features import Rows, encode, features_fingerprint
from storylib.data.store import StoreError
from storylib.data.types import Frame, Story


def story(name: str, *frames: tuple[int, str]) -> Story:
    return Story(name, name, tuple(Frame(noise(i, (40, 30)), text, n) for n, (i, text) in enumerate(frames, 1)))


STORIES = [
    story("a", (1, "one"), (2, "two"), (1, "three")),
    story("b", (2, "one"), (3, "four"), (4, "five"), (4, "five"), (5, "six")),
]  # 8 frames, 5 pictures, 6 texts


@pytest.fixture(autouse=True)
def _own_cache(cache):
    pass


def refuse(name, device="cpu"):
    raise AssertionError(f"{name} was loaded although its features are stored")


def test_each_picture_and_text_is_encoded_once(stub_encoders):
    features = encode(STORIES, image_size=8)
    assert (stub_encoders["image"].seen, stub_encoders["text"].seen) == (5, 6)
    assert features.image_vectors.shape == (5, 24) and features.text_vectors.shape == (6, 20)
    assert features.thumbnails.shape == (5, 8, 8, 3) and features.thumbnails.dtype == np.uint8


def test_every_frame_finds_its_own_vectors(stub_encoders):
    features = encode(STORIES, image_size=8)
    frames = [(s, f) for s in STORIES for f in s.frames]
    assert len(features.keys) == len(features.texts) == len(features.image_of) == len(features.text_of) == len(frames)
    for row, (owner, frame) in enumerate(frames):
        assert features.keys[row] == (owner.id, frame.number) and features.texts[row] == frame.text
        image, text = (stub_encoders[k] for k in ("image", "text"))
        assert np.allclose(features.image_vectors[features.image_of[row]], image.embed([image.prepare(frame.image)])[0])
        assert np.allclose(features.text_vectors[features.text_of[row]], text.embed([frame.text])[0])
        small = np.asarray(frame.image.resize((8, 8), Image.Resampling.LANCZOS))
        assert np.array_equal(features.thumbnails[features.image_of[row]], small)


def test_rows_by_hand(stub_encoders):
    features = encode(STORIES, image_size=8)
    assert features.rows(STORIES[1:]).tolist() == [3, 4, 5, 6, 7]
    assert features.rows(STORIES[::-1]).tolist() == [3, 4, 5, 6, 7, 0, 1, 2]


def test_stored_features_are_mapped_not_computed(stub_encoders, monkeypatch):
    first = encode(STORIES, image_size=8)
    monkeypatch.setattr(module, "load_image_encoder", refuse)
    monkeypatch.setattr(module, "load_text_encoder", refuse)
    second = encode(STORIES, image_size=8)
    assert second.fingerprint == first.fingerprint
    for name in ("image_vectors", "text_vectors", "thumbnails", "image_of", "text_of"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    for name in ("image_vectors", "text_vectors", "thumbnails"):
        assert isinstance(getattr(second, name), np.memmap)
        assert not getattr(second, name).flags.writeable


def test_the_fingerprint_is_known_without_encoding(stub_encoders, monkeypatch):
    expected = encode(STORIES, "resnet18", "bert", 8).fingerprint
    monkeypatch.setattr(module, "load_image_encoder", refuse)
    monkeypatch.setattr(module, "load_text_encoder", refuse)
    assert features_fingerprint(STORIES, "resnet18", "bert", 8) == expected


def test_finding_features_imports_no_torch():
    command = "import sys, storylib.data.features, storylib.data.splits; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_a_changed_text_encodes_texts_only(stub_encoders, monkeypatch):
    first = encode(STORIES, image_size=8)
    frames = (dataclasses.replace(STORIES[0].frames[0], text="new"), *STORIES[0].frames[1:])
    monkeypatch.setattr(module, "load_image_encoder", refuse)
    changed = encode([dataclasses.replace(STORIES[0], frames=frames), STORIES[1]], image_size=8)
    assert stub_encoders["image"].seen == 5 and stub_encoders["text"].seen == 6 + 7
    assert changed.fingerprint != first.fingerprint


def test_a_changed_picture_encodes_pictures_only(stub_encoders, monkeypatch):
    first = encode(STORIES, image_size=8)
    frames = (dataclasses.replace(STORIES[0].frames[0], image=noise(9, (40, 30))), *STORIES[0].frames[1:])
    monkeypatch.setattr(module, "load_text_encoder", refuse)
    changed = encode([dataclasses.replace(STORIES[0], frames=frames), STORIES[1]], image_size=8)
    assert stub_encoders["image"].seen == 5 + 6
    assert changed.fingerprint != first.fingerprint


def test_other_encoders_sizes_and_orders_have_other_fingerprints(stub_encoders):
    prints = [
        encode(STORIES, image_size=8).fingerprint,
        encode(STORIES, image_size=16).fingerprint,
        encode(STORIES, image="resnet18", image_size=8).fingerprint,
        encode(STORIES, text="bert", image_size=8).fingerprint,
        encode(STORIES[::-1], image_size=8).fingerprint,
        encode(STORIES[:1], image_size=8).fingerprint,
    ]
    assert len(set(prints)) == len(prints)


class Killed(BaseException):
    """What Ctrl-C or a kill is to the code that runs."""


@pytest.mark.parametrize("kind", ["image", "text"])
def test_a_killed_pass_goes_on_from_the_last_batch(stub_encoders, monkeypatch, kind, tmp_path):
    monkeypatch.setattr(arrays, "BATCH", 2)
    whole = encode(STORIES, image_size=8)
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / "again"))
    stub, embed, calls = stub_encoders[kind], stub_encoders[kind].embed, []

    def kill_in_the_third_batch(prepared):
        calls.append(len(prepared))
        if len(calls) == 3:
            raise Killed
        return embed(prepared)

    monkeypatch.setattr(stub, "embed", kill_in_the_third_batch)
    with pytest.raises(Killed):
        encode(STORIES, image_size=8)
    again = encode(STORIES, image_size=8)
    assert calls == ([2, 2, 1, 1] if kind == "image" else [2, 2, 2, 2])  # the killed batch, and no other, twice
    for name in ("image_vectors", "text_vectors", "thumbnails"):
        assert np.array_equal(getattr(whole, name), getattr(again, name))
    assert {p.suffix for p in cache_dir("features").iterdir()} == {"", ".lock"}


def test_a_pass_killed_before_its_first_batch_starts_anew(stub_encoders, monkeypatch):
    def fail(name, device="cpu"):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_image_encoder", fail)
        with pytest.raises(Killed):
            encode(STORIES, image_size=8)
    assert encode(STORIES, image_size=8).image_vectors.shape == (5, 24)
    assert stub_encoders["image"].seen == 5


def test_a_pass_killed_after_its_last_batch_ends_well_later(stub_encoders, monkeypatch):
    def stop(self, target):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", stop)
        with pytest.raises(Killed):
            encode(STORIES, image_size=8)
    assert encode(STORIES, image_size=8).image_vectors.any(1).all()
    assert stub_encoders["image"].seen == 5


def test_pictures_on_disk_count_by_content(stub_encoders, tmp_path):
    for name in ("x.png", "y.png"):
        noise(1).save(tmp_path / name)
    noise(2).save(tmp_path / "z.png")
    frames = tuple(Frame(tmp_path / n, n, i) for i, n in enumerate(("x.png", "y.png", "z.png"), 1))
    features = encode([Story("s", "s", frames)], image_size=8)
    assert stub_encoders["image"].seen == 2
    assert features.image_of[0] == features.image_of[1] != features.image_of[2]


def same(one, other) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in STORED)


def test_rows_are_read_from_the_disk_and_do_not_stay_in_memory(tmp_path):
    array = np.arange(2**22, dtype=np.float32).reshape(2**12, 2**10)  # 16 MiB
    np.save(tmp_path / "array.npy", array)
    order = np.random.default_rng(0).permutation(len(array))
    stored = np.load(tmp_path / "array.npy", mmap_mode="r")
    for rows in (Rows(stored, order), Rows(array, order)):
        assert len(rows) == len(array)
        for index in (torch.tensor([[1, 5], [0, 1]]), slice(3, 9), slice(None), 7):
            assert np.array_equal(rows[index].numpy(), array[order[index.numpy() if torch.is_tensor(index) else index]])
    status = Path("/proc/self/status")
    if status.exists():
        before = file_memory(status)
        for start in range(0, len(order), 64):
            Rows(stored, order)[start : start + 64]
        assert file_memory(status) - before < 4096


def file_memory(status: Path) -> int:
    """Kilobytes of this process that are mapped files."""
    return int(re.search(r"RssFile:\s+(\d+)", status.read_text())[1])


STORED = ("image_vectors", "text_vectors", "thumbnails")
FILES = ["image-*/vectors.npy", "image-*/thumbnails.npy", "text-*/vectors.npy", "text-*/SHA256SUMS"]


@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize(
    "place", [0, 150, -1]
)  # magic, vectors, the last number; all of a manifest's are digest or name
def test_one_changed_byte_is_noticed_named_and_mended(stub_encoders, caplog, pattern, place):
    whole = encode(STORIES, image_size=8)
    (path,) = cache_dir("features").glob(pattern)
    good = path.read_bytes()
    flip(path, min(place, len(good) - 1))
    assert same(encode(STORIES, image_size=8), whole) and path.read_bytes() == good
    (warning,) = caplog.messages
    assert f"the cache is damaged, {path.parent}" in warning and warning.endswith("; it is made again")
    kind = path.parent.name.partition("-")[0]
    assert (stub_encoders["image"].seen, stub_encoders["text"].seen) == ((10, 6) if kind == "image" else (5, 12))


def test_a_lost_an_added_and_an_unsealed_file_are_noticed(stub_encoders, caplog):
    whole = encode(STORIES, image_size=8)
    (folder,) = cache_dir("features").glob("image-*[!k]")
    for change, reason in (
        (lambda: (folder / "vectors.npy").unlink(), "vectors.npy is not what was written"),
        (lambda: (folder / "more.npy").write_bytes(b"x"), "more.npy is not what was written"),
        (lambda: (folder / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
    ):
        caplog.clear()
        change()
        assert same(encode(STORIES, image_size=8), whole) and reason in caplog.text
    assert sorted(p.name for p in folder.iterdir()) == ["SHA256SUMS", "thumbnails.npy", "vectors.npy"]


@pytest.mark.skipif(sys.platform != "linux", reason="sha256sum belongs to coreutils")
def test_the_manifest_is_what_sha256sum_reads(stub_encoders):
    encode(STORIES, image_size=8)
    (folder,) = cache_dir("features").glob("image-*[!k]")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_each_file_is_read_for_its_digest_once_in_a_process(stub_encoders):
    for _ in range(2):  # computed, then opened
        encode(STORIES, image_size=8)
    before = store._sha256.cache_info().misses
    encode(STORIES, image_size=8)
    assert store._sha256.cache_info().misses == before


def test_a_disk_that_fills_half_way_leaves_nothing_that_is_loaded(stub_encoders, monkeypatch):
    whole = encode(STORIES, image_size=8)
    monkeypatch.setenv("STORYLIB_CACHE", str(cache_dir("again")))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("numpy.savez", "storylib.data.arrays._join", "pathlib.Path.write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)  # at the first batch, when all are joined, at the manifest
            with pytest.raises(StoreError, match=r"The disk of .* is full\. Free some space, or set STORYLIB_CACHE"):
                encode(STORIES, image_size=8)
        assert {p.suffix for p in cache_dir("features").iterdir()} <= {".lock", ".batches"}
    assert same(encode(STORIES, image_size=8), whole)
