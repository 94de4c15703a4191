"""How much each input matters to a prediction: the change when one picture or text is replaced by another story's.

Attention weights do not show this: with a single key every weight is 1 whatever the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.data.device import cpu_threads
from storylib.data.windows import OtherStories, WindowDataset
from storylib.experiments.records import Run
from storylib.experiments.runs import Data
from storylib.experiments.storyteller import Storyteller
from storylib.model import StoryModel

BATCH = 64
PREDICTIONS, INPUTS = ("next picture", "next text"), ("picture", "text")


def influence(runs: Sequence[Run], data: Data) -> pd.DataFrame:
    """The influence of each input on the held-out windows, its mean over some runs: a row per prediction and input.

    Columns are the context frames, oldest first. Values: the mean of 1 - cosine between the predicted embeddings before
    and after the input is swapped. An input with influence 0 is not used.
    """
    moved = []
    for run in runs:
        storyteller = Storyteller.of_run(run)
        windows = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, run.config)
        with cpu_threads(run.config.train.threads):
            moved.append(measure_influence(storyteller.model, windows))
    mean = np.mean(moved, axis=0)
    index = pd.MultiIndex.from_product([PREDICTIONS, INPUTS], names=["prediction", "swapped input"])
    return pd.DataFrame(mean.reshape(len(index), -1), index, range(1, mean.shape[-1] + 1)).rename_axis(columns="frame")


def measure_influence(model: StoryModel, windows: WindowDataset) -> np.ndarray:
    """(2, 2, K) by prediction, input and context frame, see ``influence``."""

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
