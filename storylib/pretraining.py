"""The text decoder alone, on every training text, before the story is there to go by.

A window asks for one text of five; a language model can learn from all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from storylib.config import TrainConfig
from storylib.decoders import TextDecoder, Vocabulary


def pretrain(decoder: TextDecoder, tokens: Tensor, config: TrainConfig, quiet: bool = False) -> None:
    """``config.pretraining`` epochs on tokens (N, T), behind a prefix of zeros and without a context to copy from.

    Drawn from ``config.seed`` alone. quiet: no progress bar.
    """
    torch.manual_seed(config.seed)
    weights = list(decoder.lm.parameters())  # not how a story is read, nor how much is copied from it
    optimizer = torch.optim.AdamW(weights, config.learning_rate, weight_decay=config.weight_decay, fused=True)
    frames, width = len(decoder.cache_recency), decoder.prefix.in_features
    decoder.train()
    bar = tqdm(range(config.pretraining), desc="text decoder alone", unit="epoch", disable=quiet)
    for rows in (rows for _ in bar for rows in torch.randperm(len(tokens)).split(config.batch_size)):
        nothing = torch.full((len(rows), frames, 1), Vocabulary.PAD)
        likely = decoder(torch.zeros(len(rows), frames + 1, width), tokens[rows], nothing)
        loss = -likely.sum() / (tokens[rows] != Vocabulary.PAD).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, config.clip or torch.inf)
        optimizer.step()
