"""Adapts a language model to the training stories by low-rank products: trained once per split, then frozen."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from storylib.config import ConfigError
from storylib.data.language_model import RANK, SCALE, LanguageModel, language_model_fingerprint, load_language_model
from storylib.data.resumable import optimise
from storylib.data.store import cache_entry, make_sealed

CHUNK, CHUNKS = 256, 6  # pieces of a story that are read together, and how many of these make a step
RATE, WARMUP = 3e-4, 10  # learning rate, and steps until it is reached; then a cosine to zero


class LowRank(nn.Module):
    """A frozen linear layer plus a low-rank product that starts at zero."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Parameter(torch.randn(RANK, layer.in_features) / math.sqrt(layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, RANK))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layer(inputs) + SCALE * F.linear(F.linear(inputs, self.down), self.up)


def adapt(name: str, stories: Sequence[Sequence[str]], epochs: int, text_length: int, device: str = "cpu") -> Tensor:
    """All low-rank products of a language model as one vector, for ``LanguageModel.adapted``; kept on disk.

    stories: the texts of each training story. Peft has such layers too; these merge in one line, without a package.
    """
    key = [language_model_fingerprint(name), [list(texts) for texts in stories], epochs, text_length]
    folder = cache_entry("language-models", "adapted", key, "data.adaptation")

    def make(partial_folder: Any) -> None:
        model = load_language_model(name, device)
        if not model.linear():
            raise ConfigError(f"The language model {name!r} has no linear layers to adapt. Set pretraining=0.")
        checkpoint = folder.with_name(f"{folder.name}.checkpoint")
        learned = _train(model, list(_chunks(model, stories, text_length)), epochs, checkpoint)
        save_file({"adaptation": learned}, partial_folder / "adaptation.safetensors")

    make_sealed(folder, make)
    return load_file(folder / "adaptation.safetensors")["adaptation"]


def _chunks(model: LanguageModel, stories: Sequence[Sequence[str]], text_length: int) -> Iterator[Tensor]:
    """Consecutive texts of a story, each ended by the end of a text, up to CHUNK pieces."""
    for texts in stories:
        chunk = [model.start]
        for pieces in model.pieces(texts):
            if len(chunk) > 1 and len(chunk) + min(len(pieces), text_length) >= CHUNK:
                yield torch.tensor(chunk)
                chunk = [model.start]
            chunk += [*pieces[:text_length], model.end]
        yield torch.tensor(chunk)


def _train(model: LanguageModel, chunks: Sequence[Tensor], epochs: int, checkpoint: Path) -> Tensor:
    network: Any = copy.deepcopy(model.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = _insert(network)
    network.to(model.network.device)
    parameters = [parameter for layer in layers for parameter in (layer.down, layer.up)]
    order, steps = np.random.default_rng(0), math.ceil(len(chunks) / CHUNKS)
    batches = [rows for _ in range(epochs) for rows in np.array_split(order.permutation(len(chunks)), steps)]

    def loss_of(step: int) -> Tensor:
        pieces = pad_sequence([chunks[row] for row in batches[step]], batch_first=True, padding_value=-1)
        pieces = pieces.to(model.network.device)
        following = pieces[:, 1:]
        hidden = network.base_model(pieces[:, :-1].clamp(min=0), use_cache=False).last_hidden_state
        real = following >= 0  # padding is last and a causal model never looks ahead: no mask needed
        return F.cross_entropy(model.output(hidden[real]), following[real])

    optimise(parameters, loss_of, len(batches), RATE, WARMUP, checkpoint, "adapt the language model")
    return torch.cat([parameter.detach().flatten().cpu() for parameter in parameters])


def _insert(network: Any) -> list[LowRank]:
    """Put a low-rank product beside every linear layer but the output layer, in the order of the network."""
    inserted = []
    for parent in list(network.base_model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                inserted.append(LowRank(layer))
                setattr(parent, name, inserted[-1])
    return inserted
