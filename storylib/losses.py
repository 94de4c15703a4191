"""Every training loss: small functions, and one named dictionary that is summed once.

Several processes may share a batch (``accelerate launch``). ``Group`` gathers their rows together with their gradients,
so that the losses come out as if one process had seen the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from storylib.config import TrainConfig
from storylib.data.perceptual import perceptual_distance
from storylib.data.windows import Batch
from storylib.model import ModelOutput

T = TypeVar("T")
Losses = dict[str, Tensor]  # scalars by name, weighted


@dataclass(frozen=True)
class Group:
    """The processes of one training, seen from one of them. A single process is a group of one."""

    rank: int = 0  # this process; 0 is the main one, which alone writes files
    size: int = 1

    def total(self, count: Tensor) -> Tensor:
        """The sum over all processes, without gradients."""
        if self.size > 1:
            count = count.detach().clone()
            dist.all_reduce(count)
        return count

    def gather(self, rows: Tensor) -> Tensor:
        """The rows (N_r, ...) of every process in the order of their ranks, with the gradients of one's own.

        From all rows every process computes the same loss, and their gradients are averaged: hence times their number.
        """
        if self.size == 1:
            return rows
        lengths = self.collect(len(rows))
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows.detach()
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        parts = [part[:length] for part, length in zip(parts, lengths, strict=True)]
        parts[self.rank] = rows.detach() + self.size * (rows - rows.detach())
        return torch.cat(parts)

    def agree(self, value: T) -> T:
        """The main process's value, in every process; all wait here for each other."""
        return self.collect(value)[0]

    def collect(self, value: T) -> list[T]:
        """Every process's value, by rank, in every process."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values


ALONE = Group()


def contrastive_loss(
    image: Tensor, text: Tensor, scale: Tensor, not_negative: Tensor, kind: str = "infonce", bias: Tensor | None = None
) -> Tensor:
    """Image-text alignment over the pairs of a batch.

    image, text: (N, D) unit vectors, pair i in row i. scale: scalar, 1 / temperature. not_negative: (N, N) bool, pairs
    that must not be pushed apart (same story, same picture or same text); the diagonal is ignored.
    kind: "infonce", symmetric, CLIP (Radford et al. 2021), or "siglip", a sigmoid per pair (Zhai et al. 2023).
    """
    logits = scale * image @ text.T  # (N, N)
    positive = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    ignored = not_negative & ~positive
    if kind == "siglip":
        logits = logits if bias is None else logits + bias
        signs = positive.float() * 2 - 1
        return (-F.logsigmoid(signs * logits)).masked_fill(ignored, 0.0).sum() / len(logits)
    logits = logits.masked_fill(ignored, float("-inf"))
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def next_embedding_loss(similarity: Tensor, target: Tensor, excluded: Tensor, scale: Tensor) -> Tensor:
    """Choose the next frame among the training frames, as the evaluation does among the held-out ones.

    similarity: (B, C) cosine of each prediction and candidate; the other frames of the same story are the hard
    negatives that teach order. target: (B,) index among the candidates. excluded: (B, C) bool, what is no candidate:
    the window's own context and copies of the target.
    """
    keep = F.one_hot(target, similarity.shape[1]).bool()
    return F.cross_entropy((scale * similarity).masked_fill(excluded & ~keep, float("-inf")), target)


def text_loss(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy per real token. log_probabilities: (B, T) of the true tokens. tokens: (B, T), -100 for padding."""
    real = tokens != -100
    return -(log_probabilities * real).sum() / real.sum().clamp(min=1)


def image_loss(predicted: Tensor, target: Tensor, feature_weight: float = 0.0) -> Tensor:
    """Mean absolute error of pixels in 0..1, (B, 3, S, S): sharper than the squared error (Zhao et al. 2017).

    feature_weight: of the perceptual distance, taken on every eighth picture because it costs more than drawing does.
    """
    loss = F.l1_loss(predicted, target)
    if feature_weight:
        loss = loss + feature_weight * perceptual_distance(predicted[::8], target[::8]).mean()
    return loss


def compute_losses(output: ModelOutput, batch: Batch, config: TrainConfig, group: Group = ALONE) -> Losses:
    """The losses that are on, weighted, by name. One that is off is absent, not a constant zero.

    group: the processes that share the batch. The mean of their results, and of their gradients, is the loss of the
    whole batch: pairs of all processes are each other's negatives, and a mean is over all windows or words.
    """
    losses: Losses = {}
    for kind, weight in (("image", config.next_image_weight), ("text", config.next_text_weight)):
        if weight:
            losses[f"next_{kind}"] = weight * _next_frame_loss(kind, output, batch, config.in_story_weight)
    if config.text_weight:
        losses["text"] = config.text_weight * text_loss(output["token_log_probabilities"], batch["tokens"])
    if config.image_weight:
        loss = image_loss(output["picture"], batch["picture"], config.feature_weight)
        if "picture_divergence" in output:  # weighted, it makes the evidence lower bound of a Laplace distribution
            loss = loss + config.divergence_weight * output["picture_divergence"]
        losses["image"] = config.image_weight * loss
    if group.size > 1 and losses:
        losses = _shares(losses, batch, group)
    if config.contrastive_weight:
        losses["contrastive"] = config.contrastive_weight * _alignment_loss(output, batch, config, group)
    return losses


def _next_frame_loss(kind: str, output: Any, batch: Any, in_story_weight: float) -> Tensor:
    """The choice among all candidates, plus the weighted choice among the frames of the target's own story."""
    similarity = F.normalize(output[f"next_{kind}"], dim=-1) @ batch[f"{kind}_bank"].T
    excluded = batch[f"{kind}_excluded"]
    loss = next_embedding_loss(similarity, batch["target"], excluded, output[f"next_{kind}_scale"])
    if in_story_weight:
        excluded, scale = excluded | ~batch["same_story"], output[f"next_{kind}_in_story_scale"]
        loss = loss + in_story_weight * next_embedding_loss(similarity, batch["target"], excluded, scale)
    return loss


def _shares(losses: Losses, batch: Batch, group: Group) -> Losses:
    """Each mean over this process's windows or words, weighted so that the mean over processes is that over all."""
    counts = dict.fromkeys(losses, len(batch["target"]))
    if "text" in losses:
        counts["text"] = int((batch["tokens"] != -100).sum())
    count = torch.tensor([*counts.values()], device=batch["target"].device)
    share = count * group.size / group.total(count).clamp(min=1)
    return {name: loss * share[i] for i, (name, loss) in enumerate(losses.items())}


def _alignment_loss(output: ModelOutput, batch: Batch, config: TrainConfig, group: Group) -> Tensor:
    """The contrastive loss over the frames of all processes; frames of one story are not negatives of each other."""
    ids = torch.stack([batch["story_id"].flatten(), batch["image_id"].flatten(), batch["text_id"].flatten()], dim=1)
    ids = group.gather(ids)  # (N, 3)
    not_negative = (ids[:, None] == ids).any(-1)  # (N, N)
    image, text = group.gather(output["image_shared"].flatten(0, 1)), group.gather(output["text_shared"].flatten(0, 1))
    scale, bias = output["alignment_scale"], output["alignment_bias"]
    return contrastive_loss(image, text, scale, not_negative, config.contrastive_loss, bias)
