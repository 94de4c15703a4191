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
from storylib.data.windows import Batch, WindowDataset, other_story
from storylib.decoders import text_context
from storylib.experiments.records import Run
from storylib.experiments.runs import Data
from storylib.experiments.storyteller import Storyteller
from storylib.model import StoryModel

BATCH = 64
INPUTS = ("picture", "text")
PREDICTIONS = ("next picture", "next text", "true words")  # in 1 - cosine, 1 - cosine, and nats per word


def influence(runs: Sequence[Run], data: Data) -> pd.DataFrame:
    """The influence of each input on the held-out windows, its mean over some runs: a row per prediction and input.

    Columns are the context frames, oldest first. Values: the mean of 1 - cosine between the predicted embeddings before
    and after the input is swapped, and how many nats per word more the true text then costs. There only the story state
    reads the other input; the texts that the decoder itself reads stay. An input with influence 0 is not used.
    """
    moved = []
    for run in runs:
        storyteller = Storyteller.of_run(run)
        windows = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, run.config)
        with cpu_threads(run.config.train.threads):
            moved.append(measure_influence(storyteller.model, windows))
    mean = np.mean(moved, axis=0)
    index = pd.MultiIndex.from_product([PREDICTIONS[: len(mean)], INPUTS], names=["prediction", "swapped input"])
    return pd.DataFrame(mean.reshape(len(index), -1), index, range(1, mean.shape[-1] + 1)).rename_axis(columns="frame")


def measure_influence(model: StoryModel, windows: WindowDataset) -> np.ndarray:
    """(P, 2, K) by prediction, input and context frame, see ``influence``; without a text decoder P is 2."""

    def predict(images: Tensor, texts: Tensor, batch: Batch) -> list[Tensor]:
        """The next picture (B, Di) and text (B, Dt) from frames (B, K) each, and the true text's nats (B,)."""
        reading = model.read(windows.image[images], windows.text[texts])
        predictions = [reading["next_image"], reading["next_text"]]
        if windows.writes:
            tokens = batch["tokens"].clamp(min=0)
            predictions.append(-model.text_decoder(reading["story"], tokens, text_context(batch)).sum(1))
        return predictions

    context = windows.frames[:, :-1]
    other_context = context[other_story(windows.story_id[context[:, 0]])]
    words = sum(len(windows.scored_texts[target].split()) for target in windows.frames[:, -1].tolist())
    counts = torch.tensor([len(context), len(context), words][: 2 + windows.writes]).clamp(min=1)
    moved = torch.zeros(len(counts), 2, context.shape[1])
    with torch.inference_mode():
        for rows in torch.arange(len(context)).split(BATCH):
            batch, frames = windows.__getitems__(rows.tolist()), context[rows]
            before = predict(frames, frames, batch)
            for k in range(context.shape[1]):
                swapped = frames.clone()
                swapped[:, k] = other_context[rows, k]
                for side, after in enumerate((predict(swapped, frames, batch), predict(frames, swapped, batch))):
                    for i, (a, b) in enumerate(zip(before, after, strict=True)):
                        moved[i, side, k] += ((b - a) if i == 2 else 1 - F.cosine_similarity(a, b, dim=-1)).sum()
    return (moved / counts[:, None, None]).numpy()
