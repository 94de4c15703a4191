"""How much each input matters to a prediction: the change when one picture or text is replaced by another story's.

Attention weights do not show this: with a single key every weight is 1 whatever the input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.data.device import cpu_threads
from storylib.data.windows import OtherStories, WindowDataset
from storylib.experiments.records import Run
from storylib.experiments.runs import Data
from storylib.experiments.storyteller import Storyteller
from storylib.model import NextEmbedding, StoryModel, pair_similarity

BATCH = 64


def influence(run: Run, data: Data) -> dict[str, Any]:
    """The influence of each input on the held-out windows.

    influence: (2, 2, K) by prediction (picture, text), input (picture, text) and context frame, oldest first: the mean
    of 1 - cosine between the predicted embeddings before and after the input is swapped. mixture: for "image" and
    "text" the mean weight of each context frame in the next embedding; None for a model without these weights.
    """
    storyteller = Storyteller.of_run(run)
    model = storyteller.model
    windows = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, run.config)
    with cpu_threads(run.config.train.threads):
        return {"influence": measure_influence(model, windows), "mixture": mean_mixture(model, windows)}


def measure_influence(model: StoryModel, windows: WindowDataset) -> np.ndarray:
    """(2, 2, K), see ``influence``."""

    def predict(image_frames: Tensor, text_frames: Tensor) -> tuple[Tensor, Tensor]:
        """The next picture (B, Di) and text (B, Dt) from the pictures and the texts of frames, (B, K) each."""
        reading = model.read(windows.image[image_frames], windows.frame_texts(text_frames))
        return reading["next_image"], reading["next_text"]

    context, other_context = windows.frames[:, :-1], OtherStories(windows).frames[:, :-1]
    moved = torch.zeros(2, 2, context.shape[1])
    with torch.inference_mode():
        for rows in torch.arange(len(context)).split(BATCH):
            frames, others = context[rows], other_context[rows]
            before = predict(frames, frames)
            for k in range(context.shape[1]):
                swapped = frames.clone()
                swapped[:, k] = others[:, k]
                for side, after in enumerate((predict(swapped, frames), predict(frames, swapped))):
                    for head in range(2):
                        moved[head, side, k] += (1 - F.cosine_similarity(before[head], after[head], dim=-1)).sum()
    return (moved / max(1, len(context))).numpy()


def mean_mixture(model: StoryModel, windows: WindowDataset) -> dict[str, np.ndarray] | None:
    """The mean weights (K,) of the context in each next embedding, or None for a model without them."""
    if not isinstance(model.next_image, NextEmbedding) or not isinstance(model.next_text, NextEmbedding):
        return None
    mixtures = {"image": model.next_image.mixture, "text": model.next_text.mixture}
    context = windows.frames[:, :-1]
    with torch.inference_mode():
        images, texts = model.image_space(windows.image[context]), model.text_space(windows.text[context])
        similarity = pair_similarity(images, texts)
        return {name: mixture(similarity).mean(0).numpy() for name, mixture in mixtures.items()}
