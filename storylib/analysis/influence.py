"""How much each input matters to a prediction: the change when one picture or text is replaced by another story's.

Attention weights do not show this: with a single key every weight is 1 whatever the input.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from storylib.data.code import code_fingerprint
from storylib.data.store import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from storylib.data.windows import WindowDataset
    from storylib.experiments.records import Run
    from storylib.experiments.runs import Data
    from storylib.model import StoryModel

BATCH = 64


def influence(run: Run, data: Data) -> dict[str, Any]:
    """The influence of each input on the held-out windows, kept in the run's folder as ``influence.json``.

    influence: (2, 2, K) by prediction (picture, text), input (picture, text) and context frame, oldest first: the mean
    of 1 - cosine between the predicted embeddings before and after the input is swapped. mixture: for "image" and
    "text" the mean weight of each context frame in the next embedding; None for a model without these weights.
    """
    path, code = run.path / "influence.json", code_fingerprint("analysis.influence")
    if path.exists():
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["code"] == code:
            return stored

    from storylib.data.device import cpu_threads
    from storylib.data.windows import WindowDataset
    from storylib.experiments.storyteller import Storyteller

    storyteller = Storyteller.of_run(run)
    model = storyteller.model
    windows = WindowDataset(data.features, data.splits.test, storyteller.vocabulary, run.config)
    with cpu_threads(run.config.train.threads):
        result = {"code": code, "influence": measure_influence(model, windows), "mixture": mean_mixture(model, windows)}
    write_atomically(path, json.dumps(result))
    return result


def measure_influence(model: StoryModel, windows: WindowDataset) -> list[Any]:
    """(2, 2, K) nested lists, see ``influence``."""
    import torch
    import torch.nn.functional as F

    from storylib.data.windows import OtherStories

    def predict(image_frames: Tensor, text_frames: Tensor) -> list[Tensor]:
        """The next picture (B, Di) and text (B, Dt) from the pictures and the texts of frames, (B, K) each."""
        reading = model.read(windows.image[image_frames], windows.frame_texts(text_frames))
        return [reading["next_image"], reading["next_text"]]

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
    return rounded(moved / max(1, len(context)))


def mean_mixture(model: StoryModel, windows: WindowDataset) -> dict[str, list[float]] | None:
    """The mean weights (K,) of the context in each next embedding, or None for a model without them."""
    import torch

    from storylib.model import NextEmbedding, pair_similarity

    if not isinstance(model.next_image, NextEmbedding) or not isinstance(model.next_text, NextEmbedding):
        return None
    mixtures = {"image": model.next_image.mixture, "text": model.next_text.mixture}
    context = windows.frames[:, :-1]
    totals = {name: torch.zeros(context.shape[1]) for name in mixtures}
    with torch.inference_mode():
        for frames in context.split(BATCH):
            similarity = pair_similarity(
                model.image_space(windows.image[frames]), model.text_space(windows.text[frames])
            )
            for name, mixture in mixtures.items():
                totals[name] += mixture(similarity).sum(0)
    return {name: rounded(total / max(1, len(context))) for name, total in totals.items()}


def rounded(values: Tensor) -> Any:
    """Nested lists with six digits."""
    return values.double().numpy().round(6).tolist()
