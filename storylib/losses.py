"""Every training loss: small functions, and one named dictionary that is summed once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from storylib.config import TrainConfig
from storylib.parallel import ALONE, Group
from storylib.perception import feature_distance


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


def same(ids: Tensor) -> Tensor:
    """(N, N) bool: which rows share an id."""
    return ids[:, None] == ids[None, :]


def next_embedding_loss(similarity: Tensor, target: Tensor, excluded: Tensor, scale: Tensor) -> Tensor:
    """Pick the next page among the training pages, as the evaluation does among the held-out ones.

    similarity: (B, C) cosine of each prediction and every candidate; the other pages of the same story are the hard
    negatives that teach order. target: (B,) index among the candidates. excluded: (B, C) bool, no candidates: the
    window's own context and copies of the target.
    """
    keep = F.one_hot(target, similarity.shape[1]).bool()
    return F.cross_entropy((scale * similarity).masked_fill(excluded & ~keep, float("-inf")), target)


def text_loss(log_probabilities: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy per real token. log_probabilities: (B, T) of the true tokens. tokens: (B, T), -100 for padding."""
    real = tokens != -100
    return -(log_probabilities * real).sum() / real.sum().clamp(min=1)


def image_loss(
    predicted: Tensor,
    target: Tensor,
    divergence: Tensor | None = None,
    feature_weight: float = 0.0,
    divergence_weight: float = 0.0,
) -> Tensor:
    """Mean absolute error of pixels in 0..1, (B, 3, S, S): sharper than the squared error (Zhao et al. 2017).

    feature_weight: of the distance in a frozen network's first layers, taken on every eighth picture because it costs
    more than drawing does. divergence: in nats, of a sampling decoder's latents; with its weight, the evidence lower
    bound of a Laplace distribution over pixels.
    """
    loss = F.l1_loss(predicted, target)
    if feature_weight:
        loss = loss + feature_weight * feature_distance(predicted[::8], target[::8])
    return loss if divergence is None else loss + divergence_weight * divergence


def compute_losses(
    out: dict[str, Tensor], batch: dict[str, Tensor], config: TrainConfig, group: Group = ALONE
) -> dict[str, Tensor]:
    """The losses that are on, weighted, by name. One that is off is absent, not a constant zero.

    group: the processes that share the batch. The mean of what they return, and of its gradients, is the loss of the
    whole batch: pairs of all processes are each other's negatives, and a mean is over all windows or words.
    """
    losses = {}
    for kind, weight in (("image", config.next_image_weight), ("text", config.next_text_weight)):
        if weight:
            similarity = F.normalize(out[f"next_{kind}"], dim=-1) @ batch[f"{kind}_bank"].T
            target, excluded = batch["target"], batch[f"{kind}_excluded"]
            value = next_embedding_loss(similarity, target, excluded, out[f"next_{kind}_scale"])
            if config.story_weight:
                excluded, scale = excluded | ~batch["same_story"], out[f"next_{kind}_story_scale"]
                value = value + config.story_weight * next_embedding_loss(similarity, target, excluded, scale)
            losses[f"next_{kind}"] = weight * value
    if config.text_weight:
        losses["text"] = config.text_weight * text_loss(out["token_log_probabilities"], batch["tokens"])
    if config.image_weight:
        within = config.feature_weight, config.divergence_weight
        value = image_loss(out["picture"], batch["picture"], out.get("picture_divergence"), *within)
        losses["image"] = config.image_weight * value
    if group.size > 1 and losses:
        count = {n: int((batch["tokens"] != -100).sum()) if n == "text" else len(batch["target"]) for n in losses}
        weights = group.weight(torch.tensor([*count.values()], device=batch["target"].device))
        losses = {name: value * weight for (name, value), weight in zip(losses.items(), weights, strict=True)}
    if config.contrastive_weight:
        ids = torch.stack([batch[k].flatten() for k in ("story_id", "image_id", "text_id")], dim=1)
        story, image, text = group.gather(ids).unbind(1)  # (N,) each, N frames of all processes
        value = contrastive_loss(
            group.gather(out["image_shared"].flatten(0, 1)),
            group.gather(out["text_shared"].flatten(0, 1)),
            out["alignment_scale"],
            same(story) | same(image) | same(text),
            config.contrastive_loss,
            out["alignment_bias"],
        )
        losses["contrastive"] = config.contrastive_weight * value
    return losses
