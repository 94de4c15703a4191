"""How the two clouds of a shared space lie to each other: the pictures' unit vectors and the texts'.

Each measure comes as one column with a value a page whose mean is the measure, so that it can be bootstrapped over
stories like any other; where a measure looks at pairs of pages, the column holds jackknife pseudo-values.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def alignment_distance(image: Tensor, text: Tensor) -> Tensor:
    """(P,) squared distance of each picture to its own text (Wang and Isola 2020, alpha = 2). image, text: (P, D)."""
    return ((image - text) ** 2).sum(1)


def chance_alignment(image: Tensor, text: Tensor) -> Tensor:
    """(P,) the same to the text of a page drawn at random, its own included: the mean over all."""
    return (image**2).sum(1) + (text**2).sum(1).mean() - 2 * image @ text.mean(0)


def uniformity(vectors: Tensor, block: int = 1024) -> Tensor:
    """(P,) whose mean is the mean over all pairs of exp(-2 d^2), d being their distance; its log is the uniformity.

    Wang and Isola 2020, t = 2. Lower is more uniform. A page is in two sides of its pairs, hence the pseudo-values
    2 h_i - h of the pair statistic h, with h_i the mean over the pairs of page i.
    """
    count = len(vectors)
    if count < 2:
        return torch.full((count,), torch.nan)
    rows = []
    for start in range(0, count, block):
        similarity = vectors[start : start + block] @ vectors.T
        rows.append((torch.exp(-2 * (2 - 2 * similarity)).sum(1) - 1) / (count - 1))  # less the page with itself
    each = torch.cat(rows)
    return 2 * each - each.mean()


def modality_gap(image: Tensor, text: Tensor) -> Tensor:
    """(P,) whose mean is the distance between the centres of pictures and texts (Liang et al. 2022).

    Each page's own difference, seen along the direction of the gap.
    """
    difference = image - text
    gap = difference.mean(0)
    return difference @ F.normalize(gap, dim=0)


def shuffled_pairs(image: Tensor, text: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The same vectors with picture and text swapped in half of the pages, at random: modality means nothing."""
    swap = torch.rand(len(image), 1, generator=torch.Generator().manual_seed(seed)) < 0.5
    return torch.where(swap, text, image), torch.where(swap, image, text)


def fit_linear_map(source: Tensor, target: Tensor, strength: float = 1.0) -> Tensor:
    """(D + 1, E) ridge regression from one space (P, D) to another (P, E), the last row being the intercept.

    strength: of the penalty, in units of the mean eigenvalue of the source's second moments.
    """
    mean, aim = source.mean(0), target.mean(0)
    x, y = (source - mean).double(), (target - aim).double()
    gram = x.T @ x
    penalty = strength * gram.trace() / len(gram) + 1e-9
    weights = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=torch.double), x.T @ y)
    return torch.cat([weights, (aim.double() - mean.double() @ weights)[None]]).float()


def apply_linear_map(weights: Tensor, source: Tensor) -> Tensor:
    """(P, E) of source (P, D), by the result of ``fit_linear_map``."""
    return source @ weights[:-1] + weights[-1]
