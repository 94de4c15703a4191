"""How different two pictures look: the distance of what a frozen network's first layers see (Zhang et al. 2018)."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.data.encoders import load_image_encoder


def perceptual_distance(predicted: Tensor, target: Tensor) -> Tensor:
    """(N,) of pictures (N, 3, S, S) in 0..1; with gradients for the predicted ones.

    The mean absolute difference of unit-length features at each place, averaged over the layers, without the learned
    weights of Zhang et al. It penalises blurred edges, which the error of the pixels hardly does.
    """
    with torch.no_grad():
        target_features = _local_features(target)
    pairs = zip(_local_features(predicted), target_features, strict=True)
    return torch.stack([(a - b).abs().sum(1).mean((1, 2)) for a, b in pairs]).mean(0)


def _local_features(pictures: Tensor) -> list[Tensor]:
    features, x = [], pictures * 2 - 1  # the network's mean and standard deviation are 0.5
    for stage in first_stages(str(pictures.device)):
        x = stage(x)
        features.append(F.normalize(x, dim=1, eps=1e-3))
    return features


@cache
def first_stages(device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """Stem and first two stages of EfficientNet-lite0: 32 maps at half the size, then 24 at a quarter.

    Its weights come with a package, so no hub is needed. Deeper layers cost more and see less of a drawing's lines.
    """
    network: Any = load_image_encoder("efficientnet_lite0", device).network
    stem = nn.Sequential(network.conv_stem, network.bn1)
    stages = nn.Sequential(*list(network.blocks)[:2])
    return stem.eval().requires_grad_(False), stages.eval().requires_grad_(False)
