"""Upper layers of a text encoder, to be trained over the stored states of the layers below, which run only once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from storylib.data.encoders import EncoderError, TextEncoder, pooled


@dataclass(frozen=True)
class FrameTexts:
    """The texts of some frames, as a model reads them; states and mask are None where no layer is trained."""

    frozen: Tensor  # (..., Dt) features of the frozen encoder, the space of every retrieval score
    states: Tensor | None = None  # (..., T, D) what the trained layers start from
    mask: Tensor | None = None  # (..., T) which states belong to a word piece

    def __getitem__(self, index: Any) -> FrameTexts:
        """The texts at an index of the leading dimensions."""
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str, **options: Any) -> FrameTexts:
        return self._map(lambda tensor: tensor.to(device, **options))

    def _map(self, function: Callable[[Tensor], Tensor]) -> FrameTexts:
        states = None if self.states is None else function(self.states)
        mask = None if self.mask is None else function(self.mask)
        return FrameTexts(function(self.frozen), states, mask)


def gather_states(stored: np.ndarray, starts: np.ndarray, texts: Tensor) -> tuple[Tensor, Tensor]:
    """States (..., T, D) and mask (..., T) of some texts, padded to the longest; stored, starts: as in ``Features``."""
    rows = [slice(starts[text], starts[text + 1]) for text in texts.flatten().tolist()]
    states = pad_sequence([torch.from_numpy(stored[row].copy()) for row in rows], batch_first=True)
    lengths = torch.tensor([row.stop - row.start for row in rows])
    mask = torch.arange(states.shape[1]) < lengths[:, None]
    return states.unflatten(0, texts.shape), mask.unflatten(0, texts.shape)


class LowerLayers:
    """The embeddings and the layers below the trained ones, frozen."""

    def __init__(self, encoder: TextEncoder, trained: int) -> None:
        self.encoder, self.network = encoder, copy.deepcopy(encoder.network)
        layers = transformer_layers(self.network, encoder.name, trained)
        del layers[len(layers) - trained :]

    @torch.no_grad()
    def states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """States (B, T, D) of some texts, and the mask (B, T) of their word pieces."""
        pieces = self.encoder.pieces(texts)
        return self.network(**pieces).last_hidden_state.float().cpu(), pieces["attention_mask"].bool().cpu()


class UpperLayers(nn.Module):
    """The upper ``count`` layers and the pooling of a text encoder, to be trained. Raises EncoderError."""

    def __init__(self, encoder: TextEncoder, count: int) -> None:
        super().__init__()
        self.pooling, self.network = encoder.pooling, copy.deepcopy(encoder.network).requires_grad_(True)
        layers = transformer_layers(self.network, encoder.name, count)
        del layers[: len(layers) - count]
        self.network.embeddings = _PassOn()
        if self.pooling != "pooler" and getattr(self.network, "pooler", None) is not None:
            self.network.pooler = None  # type: ignore[assignment]

    def forward(self, texts: FrameTexts) -> Tensor:
        """(..., dim) vectors of some texts."""
        assert texts.states is not None and texts.mask is not None
        states, mask = texts.states.flatten(0, -3), texts.mask.flatten(0, -2)
        output = self.network(inputs_embeds=states, attention_mask=mask)
        return pooled(output, mask, self.pooling).view(*texts.states.shape[:-2], -1)


class _PassOn(nn.Module):
    """In place of the embeddings: passes on the states that the network is given."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point())


def transformer_layers(network: nn.Module, name: str, count: int) -> nn.ModuleList:
    """The layers of a BERT or DistilBERT. Raises EncoderError for another network and for fewer than ``count``."""
    stack = getattr(network, "encoder", None) or getattr(network, "transformer", None)
    layers = getattr(stack, "layer", None)
    if not isinstance(layers, nn.ModuleList):
        raise EncoderError(f"{name}: no transformer layers to train were found; use trainable_text_layers=0")
    if count > len(layers):
        raise EncoderError(f"{name} has {len(layers)} layers, so trainable_text_layers={count} is too many")
    return layers
