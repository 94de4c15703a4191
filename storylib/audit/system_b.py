"""System B, a contrastive dual decoder, under its published protocol and under each repair of it.

Source: its public README and notebook (see the chapter). Frozen features of pictures and texts, both projected to 256
and pulled together by InfoNCE; concatenated; an LSTM; a transposed-convolution image decoder and a GRU text decoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib import metrics
from storylib.audit.ladder import B_PIECES, SCORING, Material, Rung, Settings, another_story, ladder, order
from storylib.losses import contrastive_loss

SHARED, WIDTH, LEARNING_RATE, BATCH, TEMPERATURE = 256, 512, 1e-4, 2, 0.07
CHANNELS = (256, 128, 64, 32, 16, 3)  # 7 pixels a side to 224
CLAIMED = {"bleu": 0.57, "rouge_l": 0.68, "meteor": 0.74}


@dataclass(frozen=True)
class ProtocolB:
    """The switches; the defaults are the protocol as published."""

    markup: bool = True  # tags of the data set left in the text
    text: str = "story"  # the whole story, cut, as the text of every frame, target included; or "page"
    shifted: bool = False  # does the decoder predict the next token, or the one that it is given?
    writing: str = field(default="teacher-forced", metadata=SCORING)  # fed with the true text; or "free"
    scored_on: str = field(default="training batches", metadata=SCORING)  # five of 2; or "held-out windows"
    contrastive: float = 0.5


LADDER: list[Rung[ProtocolB]] = ladder(
    ProtocolB(),
    ("text: markup stripped", {"markup": False}),
    ("text: each frame has its own", {"text": "page"}),
    ("decoder shifted by one", {"shifted": True}),
    ("writing freely", {"writing": "free"}),
    ("scored on held-out windows", {"scored_on": "held-out windows"}),
    ("contrastive weight 0", {"contrastive": 0.0}),
)


class DualDecoder(nn.Module):
    """System B's trainable part."""

    def __init__(self, image_dim: int, text_dim: int, vocabulary: int) -> None:
        super().__init__()
        self.image_projection = nn.Linear(image_dim, SHARED)
        self.text_projection = nn.Linear(text_dim, SHARED)
        self.fusion = nn.Sequential(nn.Linear(2 * SHARED, WIDTH), nn.ReLU())
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.seed = nn.Linear(WIDTH, CHANNELS[0] * 49)
        steps: list[nn.Module] = []
        for a, b in pairwise(CHANNELS):
            steps += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.Sigmoid() if b == 3 else nn.ReLU()]
        self.paint = nn.Sequential(*steps)
        self.embedding = nn.Embedding(vocabulary, 256)
        self.gru = nn.GRU(256, WIDTH, batch_first=True)
        self.output = nn.Linear(WIDTH, vocabulary)

    def read(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Story state (B, 512) and both kinds of unit vectors (B, K, 256). images: (B, K, Di). texts: (B, K, Dt)."""
        image, text = self.image_projection(images), self.text_projection(texts)
        state = self.lstm(self.fusion(torch.cat([image, text], -1)))[1][0][-1]
        return state, F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    def draw(self, state: Tensor) -> Tensor:
        """(B, 3, 224, 224)."""
        return self.paint(self.seed(state).view(len(state), CHANNELS[0], 7, 7))

    def logits(self, state: Tensor, tokens: Tensor) -> Tensor:
        """(B, T, V) after reading each token. tokens: (B, T)."""
        return self.output(self.gru(self.embedding(tokens), state[None])[0])


class SystemB:
    """The system under one protocol: trained, then scored."""

    def __init__(self, material: Material, protocol: ProtocolB, seed: int = 0) -> None:
        self.material, self.protocol, self.seed = material, protocol, seed
        self.kind = "cut page" if protocol.text == "page" else "cut marked story" if protocol.markup else "cut story"
        texts, self.vectors = material.texts(self.kind)
        self.tokens = material.pieces.encode(texts, B_PIECES)  # (F, 32)
        torch.manual_seed(seed)
        self.model = DualDecoder(material.image.shape[1], self.vectors.shape[1], len(material.pieces))
        self.lowest_contrastive = math.inf

    def fit(self, settings: Settings) -> list[float]:
        """Train as published; returns the mean loss of each epoch."""
        train = self.material.last
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        losses = []
        for epoch in range(settings.epochs_b):
            total, batches = 0.0, order(len(train), self.seed, epoch).split(BATCH)
            for batch in batches:
                loss = self.loss(train[batch])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            losses.append(total / len(batches))
        return losses

    def loss(self, rows: Tensor) -> Tensor:
        context, target = rows[:, :-1], rows[:, -1]
        state, image, text = self.model.read(self.material.image[context], self.vectors[context])
        picture = F.interpolate(self.material.pictures[target].float() / 255, size=224, mode="bilinear")
        loss = F.mse_loss(self.model.draw(state), normalised(picture))
        given, wanted = self.pairs(self.tokens[target])
        logits = self.model.logits(state, given)
        loss = loss + F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=self.material.pieces.pad)
        if self.protocol.contrastive:
            alignment = alignment_loss(image, text)
            self.lowest_contrastive = min(self.lowest_contrastive, alignment.item())
            loss = loss + self.protocol.contrastive * alignment
        return loss

    def pairs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder is given, and what it is to say: the same, or the next token."""
        return (tokens[:, :-1], tokens[:, 1:]) if self.protocol.shifted else (tokens, tokens)

    def scored_windows(self) -> Tensor:
        if self.protocol.scored_on == "training batches":
            return self.material.last[order(len(self.material.last), self.seed, 0)[: 5 * BATCH]]
        return self.material.sliding[1]

    @torch.inference_mode()
    def write(self, rows: Tensor, context: Tensor | None = None, writing: str | None = None) -> list[str]:
        """Texts for windows. context: (B, K) other frames than their own. writing: as in the protocol, or another."""
        context = rows[:, :-1] if context is None else context
        state, _, _ = self.model.read(self.material.image[context], self.vectors[context])
        if (writing or self.protocol.writing) == "free":
            return self.material.pieces.decode(self.free(state))
        return self.material.pieces.decode(self.forced(state, self.tokens[rows[:, -1]]))

    def forced(self, state: Tensor, tokens: Tensor) -> Tensor:
        """(B, T) most probable tokens, each after reading the true ones."""
        given, wanted = self.pairs(tokens)
        pad = self.material.pieces.pad
        said = [self.model.logits(s, g).argmax(-1) for s, g in zip(state.split(64), given.split(64), strict=True)]
        return torch.cat(said).masked_fill(wanted == pad, pad)

    def free(self, state: Tensor) -> Tensor:
        """(B, T) most probable tokens, each after reading what it said before."""
        token = torch.full((len(state), 1), self.material.pieces.start)
        hidden, said = state[None], []
        for _ in range(B_PIECES - 1):
            out, hidden = self.model.gru(self.model.embedding(token), hidden)
            token = self.model.output(out).argmax(-1)
            said.append(token)
        return torch.cat(said, 1)

    def score(self) -> dict[str, Any]:
        """BLEU, ROUGE-L and METEOR; the same with the context of another story; copy-last; and written freely."""
        rows = self.scored_windows()
        truth = self.material.pieces.decode(self.tokens[rows[:, -1]])
        other = another_story(self.material.story_of[rows[:, 0]])
        held = self.material.sliding[1]
        answers = {
            "": (self.write(rows), truth),
            "_shuffled": (self.write(rows, rows[other, :-1]), truth),
            "_copy_last": (self.material.pieces.decode(self.tokens[rows[:, -2]]), truth),
            "_held_out": (self.write(held), self.material.pieces.decode(self.tokens[held[:, -1]])),
            "_held_out_free": (self.write(held, writing="free"), self.material.pieces.decode(self.tokens[held[:, -1]])),
        }
        scores: dict[str, Any] = {"lowest_contrastive": None}
        for name, (written, true) in answers.items():
            scores |= {f"{metric}{name}": value for metric, value in text_scores(written, true).items()}
        if math.isfinite(self.lowest_contrastive):
            scores["lowest_contrastive"] = self.lowest_contrastive
        return scores


def text_scores(written: list[str], truth: list[str]) -> dict[str, float]:
    """Corpus BLEU-4, mean ROUGE-L and mean METEOR, all 0 to 1."""
    bleu = metrics.bleu_from_counts(metrics.bleu_counts(written, truth).sum(0))
    return {
        "bleu": float(bleu) / 100,
        "rouge_l": float(np.mean(metrics.rouge_l(written, truth))),
        "meteor": float(np.mean(metrics.meteor(written, truth))),
    }


def normalised(pictures: Tensor) -> Tensor:
    """ImageNet's mean and deviation taken out, as the targets were; the decoder's sigmoid cannot reach most of that."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pictures - mean[:, None, None]) / deviation[:, None, None]


def alignment_loss(image: Tensor, text: Tensor) -> Tensor:
    """Symmetric InfoNCE over all frames of a batch, every other frame a negative. Both (B, K, D) unit vectors."""
    image, text = image.flatten(0, 1), text.flatten(0, 1)
    return contrastive_loss(image, text, torch.tensor(1 / TEMPERATURE), torch.zeros(len(image), len(image)).bool())


def best_alignment(stories: int = 2, frames: int = 4, repeated: bool = True, steps: int = 400) -> list[float]:
    """The alignment loss of free vectors, pushed down as far as it goes. repeated: one text for all frames."""
    torch.manual_seed(0)
    image = nn.Parameter(torch.randn(stories, frames, 64))
    text = nn.Parameter(torch.randn(stories, 1 if repeated else frames, 64))
    optimiser = torch.optim.Adam([image, text], lr=0.05)
    path = []
    for _ in range(steps):
        shown = text.expand(-1, frames, -1)
        loss = alignment_loss(F.normalize(image, dim=-1), F.normalize(shown, dim=-1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        path.append(loss.item())
    return path
