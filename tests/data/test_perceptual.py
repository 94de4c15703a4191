"""The perceptual distance of pictures."""

from __future__ import annotations

import torch
from conftest import pictures

from storylib.data.perceptual import first_stages, perceptual_distance


def test_it_is_zero_for_equal_pictures_and_grows_with_blur():
    target = pictures(0, 1)
    assert perceptual_distance(target, target).tolist() == [0, 0]
    mild, strong = (torch.nn.functional.avg_pool2d(target, k, 1, k // 2) for k in (3, 7))
    mild, strong = perceptual_distance(mild, target), perceptual_distance(strong, target)
    assert (mild > 0).all() and (mild < strong).all()


def test_each_picture_is_compared_with_its_own_target():
    one, other = pictures(2, 3, 4), pictures(5, 3, 6)
    together = perceptual_distance(one, other)
    alone = torch.cat([perceptual_distance(one[i : i + 1], other[i : i + 1]) for i in range(3)])
    assert together.shape == (3,) and torch.allclose(together, alone, atol=1e-5)
    assert together[1] == 0 and together[0] != together[2]


def test_the_network_is_frozen_and_gradients_reach_the_picture():
    predicted = torch.full((1, 3, 32, 32), 0.4, requires_grad=True)
    perceptual_distance(predicted, pictures(2)).sum().backward()
    assert predicted.grad.abs().sum() > 0
    assert not any(p.requires_grad or p.grad is not None for stage in first_stages() for p in stage.parameters())
