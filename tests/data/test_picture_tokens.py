"""Pictures as tokens: codes by hand and back, and a training that is done once, on training pictures alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from storylib.data import picture_tokens as module
from storylib.data import resumable
from storylib.data.picture_tokens import CODES, LEVELS, PictureTokenizer, load_tokenizer, tokenize, train_tokenizer
from storylib.data.pictures import as_pixels
from storylib.data.store import find_damage
from storylib.sources import trained_tokenizer

TRAINING = [0, 1, 2, 4, 5]


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return PictureTokenizer()


@pytest.fixture
def thumbnails():
    """Eight pictures of four flat squares, (8, 16, 16, 3)."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 3), dtype=np.uint8)
    return colours.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def small_steps(monkeypatch):
    """Steps of eight pictures, of which the first is as long as the others."""
    monkeypatch.setattr(module, "BATCH", 8)
    monkeypatch.setattr(module, "WARMUP", 1)


def weights(tokenizer):
    return torch.cat([parameter.detach().flatten() for parameter in tokenizer.parameters()])


def pixels(thumbnails):
    return as_pixels(torch.from_numpy(thumbnails))


# Codes


def test_a_code_counts_the_levels_of_its_numbers(monkeypatch):
    """Numbers of 3, 5 and 7 levels: the levels -1, 2 and -1 are the digits 0, 4 and 2, which count 1, 3 and 15."""
    monkeypatch.setattr(module, "LEVELS", (3, 5, 7))
    tokenizer = PictureTokenizer()
    levels = torch.tensor([-0.7, 1.6, -1.4]).view(1, 3, 1, 1)
    monkeypatch.setattr(tokenizer, "_levels", lambda _: levels)
    assert tokenizer.encode(torch.zeros(1)).item() == 0 * 1 + 4 * 3 + 2 * 15
    drawn = []
    monkeypatch.setattr(tokenizer, "_draw", lambda levels: drawn.append(levels) or levels)
    tokenizer.decode(torch.tensor([[[42]]]))
    assert drawn[0].flatten().tolist() == [-1, 2, -1]


def test_every_code_has_levels_of_its_own(tokenizer, monkeypatch):
    drawn = []
    monkeypatch.setattr(tokenizer, "_draw", lambda levels: drawn.append(levels) or levels)
    codes = torch.arange(CODES).view(1, 1, CODES)
    tokenizer.decode(codes)
    (levels,) = drawn
    assert levels[0, :, 0].unique(dim=1).shape == (len(LEVELS), CODES)
    for number, count in zip(levels[0, :, 0], LEVELS, strict=True):
        assert number.unique().tolist() == list(range(-(count // 2), count // 2 + 1))
    monkeypatch.setattr(tokenizer, "_levels", lambda _: levels)
    assert torch.equal(tokenizer.encode(levels), codes)


@pytest.mark.parametrize("size", [16, 32])
def test_decoded_codes_are_the_reconstruction(tokenizer, size):
    pictures = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    tokenizer.decoder[-2].weight.data *= 20  # some pixels leave the range
    codes = tokenizer.encode(pictures)
    assert codes.shape == (3, size // 4, size // 4) and codes.dtype == torch.int64 and len(codes.unique()) > 5
    drawn = tokenizer(pictures)
    assert drawn.shape == pictures.shape and drawn.min() < 0
    assert torch.allclose(tokenizer.decode(codes), drawn.clamp(0, 1), atol=1e-6)


def test_gradients_pass_the_rounding(tokenizer):
    pictures = torch.rand(2, 3, 16, 16)
    (tokenizer(pictures) - pictures).abs().mean().backward()
    first = tokenizer.encoder[1].weight
    assert first.grad.abs().sum() > 0


# Training


def test_training_lowers_the_error(thumbnails, small_steps, tmp_path):
    pictures = pixels(thumbnails)

    def error(steps):
        return (train_tokenizer(thumbnails, steps, tmp_path / "checkpoint")(pictures) - pictures).abs().mean().item()

    assert error(30) < 0.75 * error(0)


def test_the_same_pictures_give_the_same_weights_and_leave_the_random_state_alone(thumbnails, small_steps, tmp_path):
    before = torch.get_rng_state()
    one = train_tokenizer(thumbnails, 3, tmp_path / "checkpoint")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert torch.equal(weights(train_tokenizer(thumbnails, 3, tmp_path / "checkpoint")), weights(one))
    assert not torch.equal(weights(train_tokenizer(255 - thumbnails, 3, tmp_path / "checkpoint")), weights(one))


def test_squares_are_cut_at_the_edges_of_codes(small_steps, monkeypatch, tmp_path):
    """From all of a large picture, so that a code always covers the same four by four pixels."""
    seen = []
    monkeypatch.setattr(
        module, "perceptual_distance", lambda drawn, target: seen.append(target) or (drawn - target).abs()
    )
    place = np.arange(36, dtype=np.uint8)
    thumbnails = np.stack(np.broadcast_arrays(place[:, None], place, 0), axis=-1)[None]  # a pixel says where it is
    train_tokenizer(thumbnails, 15, tmp_path / "checkpoint")
    corners = {tuple(round(255 * value) for value in square[0, :2, 0, 0].tolist()) for square in seen}
    assert all(square.shape == (8, 3, 32, 32) for square in seen)
    assert corners == {(top, left) for top in (0, 4) for left in (0, 4)}


# What is kept


def test_pictures_are_tokenised_once(thumbnails, cache, small_steps, monkeypatch):
    first = tokenize(thumbnails, TRAINING, steps=2)
    with torch.no_grad():
        assert np.array_equal(first.codes, first.tokenizer.encode(pixels(thumbnails)))
    assert first.codes.shape == (8, 4, 4) and first.codes.dtype == np.int16
    assert not first.tokenizer.training and not any(p.requires_grad for p in first.tokenizer.parameters())
    folders = [path for path in (cache / "picture-tokens").iterdir() if path.is_dir()]
    assert len(folders) == 2 and all(find_damage(folder) is None for folder in folders)

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_tokenizer", never)
        patch.setattr(PictureTokenizer, "encode", never)
        again = tokenize(thumbnails, TRAINING, steps=2)
    assert np.array_equal(again.codes, first.codes) and torch.equal(weights(again.tokenizer), weights(first.tokenizer))
    for other in ((thumbnails, TRAINING, 3), (thumbnails, TRAINING[1:], 2), (255 - thumbnails, TRAINING, 2)):
        assert not torch.equal(weights(tokenize(*other).tokenizer), weights(first.tokenizer))


def test_only_training_pictures_are_learned_from(thumbnails, cache, small_steps):
    other = thumbnails.copy()
    other[[3, 6, 7]] = np.random.default_rng(1).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    one, two = (tokenize(pictures, TRAINING, steps=3) for pictures in (thumbnails, other))
    assert torch.equal(weights(one.tokenizer), weights(two.tokenizer))
    changed = (one.codes != two.codes).any((1, 2))
    assert changed.any() and not changed[TRAINING].any()


def test_a_killed_training_goes_on_to_the_same_tokenizer(thumbnails, cache, small_steps, monkeypatch):
    whole = tokenize(thumbnails, TRAINING, steps=5)
    monkeypatch.setenv("STORYLIB_CACHE", str(cache / "other"))
    monkeypatch.setattr(resumable, "EVERY", 2)
    distance, calls = module.perceptual_distance, []

    def killed(*pictures):
        if len(calls) == 3:
            raise KeyboardInterrupt
        return calls.append(1) or distance(*pictures)

    with monkeypatch.context() as patch:
        patch.setattr(module, "perceptual_distance", killed)
        with pytest.raises(KeyboardInterrupt):
            tokenize(thumbnails, TRAINING, steps=5)
    folder = cache / "other" / "picture-tokens"
    assert len(list(folder.glob("*.checkpoint"))) == 1
    monkeypatch.setattr(module, "perceptual_distance", lambda *pictures: calls.append(1) or distance(*pictures))
    resumed = tokenize(thumbnails, TRAINING, steps=5)
    assert len(calls) == 3 + 3  # two of the first three steps were kept
    assert torch.equal(weights(resumed.tokenizer), weights(whole.tokenizer))
    assert np.array_equal(resumed.codes, whole.codes) and not list(folder.glob("*.checkpoint"))


def test_a_tokenizer_that_comes_with_a_source_is_used_as_it_is(thumbnails, cache, tokenizer, tmp_path, monkeypatch):
    """It may be kept in half precision. Codes of other weights are other codes, stored apart."""

    def never(*_):
        raise AssertionError("trained")

    monkeypatch.setattr(module, "train_tokenizer", never)
    paths = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    save_file({name: value.half() for name, value in tokenizer.state_dict().items()}, paths[0])
    save_file({name: -value for name, value in tokenizer.state_dict().items()}, paths[1])
    one, two, again = (tokenize(thumbnails, TRAINING, 2, path) for path in (*paths, paths[0]))
    assert weights(one.tokenizer).dtype == torch.float32
    assert torch.allclose(weights(one.tokenizer), weights(tokenizer), atol=1e-3)
    assert torch.equal(weights(two.tokenizer), -weights(tokenizer))
    assert np.array_equal(one.codes, again.codes) and not np.array_equal(one.codes, two.codes)
    with torch.no_grad():
        assert np.array_equal(one.codes, load_tokenizer(paths[0]).encode(pixels(thumbnails)))


def test_other_sources_and_sizes_bring_no_tokenizer(tmp_path):
    assert trained_tokenizer(f"folder:{tmp_path}", 64) is None and trained_tokenizer("storyworld", 16) is None
