"""How unlike two pictures look: their distance in the first layers of a frozen network, not pixel by pixel."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.encoders import load_image_encoder


@cache
def first_stages(device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """The stem and the first two stages of EfficientNet-lite0: 32 maps at half the size, then 24 at a quarter.

    Its weights come with a package, so no hub is needed; deeper layers cost more and see less of a drawing's lines.
    """
    network: Any = load_image_encoder("efficientnet_lite0", device).network
    stem = nn.Sequential(network.conv_stem, network.bn1)
    stages = nn.Sequential(*list(network.blocks)[:2])
    return stem.eval().requires_grad_(False), stages.eval().requires_grad_(False)


def feature_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of unit-length features at each place, (B, 3, S, S) in 0..1 each -> scalar.

    Zhang et al. (2018) without their learned weights; blurred edges, which the pixels' error forgives, cost here.
    """
    distance = predicted.new_zeros(())
    with torch.no_grad():
        wanted = _features(target)
    for ours, theirs in zip(_features(predicted), wanted, strict=True):
        distance = distance + (ours - theirs).abs().sum(1).mean() / len(wanted)
    return distance


def _features(pictures: Tensor) -> list[Tensor]:
    found, maps = [], pictures * 2 - 1  # the network's mean and standard deviation are 0.5
    for stage in first_stages(str(pictures.device)):
        maps = stage(maps)
        found.append(F.normalize(maps, dim=1, eps=1e-3))
    return found
