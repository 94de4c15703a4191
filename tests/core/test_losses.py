"""Losses against loops and torch's own functions, and the distance of pictures in a network's features."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import pictures

from storylib.config import TrainConfig
from storylib.data.perceptual import perceptual_distance
from storylib.losses import (
    compute_losses,
    contrastive_loss,
    image_loss,
    next_embedding_loss,
    text_loss,
)

NONE = torch.zeros(5, 5, dtype=torch.bool)


def units(n: int, dim: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.double), dim=-1)


IMAGE, TEXT = units(5, 4, 0), units(5, 4, 1)
SCALE = torch.tensor(3.0, dtype=torch.double)


def infonce_by_loop(image, text, scale, not_negative):
    n = len(image)
    total = 0.0
    for i in range(n):
        for query, answers in ((image[i], text), (text[i], image)):
            logits = [float(scale * query @ answers[j]) for j in range(n) if i == j or not not_negative[i, j]]
            own = float(scale * query @ answers[i])
            total += math.log(sum(math.exp(v) for v in logits)) - own
    return total / (2 * n)


def siglip_by_loop(image, text, scale, bias, not_negative):
    n = len(image)
    total = 0.0
    for i in range(n):
        for j in range(n):
            z = 1 if i == j else -1
            if i == j or not not_negative[i, j]:
                total += math.log1p(math.exp(-z * (float(scale * image[i] @ text[j]) + bias)))
    return total / n


def some_pairs() -> torch.Tensor:
    story = torch.tensor([0, 1, 0, 2, 1])
    return story[:, None] == story[None, :]


@pytest.mark.parametrize("not_negative", [NONE, some_pairs()], ids=["all", "some"])
def test_infonce_equals_a_loop(not_negative):
    value = contrastive_loss(IMAGE, TEXT, SCALE, not_negative)
    assert value.item() == pytest.approx(infonce_by_loop(IMAGE, TEXT, SCALE, not_negative))


def test_infonce_without_exclusions_is_cross_entropy_both_ways():
    logits = SCALE * IMAGE @ TEXT.T
    own = torch.arange(5)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert torch.allclose(contrastive_loss(IMAGE, TEXT, SCALE, NONE), expected)


@pytest.mark.parametrize("not_negative", [NONE, some_pairs()], ids=["all", "some"])
@pytest.mark.parametrize("bias", [None, -2.0])
def test_siglip_equals_a_loop(not_negative, bias):
    scalar = None if bias is None else torch.tensor(bias, dtype=torch.double)
    value = contrastive_loss(IMAGE, TEXT, SCALE, not_negative, "siglip", scalar)
    assert value.item() == pytest.approx(siglip_by_loop(IMAGE, TEXT, SCALE, bias or 0.0, not_negative))


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
def test_pictures_and_texts_can_change_places(kind):
    one = contrastive_loss(IMAGE, TEXT, SCALE, some_pairs(), kind)
    assert torch.allclose(one, contrastive_loss(TEXT, IMAGE, SCALE, some_pairs(), kind))


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
def test_an_excluded_pair_is_not_pushed_apart(kind):
    """With everything excluded only the pairs themselves remain: InfoNCE is zero, and rows do not interact."""
    everything = torch.ones(5, 5, dtype=torch.bool)
    image = IMAGE.clone().requires_grad_()
    text = TEXT.clone().requires_grad_()
    loss = contrastive_loss(image, text, SCALE, everything, kind)
    gradient = torch.autograd.grad(loss, image)[0]
    if kind == "infonce":
        assert loss.item() == 0 and not gradient.any()
    else:
        pull = -torch.sigmoid(-SCALE * (IMAGE * TEXT).sum(1, keepdim=True)) * SCALE * TEXT / 5
        assert torch.allclose(gradient, pull)


def batch_and_outputs(story_id, image_id, text_id):
    generator = torch.Generator().manual_seed(3)
    b, k, frames, dim = 3, 1, 9, 4

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    bank = F.normalize(random(frames, dim), dim=-1)
    excluded = torch.zeros(b, frames, dtype=torch.bool)
    excluded[:, 0] = True
    batch = {
        "image_bank": bank, "text_bank": bank.flip(0), "target": torch.tensor([1, 4, 8]),
        "image_excluded": excluded, "text_excluded": excluded,
        "tokens": torch.tensor([[2, 3, 1], [4, 1, -100], [5, 6, 1]]), "picture": random(b, 3, 4, 4),
        "story_id": torch.tensor(story_id).view(b, k + 1), "image_id": torch.tensor(image_id).view(b, k + 1),
        "text_id": torch.tensor(text_id).view(b, k + 1),
        "same_story": torch.arange(frames) // 3 == torch.arange(3)[:, None],
    }  # fmt: skip
    leaves = {
        "next_image": random(b, dim), "next_text": random(b, dim), "logits": random(b, 3),
        "picture": random(b, 3, 4, 4), "image": random(b, k + 1, dim), "text": random(b, k + 1, dim),
    }  # fmt: skip
    leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
    output = {
        "next_image": leaves["next_image"], "next_text": leaves["next_text"], "picture": leaves["picture"],
        "token_log_probabilities": F.logsigmoid(leaves["logits"]),
        "image_shared": F.normalize(leaves["image"], dim=-1), "text_shared": F.normalize(leaves["text"], dim=-1),
        "next_image_scale": torch.tensor(10.0), "next_text_scale": torch.tensor(10.0),
        "next_image_in_story_scale": torch.tensor(20.0), "next_text_in_story_scale": torch.tensor(20.0),
        "alignment_scale": torch.tensor(14.0), "alignment_bias": torch.tensor(-10.0),
    }  # fmt: skip
    return batch, output, leaves


APART = [0, 1, 2, 3, 4, 5]
NAMES = {"next_image", "next_text", "text", "image", "contrastive"}


def test_all_losses_are_named_and_their_sum_reaches_every_output():
    batch, output, leaves = batch_and_outputs(APART, APART, APART)
    losses = compute_losses(output, batch, TrainConfig())
    assert set(losses) == NAMES
    sum(losses.values()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any(), name


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_weight_of_zero_leaves_the_loss_out_and_the_others_alone(name):
    batch, output, _ = batch_and_outputs(APART, APART, APART)
    everything = compute_losses(output, batch, TrainConfig())
    rest = compute_losses(output, batch, TrainConfig(**{f"{name}_weight": 0.0}))
    assert set(rest) == NAMES - {name}
    assert all(torch.equal(rest[other], everything[other]) for other in rest)
    half = compute_losses(output, batch, TrainConfig(**{f"{name}_weight": 0.5}))
    assert torch.allclose(half[name], everything[name] / 2)


@pytest.mark.parametrize("shared", [0, 1, 2], ids=["story", "picture", "text"])
@pytest.mark.parametrize("kind", ["infonce", "siglip"])
def test_frames_that_share_a_story_a_picture_or_a_text_are_not_negatives(shared, kind):
    """Frames 1 and 4 share one id: the loss is that of a loop that leaves the two pairs out."""
    ids = [APART, APART, APART]
    ids[shared] = [0, 1, 2, 3, 1, 5]
    batch, output, _ = batch_and_outputs(*ids)
    value = compute_losses(output, batch, TrainConfig(contrastive_loss=kind))["contrastive"].item()
    image, text = output["image_shared"].detach().flatten(0, 1), output["text_shared"].detach().flatten(0, 1)
    not_negative = torch.zeros(6, 6, dtype=torch.bool)
    not_negative[1, 4] = not_negative[4, 1] = True
    if kind == "infonce":
        expected = infonce_by_loop(image, text, 14.0, not_negative)
    else:
        expected = siglip_by_loop(image, text, 14.0, -10.0, not_negative)
    assert value == pytest.approx(expected, rel=1e-5)
    apart = compute_losses(*reversed(batch_and_outputs(APART, APART, APART)[:2]), TrainConfig(contrastive_loss=kind))
    assert value < apart["contrastive"].item()


def test_the_next_embedding_is_chosen_among_the_candidates_only():
    bank, predicted = units(6, 4, 5), units(2, 4, 6)
    excluded = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]], dtype=torch.bool)
    target = torch.tensor([2, 5])  # the second target is excluded as its own copy, and still counts
    value = next_embedding_loss(predicted @ bank.T, target, excluded, SCALE).item()
    expected = 0.0
    for query, own, keep in zip(predicted, target, ([2, 3, 4, 5], [0, 1, 2, 3, 5]), strict=True):
        logits = {j: float(SCALE * F.normalize(query, dim=0) @ bank[j]) for j in keep}
        expected += math.log(sum(map(math.exp, logits.values()))) - logits[int(own)]
    assert value == pytest.approx(expected / 2)


def test_the_in_story_weight_adds_the_choice_among_the_frames_of_the_story():
    batch, output, _ = batch_and_outputs(APART, APART, APART)
    both, first = (
        compute_losses(output, batch, TrainConfig(in_story_weight=w))["next_image"].item() for w in (2.0, 0.0)
    )
    cosines = F.normalize(output["next_image"].detach(), dim=-1) @ batch["image_bank"].T
    own = [[1, 2], [3, 4, 5], [6, 7, 8]]  # three frames per story; frame 0 is in the context
    log_likelihood = 0.0
    for row, frames, target in zip(cosines, own, batch["target"].tolist(), strict=True):
        log_likelihood += float((20 * row[frames]).log_softmax(0)[frames.index(target)])
    assert both - first == pytest.approx(-2 * log_likelihood / 3, rel=1e-4)


def test_an_excluded_frame_gets_no_gradient():
    bank, predicted = units(6, 4, 5).requires_grad_(), units(2, 4, 6)
    excluded = torch.zeros(2, 6, dtype=torch.bool)
    excluded[:, [1, 3]] = True
    next_embedding_loss(predicted @ bank.T, torch.tensor([0, 3]), excluded, SCALE).backward()
    assert not bank.grad[1].any()
    assert bank.grad[[0, 2, 3, 4, 5]].any(1).all()


def test_text_loss_is_the_mean_over_real_tokens():
    logits = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([[1, 2, -100, -100], [3, 4, 5, -100]])
    true = logits.log_softmax(-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]
    value = text_loss(true, tokens)
    assert torch.allclose(value, F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=-100))
    true[0, 2:] = -99.0
    assert torch.equal(value, text_loss(true, tokens))
    true[0, 1] -= 5
    assert text_loss(true, tokens).item() == pytest.approx(value.item() + 1)  # one of five tokens


def test_image_loss_by_hand():
    assert image_loss(torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.5])).item() == pytest.approx(0.375)


def test_the_image_loss_is_the_weighted_sum_of_its_parts():
    predicted, target = pictures(3), pictures(4)
    pixels, features = (predicted - target).abs().mean(), perceptual_distance(predicted, target).mean()
    assert torch.allclose(image_loss(predicted, target), pixels)
    assert torch.allclose(image_loss(predicted, target, feature_weight=0.5), pixels + 0.5 * features)
    output, batch = {"picture": predicted, "picture_divergence": torch.tensor(7.0)}, {"picture": target}
    off = dict.fromkeys(("next_image_weight", "next_text_weight", "text_weight", "contrastive_weight"), 0.0)
    config = TrainConfig(image_weight=2.0, feature_weight=0.5, divergence_weight=0.01, **off)
    assert torch.allclose(compute_losses(output, batch, config)["image"], 2 * (pixels + 0.5 * features + 0.07))
    five = image_loss(predicted.expand(5, -1, -1, -1), target.expand(5, -1, -1, -1), feature_weight=0.5)
    assert torch.allclose(five, pixels + 0.5 * features)
