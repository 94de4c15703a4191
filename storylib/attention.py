"""What of the context a prediction rests on.

Attention weights say where a layer looks, not what the answer depends on: with a single key every weight is 1 and
means nothing. So each frame's picture or text is swapped for another story's, and what counts is how far the prediction
moves. It can be asked of every architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.floors import Rotated
from storylib.model import StoryModel
from storylib.training import WindowDataset, forward_batches


@torch.inference_mode()
def attention(model: StoryModel, held: WindowDataset) -> dict[str, Any]:
    """influence: (2, 2, K) mean of 1 - cosine between the predicted next picture (then text) before and after the
    picture (then text) of frame k is another story's. mixture: the mean weights of the context in the next embeddings,
    oldest first, or None for a model without them.
    """
    model.eval()
    context = held.frames.shape[1] - 1
    moved, windows = torch.zeros(2, 2, context), 0
    heads = {"image": model.next_image, "text": model.next_text}
    mixtures = {name: torch.zeros(context) for name, head in heads.items() if hasattr(head, "mixture")}
    for batch, other in zip(forward_batches(model, held), forward_batches(model, Rotated(held)), strict=True):
        given, away = _context(model, batch), _context(model, other)
        with _listening(heads, mixtures):
            before = _predictions(model, given)
        for j, names in enumerate((("image",), ("text", "told"))):
            for k in range(context):
                swapped = {name: given[name].clone() for name in names}
                for name in names:
                    swapped[name][:, k] = away[name][:, k]
                after = _predictions(model, given | swapped)
                for i in range(2):
                    moved[i, j, k] += (1 - F.cosine_similarity(before[i], after[i], dim=-1)).sum().cpu()
        windows += len(batch["target"])
    weights = {name: _rounded(total / max(1, windows)) for name, total in mixtures.items()}
    return {"influence": _rounded(moved / max(1, windows)), "mixture": weights or None}


@contextmanager
def _listening(heads: Mapping[str, nn.Module], totals: dict[str, Tensor]) -> Iterator[None]:
    """Add up the weights that the heads' mixtures give, (B, K) each, while they predict."""

    def add(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, weights: Tensor) -> None:
            totals[name] += weights.sum(0).cpu()

        return hook

    hooks = [heads[name].get_submodule("mixture").register_forward_hook(add(name)) for name in totals]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _context(model: StoryModel, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The arguments of ``StoryModel.read``, (B, K, D) each."""
    whole = {"image": batch["image"], "text": batch["text"], "told": model.texts(batch)}
    return {name: values[:, :-1] for name, values in whole.items()}


def _predictions(model: StoryModel, given: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    out = model.read(given["image"], given["text"], given["told"])
    return out["next_image"], out["next_text"]


def _rounded(values: Tensor) -> Any:
    return [_rounded(v) for v in values] if values.ndim else round(float(values), 6)
