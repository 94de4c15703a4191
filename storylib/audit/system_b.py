"""System B, a contrastive dual decoder, under its published protocol and under each repair of it.

Source: its public README and notebook (see the chapter). Frozen features of pictures and texts, both projected to 256
and aligned by InfoNCE; concatenated; an LSTM; a transposed-convolution image decoder and a GRU text decoder.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.audit.data import TEXT_LENGTH_B, AuditData
from storylib.audit.protocols import ProtocolB
from storylib.audit.system import LEARNING_RATE, System
from storylib.data.windows import other_story
from storylib.losses import contrastive_loss
from storylib.metrics.text import bleu_counts, bleu_from_counts, meteor, rouge_l

SHARED, WIDTH, TEMPERATURE = 256, 512, 0.07
CHANNELS = (256, 128, 64, 32, 16, 3)  # 7 pixels per side to 224
# Of the target pictures, as published; the decoder's sigmoid cannot reach most of the normalised values.
IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
IMAGENET_DEVIATION = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class DualDecoder(nn.Module):
    """System B's trainable part."""

    def __init__(self, image_dim: int, text_dim: int, vocabulary: int) -> None:
        super().__init__()
        self.image_projection = nn.Linear(image_dim, SHARED)
        self.text_projection = nn.Linear(text_dim, SHARED)
        self.fusion = nn.Sequential(nn.Linear(2 * SHARED, WIDTH), nn.ReLU())
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.seed = nn.Linear(WIDTH, CHANNELS[0] * 49)
        layers: list[nn.Module] = []
        for a, b in pairwise(CHANNELS):
            layers += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.Sigmoid() if b == 3 else nn.ReLU()]
        self.upsampling = nn.Sequential(*layers)
        self.embedding = nn.Embedding(vocabulary, 256)
        self.gru = nn.GRU(256, WIDTH, batch_first=True)
        self.output = nn.Linear(WIDTH, vocabulary)

    def read(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Story state (B, 512) and unit vectors of both (B, K, 256). images: (B, K, Di). texts: (B, K, Dt)."""
        image, text = self.image_projection(images), self.text_projection(texts)
        state = self.lstm(self.fusion(torch.cat([image, text], -1)))[1][0][-1]
        return state, F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    def draw(self, state: Tensor) -> Tensor:
        """(B, 3, 224, 224)."""
        return self.upsampling(self.seed(state).view(len(state), CHANNELS[0], 7, 7))

    def logits(self, state: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, V) after each token. tokens: (B, T)."""
        return self.output(self.gru(self.embedding(tokens), state[None])[0])


class SystemB(System):
    scored_batches = 5

    def __init__(self, data: AuditData, protocol: ProtocolB, seed: int = 0) -> None:
        whole = "cut marked story" if protocol.markup else "cut story"
        super().__init__(data, protocol, seed, "cut frame" if protocol.text == "frame" else whole)
        self.tokens = data.pieces.encode(self.texts, TEXT_LENGTH_B)  # (F, 32)
        torch.manual_seed(seed)
        self.model = DualDecoder(data.image.shape[1], self.text_vectors.shape[1], len(data.pieces.ids))
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self.train_windows, self.epochs = data.last_windows, data.settings.epochs_b
        self.lowest_contrastive = math.inf  # of any training batch

    def loss(self, windows: Tensor) -> Tensor:
        """The published loss: squared error of pixels, cross-entropy of tokens, weighted InfoNCE."""
        context, target = windows[:, :-1], windows[:, -1]
        state, image, text = self.model.read(self.data.image[context], self.text_vectors[context])
        picture = F.interpolate(self.data.pictures[target].float() / 255, size=224, mode="bilinear")
        loss = F.mse_loss(self.model.draw(state), (picture - IMAGENET_MEAN) / IMAGENET_DEVIATION)
        inputs, targets = self.inputs_and_targets(self.tokens[target])
        logits = self.model.logits(state, inputs)
        loss = loss + F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=self.data.pieces.pad)
        if self.protocol.contrastive:
            alignment = alignment_loss(image, text)
            self.lowest_contrastive = min(self.lowest_contrastive, alignment.item())
            loss = loss + self.protocol.contrastive * alignment
        return loss

    def inputs_and_targets(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's input and target tokens: the same, or shifted by one. tokens: (B, T)."""
        return (tokens[:, :-1], tokens[:, 1:]) if self.protocol.shifted else (tokens, tokens)

    @torch.inference_mode()
    def write(self, windows: Tensor, context: Tensor | None = None) -> list[str]:
        """Texts for windows. context: (B, K) frames to read instead."""
        context = windows[:, :-1] if context is None else context
        state, _, _ = self.model.read(self.data.image[context], self.text_vectors[context])
        if self.protocol.decoding == "free":
            return self.data.pieces.decode(self.free_running(state))
        return self.data.pieces.decode(self.teacher_forced(state, self.tokens[windows[:, -1]]))

    def teacher_forced(self, state: Tensor, tokens: Tensor) -> Tensor:
        """(B, T) most probable tokens, each after the true ones."""
        inputs, targets = self.inputs_and_targets(tokens)
        parts = zip(state.split(64), inputs.split(64), strict=True)
        predicted = torch.cat([self.model.logits(*part).argmax(-1) for part in parts])
        return predicted.masked_fill(targets == self.data.pieces.pad, self.data.pieces.pad)

    def free_running(self, state: Tensor) -> Tensor:
        """(B, T) most probable tokens, each after the earlier predictions."""
        token = torch.full((len(state), 1), self.data.pieces.start)
        hidden, predicted = state[None], []
        for _ in range(TEXT_LENGTH_B - 1):
            out, hidden = self.model.gru(self.model.embedding(token), hidden)
            token = self.model.output(out).argmax(-1)
            predicted.append(token)
        return torch.cat(predicted, 1)

    def score(self) -> dict[str, Any]:
        """Corpus BLEU-4, mean ROUGE-L and METEOR, 0 to 1: of the protocol and of baselines."""
        windows = self.scored_windows()
        references, other = self.target_texts(windows), other_story(self.data.story_of[windows[:, 0]])
        generated = {
            "": self.write(windows),
            "_shuffled": self.write(windows, windows[other, :-1]),
            "_copy_last": self.target_texts(windows, -2),
        }
        lowest = self.lowest_contrastive
        scores: dict[str, Any] = {"lowest_contrastive": lowest if math.isfinite(lowest) else None}
        for name, texts in generated.items():
            scores[f"bleu{name}"] = float(bleu_from_counts(bleu_counts(texts, references).sum(0))) / 100
            scores[f"rouge_l{name}"] = float(np.mean(rouge_l(texts, references)))
            scores[f"meteor{name}"] = float(np.mean(meteor(texts, references)))
        return scores

    def target_texts(self, windows: Tensor, position: int = -1) -> list[str]:
        """What the text of a frame of each window is to the decoder. position: -1 is the target."""
        return self.data.pieces.decode(self.tokens[windows[:, position]])


def alignment_loss(image: Tensor, text: Tensor) -> Tensor:
    """Symmetric InfoNCE over all frames of a batch, every other frame a negative. Both (B, K, D) unit vectors."""
    image, text = image.flatten(0, 1), text.flatten(0, 1)
    return contrastive_loss(image, text, torch.tensor(1 / TEMPERATURE), torch.zeros(len(image), len(image)).bool())
