"""Drawings, and values pinned for every machine."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import uniform_filter

from storylib.sources import storyworld
from storylib.sources.storyworld import drawing, world
from storylib.sources.storyworld.staging import STAGINGS
from storylib.sources.storyworld.tales import make_tale
from storylib.sources.storyworld.world import Settings
from tests.sources.random_worlds import worlds

DEFAULT = Settings()
GOLDEN = Path(__file__).with_name("test_storyworld_drawing.png")
PINNED = ["2f78515c5bd3", "7b5b1790ab87", "5fc3f5b1beac"]  # truths, texts, geometry


@pytest.fixture(scope="module")
def tales():
    return [make_tale(DEFAULT, number) for number in range(100)]


@settings(max_examples=25, deadline=None)
@given(world_settings=worlds, number=st.integers(0, 10**5), size=st.sampled_from((32, 100, 224)))
def test_every_scene_renders(world_settings, number, size):
    scene = make_tale(world_settings, number).scenes[-1]
    picture = drawing.render(scene, world_settings, size)
    assert picture.size == (size, size) and picture.mode == "RGB"
    pixels = np.asarray(picture)
    assert pixels.std() > 8 and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_every_action_is_drawn_in_every_place(tales):
    """Only the furniture of an action depends on the place."""
    base = tales[0].scenes[0]
    furnished = [action for action, staging in STAGINGS.items() if staging.behind or staging.before]
    assert len(furnished) >= 7
    pairs = {*itertools.product(furnished, world.PLACES), *zip(world.ACTIONS, itertools.cycle(world.PLACES))}
    for action, place in sorted(pairs):
        scene = dataclasses.replace(
            base, action=action, where=place, in_picture=frozenset({"where", "object"}), object="kite", state="held",
            partner="pig", name_partner="Ada", garment_partner="red", outfit_partner="cape", pattern_partner="dots",
            seed=f"0/{action}/{place}",
        )  # fmt: skip
        assert len(drawing.compose(scene, DEFAULT)) > 60


def test_a_scene_is_the_same_at_every_size(tales):
    for scene in (tale.scenes[0] for tale in tales[:5]):
        small = np.asarray(drawing.render(scene, DEFAULT, 64), float)
        large = drawing.render(scene, DEFAULT, 256).resize((64, 64), Image.Resampling.BOX)
        assert np.abs(small - np.asarray(large, float)).mean() < 6


def test_no_two_pictures_are_alike():
    pictures = [frame.image.read_bytes() for story in storyworld.load(limit=24, size=32) for frame in story.frames]
    assert len(set(pictures)) == len(pictures) > 100


def test_even_without_jitter_no_two_pictures_are_alike():
    still = Settings(jitter=0, distractors=0)
    scene = make_tale(still, 0).scenes[0]
    other = dataclasses.replace(scene, seed="0/999/1")
    assert drawing.render(scene, still, 64).tobytes() != drawing.render(other, still, 64).tobytes()


def test_a_picture_without_place_and_object_does_not_depend_on_them(tales):
    scene = next(s for t in tales for s in t.scenes if s.where == "castle" and s.object == "key" and s.state == "held")
    hidden = dataclasses.replace(scene, in_picture=frozenset())
    swapped = dataclasses.replace(hidden, where="beach", object="cake")
    assert drawing.render(hidden, DEFAULT, 64).tobytes() == drawing.render(swapped, DEFAULT, 64).tobytes()
    assert drawing.render(hidden, DEFAULT, 64).tobytes() != drawing.render(scene, DEFAULT, 64).tobytes()


def test_scenes_texts_and_geometry_are_pinned(tales):
    """If this fails, worlds have changed: note it in the change log, and pin the new values."""
    scenes = [scene for tale in tales for scene in tale.scenes]
    truths = json.dumps([s.attributes() for s in scenes], sort_keys=True)
    texts = json.dumps(storyworld.write(tales))
    geometry = hashlib.sha256()
    for scene in scenes[:100]:
        for points, ink in drawing.compose(scene, DEFAULT):
            # Coarse, since the last bit of a sine may differ between processors; not at the round numbers of the code.
            grid = np.floor(np.column_stack([points.real, points.imag]) * 1e4 + 0.3137)
            geometry.update(grid.astype(np.int32).tobytes())
            geometry.update(bytes(ink))
    digests = [hashlib.sha256(truths.encode()), hashlib.sha256(texts.encode()), geometry]
    assert [digest.hexdigest()[:12] for digest in digests] == PINNED


def contact_sheet(tales) -> Image.Image:
    """Thirty-two small pictures of thirty-two stories."""
    sheet = Image.new("RGB", (8 * 64, 4 * 64))
    for k, tale in enumerate(tales[:32]):
        sheet.paste(drawing.render(tale.scenes[k % 5], DEFAULT, 64), (k % 8 * 64, k // 8 * 64))
    return sheet


def test_the_contact_sheet_looks_like_the_golden_one(tales):
    sheet = contact_sheet(tales)
    if os.environ.get("STORYLIB_NEW_GOLDEN"):
        sheet.quantize(128).save(GOLDEN, optimize=True)
    golden = Image.open(GOLDEN).convert("RGB")
    assert structural_similarity(np.asarray(sheet, float), np.asarray(golden, float)) > 0.93


def structural_similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) with a uniform window of 7 x 7 pixels, per channel."""

    def mean(x: np.ndarray) -> np.ndarray:
        return uniform_filter(x, size=(7, 7, 1))

    ma, mb = mean(a), mean(b)
    va, vb, ab = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))
