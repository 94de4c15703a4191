"""Per-window scores as the columns that the registry's metrics sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.metrics import alignment, images, text
from storylib.metrics.registry import BLEU_COLUMNS, DIRECTIONS, METRICS


def text_columns(texts: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Scores of W plain texts against what is really written."""
    columns: dict[str, Any] = dict(zip(BLEU_COLUMNS, text.bleu_counts(texts, references).T, strict=True))
    scorers = {"rouge_l": text.rouge_l, "meteor": text.meteor, "chrf": text.chrf, "cider_d": text.cider_d}
    columns |= {name: scorer(texts, references) for name, scorer in scorers.items()}
    for prefix, part in (("made", texts), ("true", references)):
        for n in (1, 2):
            columns[f"{prefix}_kinds_{n}"], columns[f"{prefix}_grams_{n}"] = text.distinct_counts(part, n).T
    columns["words"] = [len(text.words(t)) for t in texts]
    columns["true_words"] = [len(text.words(t)) for t in references]
    columns["generation"] = list(texts)
    return columns


def picture_columns(pictures: Tensor, targets: Tensor) -> dict[str, Any]:
    """Scores of W pictures against the true ones, both (W, 3, S, S) in 0..1."""
    l1, ssim = images.image_errors(pictures, targets)
    sharpness, true_sharpness = images.sharpness(pictures), images.sharpness(targets)
    return {"image_l1": l1, "image_ssim": ssim, "sharpness": sharpness, "true_sharpness": true_sharpness}


def alignment_columns(image: Tensor, text: Tensor, random: bool) -> dict[str, Any]:
    """How pictures and texts (F, D) lie relative to each other; random: as chance gives it for the same vectors."""
    if random:
        distance = alignment.chance_alignment(image, text)
        image, text = alignment.shuffled_pairs(image, text)
        noise = torch.randn(2, *image.shape, generator=torch.Generator().manual_seed(0))
        image_directions, text_directions = F.normalize(noise, dim=-1)
    else:
        distance = alignment.alignment_distance(image, text)
        image_directions, text_directions = image, text
    columns = {
        "alignment": distance,
        "modality_gap": alignment.modality_gap(image, text),
        "image_uniformity": alignment.uniformity(image_directions),
        "text_uniformity": alignment.uniformity(text_directions),
    }
    return {name: values.numpy() for name, values in columns.items()}


def principal_directions(features: np.ndarray) -> np.ndarray:
    """(D, DIRECTIONS) principal directions of features (N, D), in units of the largest's standard deviation."""
    centred = features - features.mean(0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    basis = np.zeros((features.shape[1], DIRECTIONS))
    count = min(DIRECTIONS, len(directions))
    basis[:, :count] = directions[:count].T / max(lengths[0] / np.sqrt(len(features)), 1e-12)
    return basis


def best_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The best of several predictions, metric by metric and window by window, for metrics of single windows."""
    best = tables[0][["story", "frame", "tokens"]].copy()
    for column in map(str, tables[0].columns):
        values = [table[column].to_numpy() for table in tables]
        metric = METRICS.get(column)
        if column.endswith("_rank"):
            best[column] = np.fmin.reduce(values)
        elif column.endswith("_candidates"):
            best[column] = values[0]
        elif metric is not None and metric.ideal is None and not np.isnan(values).all():
            best[column] = (np.fmax if metric.higher_is_better else np.fmin).reduce(values)
    if "bleu_0" in tables[0]:
        precision = [table["bleu_0"] / table["bleu_4"].clip(lower=1) for table in tables]
        choice = np.argmax(precision, axis=0)
        counts = np.stack([table[BLEU_COLUMNS].to_numpy() for table in tables])
        best[BLEU_COLUMNS] = counts[choice, np.arange(len(best))]
    return best
