"""The decoder of the picture to expect and the one that samples, and how pictures differ in a network's eyes."""

from __future__ import annotations

import pytest
import torch
from conftest import noise

from storylib.image_decoders import FREE, IMAGE_DECODERS, ImageDecoder, SamplingImageDecoder
from storylib.losses import image_loss
from storylib.perception import feature_distance, first_stages

WIDTH, FRAMES = 8, 3
BOTH = pytest.mark.parametrize("kind", IMAGE_DECODERS)


@BOTH
@pytest.mark.parametrize("size", [16, 64, 128])
def test_an_untrained_picture_is_the_mean_of_the_context(kind, size):
    decoder = IMAGE_DECODERS[kind](WIDTH, FRAMES, size)
    context = torch.rand(2, FRAMES, 3, size, size)
    assert torch.allclose(decoder(torch.randn(2, WIDTH), context), context.mean(1), atol=1e-6)


@pytest.mark.parametrize("size", [0, 3, 8, 63, 96])
def test_a_size_that_cannot_be_upsampled_to_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size must be 16, 32, 64, 128 and so on, not {size}"):
        ImageDecoder(WIDTH, FRAMES, size)


@BOTH
def test_the_picture_learns_from_state_and_context(kind):
    torch.manual_seed(0)
    decoder = IMAGE_DECODERS[kind](WIDTH, FRAMES, 16)
    decoder.paint.weight.data.normal_()
    state, context = torch.randn(2, WIDTH, requires_grad=True), torch.rand(2, FRAMES, 3, 16, 16, requires_grad=True)
    decoder(state, context).square().sum().backward()
    assert state.grad.any(-1).all() and context.grad.flatten(2).any(-1).all()


def test_a_frame_that_is_chosen_is_copied_sharp():
    """With all of its share on one frame and nothing painted, the picture is that frame to the last pixel."""
    decoder = ImageDecoder(WIDTH, FRAMES, 32)
    decoder.paint.bias.data[1] = 100.0
    context = torch.rand(2, FRAMES, 3, 32, 32)
    assert torch.allclose(decoder(torch.randn(2, WIDTH), context), context[:, 1], atol=1e-6)


@pytest.fixture
def sampler():
    torch.manual_seed(0)
    decoder = SamplingImageDecoder(WIDTH, FRAMES, 16)
    decoder.paint.weight.data.normal_(std=0.1)
    return decoder


def draw(decoder, seed, k=3):
    generator = torch.Generator().manual_seed(1)
    state, context = torch.randn(2, WIDTH, generator=generator), torch.rand(2, FRAMES, 3, 16, 16, generator=generator)
    return decoder.sample(state, context, k, torch.Generator().manual_seed(seed))


def test_samples_differ_from_each_other_and_follow_the_seed(sampler):
    drawn = draw(sampler, 0)
    assert drawn.shape == (2, 3, 3, 16, 16) and not drawn.requires_grad
    assert all(not torch.allclose(drawn[:, i], drawn[:, j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert torch.equal(draw(sampler, 0), drawn) and not torch.equal(draw(sampler, 1), drawn)


def test_a_prior_that_is_sure_draws_one_picture(sampler):
    sampler.prior.bias.data[32:] = -100.0
    drawn = draw(sampler, 0)
    assert torch.allclose(drawn[:, 0], drawn[:, 1]) and torch.allclose(drawn[:, 0], drawn[:, 2])


def test_half_of_a_batch_learns_without_a_latent(sampler):
    state, context, target = torch.randn(5, WIDTH), torch.rand(5, FRAMES, 3, 16, 16), torch.rand(5, 3, 16, 16)
    out = sampler.train().learn(state, context, target)
    expected = sampler(state, context)
    assert torch.allclose(out["picture"][3:], expected[3:], atol=1e-6)
    assert (out["picture"][:3] - expected[:3]).abs().amax((1, 2, 3)).min() > 1e-3
    told = sampler.eval().learn(state, context, target)  # a validation sees the picture to expect, and no chance
    assert set(told) == {"picture"} and torch.equal(told["picture"], expected)


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_divergence_is_that_of_the_two_normal_distributions_beyond_what_is_free(sampler, scale):
    from torch.distributions import Normal, kl_divergence

    torch.nn.init.normal_(sampler.prior.weight, std=0.01)
    sampler.posterior[-1].bias.data.zero_()
    sampler.posterior[-1].weight.data *= torch.tensor([scale, 0.1]).repeat_interleave(32)[:, None]
    state, context, target = torch.randn(1, WIDTH), torch.rand(1, FRAMES, 3, 16, 16), torch.rand(1, 3, 16, 16)
    found = sampler.train().learn(state, context, target)["picture_divergence"]
    mean, deviation = sampler.read(state, context, target).chunk(2, -1)
    expected, spread = sampler.prior(state).chunk(2, -1)
    wanted = kl_divergence(Normal(mean, deviation.exp()), Normal(expected, spread.exp())).sum().item()
    assert (wanted > FREE) == (scale > 1)
    assert found.item() == pytest.approx(max(0.0, wanted - FREE), rel=1e-4)


def test_samples_learn_what_may_come():
    """From the same state one frame or the other comes back: most samples are one of the two."""
    torch.manual_seed(0)
    decoder = SamplingImageDecoder(WIDTH, 2, 16, latent=4).train()
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    state = torch.ones(32, WIDTH)
    context = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(32, 2, 3, 16, 16)
    for _ in range(60):
        target = torch.randint(0, 2, (32, 1, 1, 1)).float().expand(-1, 3, 16, 16)
        out = decoder.learn(state, context, target)
        loss = image_loss(out["picture"], target, out["picture_divergence"], divergence_weight=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = decoder.eval().sample(state[:1], context[:1], 40, torch.Generator().manual_seed(0))[0].mean((1, 2, 3))
    dark, light = (drawn < 0.3).float().mean(), (drawn > 0.7).float().mean()
    assert dark > 0.15 and light > 0.15 and dark + light > 0.6


# ---- the feature-space term


def pictures(*numbers):
    from torchvision.transforms.functional import to_tensor

    return torch.stack([to_tensor(noise(n, (32, 32))) for n in numbers])


def test_the_distance_is_zero_at_home_and_grows_with_blur():
    target = pictures(0, 1)
    assert feature_distance(target, target).item() == 0
    mild, strong = (torch.nn.functional.avg_pool2d(target, k, 1, k // 2) for k in (3, 7))
    assert 0 < feature_distance(mild, target) < feature_distance(strong, target)


def test_the_network_is_frozen_and_the_picture_learns():
    predicted = torch.full((1, 3, 32, 32), 0.4, requires_grad=True)
    feature_distance(predicted, pictures(2)).backward()
    assert predicted.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for stage in first_stages() for p in stage.parameters())


def test_the_image_loss_adds_up():
    predicted, target = pictures(3), pictures(4)
    pixels, features = (predicted - target).abs().mean(), feature_distance(predicted, target)
    assert torch.allclose(image_loss(predicted, target), pixels)
    whole = image_loss(predicted, target, torch.tensor(7.0), feature_weight=0.5, divergence_weight=0.01)
    assert torch.allclose(whole, pixels + 0.5 * features + 0.07)
    five = image_loss(predicted.expand(5, -1, -1, -1), target.expand(5, -1, -1, -1), feature_weight=0.5)
    assert torch.allclose(five, pixels + 0.5 * features)
