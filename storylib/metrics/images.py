"""Pictures against pictures: pixel by pixel, and as clouds of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def image_errors(predicted: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N,) L1 and (N,) SSIM (Wang et al. 2004; torchmetrics) of pictures (N, 3, S, S) in 0..1."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    predicted = predicted.clamp(0, 1)
    l1 = (predicted - target).abs().mean((1, 2, 3))
    similarity = [
        ssim(p, t, data_range=1.0, reduction="none")
        for p, t in zip(predicted.split(256), target.split(256), strict=True)
    ]
    values: Any = torch.cat([torch.as_tensor(s).reshape(-1) for s in similarity])
    return l1.numpy(), values.numpy()


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


def moments(features: np.ndarray) -> np.ndarray:
    """(N, 1 + D + D^2) columns whose sums are the count, the sums and the sums of products of features (N, D)."""
    products = features[:, :, None] * features[:, None, :]
    return np.concatenate([np.ones((len(features), 1)), features, products.reshape(len(features), -1)], axis=1)


def frechet_from_moments(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Fréchet distance between two normal clouds from sums of ``moments``, (..., 1 + D + D^2) each -> (...)."""
    (mean, covariance), (mean_, covariance_) = (_mean_and_covariance(m) for m in (ours, theirs))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(min=0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    # The trace of (A B)^(1/2) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariance_ @ root).clip(min=0)).sum(-1)
    spread = np.trace(covariance, axis1=-2, axis2=-1) + np.trace(covariance_, axis1=-2, axis2=-1)
    return np.maximum(((mean - mean_) ** 2).sum(-1) + spread - 2 * cross, 0)


def frechet_distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Fréchet distance between the normal distributions fitted to features (N, D) and (M, D) (Heusel et al. 2017)."""
    return float(frechet_from_moments(moments(ours).sum(0), moments(theirs).sum(0)))


def _mean_and_covariance(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (..., 1 + D + D^2) sums; the covariance has the count, not one less, below the line."""
    size = int(np.sqrt(sums.shape[-1]))  # 1 + D + D^2 lies between D^2 and (D + 1)^2
    count = sums[..., :1]
    mean = sums[..., 1 : size + 1] / count
    products = (sums[..., size + 1 :] / count).reshape(*sums.shape[:-1], size, size)
    return mean, products - mean[..., :, None] * mean[..., None, :]
