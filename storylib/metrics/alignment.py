"""How pictures and texts lie in their shared space, as unit vectors: a value per frame, whose mean is the measure."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment_columns(image: Tensor, text: Tensor, random: bool) -> dict[str, Any]:
    """How pictures and texts (F, D) lie relative to each other; random: as chance gives it for the same vectors."""
    distance = ((image - text) ** 2).sum(1)  # Wang and Isola 2020, alpha = 2
    directions = torch.stack([image, text])
    if random:
        distance = chance_alignment(image, text)
        image, text = shuffled_pairs(image, text)
        directions = F.normalize(torch.randn(2, *image.shape, generator=torch.Generator().manual_seed(0)), dim=-1)
    columns = {"alignment": distance, "modality_gap": modality_gap(image, text)}
    columns |= {"image_uniformity": uniformity(directions[0]), "text_uniformity": uniformity(directions[1])}
    return {name: values.numpy() for name, values in columns.items()}


def chance_alignment(image: Tensor, text: Tensor) -> Tensor:
    """(P,) squared distance of each picture to the text of a random frame in expectation: the mean over all texts."""
    return (image**2).sum(1) + (text**2).sum(1).mean() - 2 * image @ text.mean(0)


def uniformity(vectors: Tensor) -> Tensor:
    """(P,) whose mean is that of exp(-2 d^2) over all pairs with distance d; its logarithm is the uniformity.

    Wang and Isola 2020, t = 2. Lower is more uniform. Each pair has two frames, hence the jackknife pseudo-values
    2 h_i - h of the pair statistic h, with h_i the mean over the pairs of frame i. NaN for a single frame.
    """
    count = len(vectors)
    if count < 2:
        return torch.full((count,), torch.nan)
    sums = []
    for block in vectors.split(1024):
        similarity = block @ vectors.T
        sums.append(torch.exp(-2 * (2 - 2 * similarity)).sum(1) - 1)  # without the frame paired with itself
    per_frame = torch.cat(sums) / (count - 1)
    return 2 * per_frame - per_frame.mean()


def modality_gap(image: Tensor, text: Tensor) -> Tensor:
    """(P,) each frame's difference along the gap between the centres; its mean is the gap (Liang et al. 2022)."""
    difference = image - text
    return difference @ F.normalize(difference.mean(0), dim=0)


def shuffled_pairs(image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """The same vectors with picture and text swapped in a random half of the frames: chance of the modality gap."""
    swap = torch.rand(len(image), 1, generator=torch.Generator().manual_seed(0)) < 0.5
    return torch.where(swap, text, image), torch.where(swap, image, text)


def fit_linear_map(source: Tensor, target: Tensor) -> Tensor:
    """(D + 1, E) ridge regression from one space (P, D) to another (P, E); the last row is the intercept.

    The penalty is the mean eigenvalue of the source's second moments. scikit-learn's Ridge takes a second to import.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    x, y = (source - source_mean).double(), (target - target_mean).double()
    gram = x.T @ x
    penalty = gram.trace() / len(gram) + 1e-9
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=torch.double), x.T @ y)
    return torch.cat([weights, (target_mean.double() - source_mean.double() @ weights)[None]]).float()


def apply_linear_map(weights: Tensor, source: Tensor) -> Tensor:
    """(P, E) of source (P, D), by the result of ``fit_linear_map``."""
    return source @ weights[:-1] + weights[-1]
