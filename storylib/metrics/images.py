"""Predicted pictures scored against the true ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.data.perceptual import perceptual_distance

BLOCK = 256  # pictures that are compared at once


def picture_columns(pictures: Tensor, targets: Tensor) -> dict[str, Any]:
    """Scores of W pictures against the true ones, both (W, 3, S, S) in 0..1."""
    l1, ssim = image_errors(pictures, targets)
    distance = [perceptual_distance(p, t) for p, t in zip(pictures.split(BLOCK), targets.split(BLOCK), strict=True)]
    columns = {"image_l1": l1, "image_ssim": ssim, "picture_distance": torch.cat(distance).numpy()}
    return columns | {"sharpness": sharpness(pictures), "true_sharpness": sharpness(targets)}


def image_errors(predicted: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N,) L1 and (N,) SSIM (Wang et al. 2004; torchmetrics) of pictures (N, 3, S, S) in 0..1."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    predicted = predicted.clamp(0, 1)
    blocks = zip(predicted.split(BLOCK), target.split(BLOCK), strict=True)  # SSIM of all at once takes too much memory
    similarity = [torch.as_tensor(ssim(p, t, data_range=1.0, reduction="none")).reshape(-1) for p, t in blocks]
    return (predicted - target).abs().mean((1, 2, 3)).numpy(), torch.cat(similarity).numpy()


def sharpness(pictures: Tensor) -> np.ndarray:
    """(N,) variance of the Laplacian of the grey picture, (N, 3, S, S) in 0..1: low where edges are blurred."""
    grey = (pictures.clamp(0, 1) * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    return F.conv2d(grey, kernel).flatten(1).var(1, unbiased=False).numpy()


def between_samples(samples: Tensor) -> np.ndarray:
    """(N,) mean absolute difference between two samples of a window, over all pairs. samples: (N, k, 3, S, S)."""
    n, k = samples.shape[:2]
    total = torch.zeros(n)
    for i in range(k):
        for j in range(i):
            total += (samples[:, i] - samples[:, j]).abs().mean((1, 2, 3))
    return (total / max(1, k * (k - 1) // 2)).numpy()
