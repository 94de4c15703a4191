"""The Fréchet distance between two sets of features (Heusel et al. 2017), from sums that a bootstrap can resample."""

from __future__ import annotations

import numpy as np

DIRECTIONS = 16  # principal directions of picture features in which the distance is taken


def principal_directions(features: np.ndarray) -> np.ndarray:
    """(D, DIRECTIONS) principal directions of features (N, D), in units of the largest's standard deviation."""
    centred = features - features.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    basis = np.zeros((features.shape[1], DIRECTIONS))
    count = min(DIRECTIONS, len(directions))
    basis[:, :count] = directions[:count].T / max(lengths[0] / np.sqrt(len(features)), 1e-12)
    return basis


def moments(features: np.ndarray) -> np.ndarray:
    """(N, 1 + D + D^2) columns whose sums are the count, the sums and the sums of products of features (N, D)."""
    products = features[:, :, None] * features[:, None, :]
    return np.concatenate([np.ones((len(features), 1)), features, products.reshape(len(features), -1)], axis=1)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distance between two normal distributions from sums of ``moments``, (..., 1 + D + D^2) each -> (...)."""
    (mean_a, covariance_a), (mean_b, covariance_b) = (_mean_and_covariance(sums) for sums in (a, b))
    try:
        root = np.linalg.cholesky(covariance_b)  # cheaper than its eigenvectors
    except np.linalg.LinAlgError:  # singular
        values, vectors = np.linalg.eigh(covariance_b)
        root = vectors * np.sqrt(values.clip(min=0))[..., None, :]
    # The trace of (A B)^(1/2) is the sum of the roots of the eigenvalues of R^T A R, where B = R R^T.
    cross = np.sqrt(np.linalg.eigvalsh(np.swapaxes(root, -1, -2) @ covariance_a @ root).clip(min=0)).sum(-1)
    spread = np.trace(covariance_a, axis1=-2, axis2=-1) + np.trace(covariance_b, axis1=-2, axis2=-1)
    return np.maximum(((mean_a - mean_b) ** 2).sum(-1) + spread - 2 * cross, 0)


def _mean_and_covariance(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (..., 1 + D + D^2) sums; the covariance is divided by the count, not by one less."""
    size = int(np.sqrt(sums.shape[-1]))  # 1 + D + D^2 lies between D^2 and (D + 1)^2
    count = sums[..., :1]
    mean = sums[..., 1 : size + 1] / count
    products = (sums[..., size + 1 :] / count).reshape(*sums.shape[:-1], size, size)
    return mean, products - mean[..., :, None] * mean[..., None, :]
