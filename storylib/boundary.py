"""The freeze boundary of a text encoder: what lies below it runs once and is stored, the layers above it are trained.

The same weights in the same order: upper layers over stored states equal the whole network.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from storylib.encoders import EncoderError, TextEncoder, pooled


class LowerLayers:
    """The embeddings and the layers below the boundary, frozen."""

    def __init__(self, encoder: TextEncoder, above: int) -> None:
        self.encoder = encoder
        self.network = copy.deepcopy(encoder.network)
        layers = transformer_layers(self.network, encoder.name, above)
        del layers[len(layers) - above :]

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Hidden states (B, T, D) at the boundary, and the mask (B, T) of the word pieces that count."""
        pieces = self.encoder.pieces(texts)
        return self.network(**pieces).last_hidden_state.float().cpu(), pieces["attention_mask"].bool().cpu()


class UpperLayers(nn.Module):
    """The upper ``count`` layers and the pooling of a text encoder, ready to be trained.

    Raises EncoderError if the encoder has fewer layers, or none that can be told apart.
    """

    def __init__(self, encoder: TextEncoder, count: int) -> None:
        super().__init__()
        self.name, self.pooling = encoder.name, encoder.pooling
        self.network = copy.deepcopy(encoder.network).requires_grad_(True)
        layers = transformer_layers(self.network, self.name, count)
        del layers[: len(layers) - count]
        self.network.embeddings = _Given()
        if self.pooling != "pooler" and getattr(self.network, "pooler", None) is not None:
            self.network.pooler = None  # type: ignore[assignment]

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(..., dim) vectors of texts from their states (..., T, D) and mask (..., T)."""
        flat, kept = states.flatten(0, -3), mask.flatten(0, -2)
        vectors = pooled(self.network(inputs_embeds=flat, attention_mask=kept), kept, self.pooling, self.name)
        return vectors.view(*states.shape[:-2], -1)


class _Given(nn.Module):
    """In the place of the embeddings: hands on the states that the network was given."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point())


def transformer_layers(network: nn.Module, name: str, count: int) -> nn.ModuleList:
    """The layers of a network of the BERT or DistilBERT kind, of which the upper ``count`` are wanted."""
    stack = getattr(network, "encoder", None) or getattr(network, "transformer", None)
    layers = getattr(stack, "layer", None)
    if not isinstance(layers, nn.ModuleList):
        raise EncoderError(f"{name}: no transformer layers to train were found; use trainable_text_layers=0")
    if count > len(layers):
        raise EncoderError(f"{name} has {len(layers)} layers, so trainable_text_layers={count} is too many")
    return layers
