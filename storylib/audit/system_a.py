"""System A, a cross-modal predictor, under its published protocol and under each repair of it.

Source: its public README and notebook (see the chapter). Frozen features of a picture and of a text, both projected to
512; pictures attend to one text vector; an LSTM; a head for the next picture's embedding and one for one word piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.audit.ladder import SCORING, Material, Rung, Settings, another_story, ladder, order

WIDTH, HEADS, LEARNING_RATE, BATCH = 512, 4, 1e-4, 2
CLAIMED = {"top1": 1.0, "top5": 1.0, "cosine": 0.783}


@dataclass(frozen=True)
class ProtocolA:
    """The switches; the defaults are the protocol as published."""

    token_target: str = "first piece"  # of the input, always [CLS]; "first token" or "all tokens" of the next text
    text_input: str = "story"  # the whole story, target included; or "context": its four texts only
    scored_on: str = field(default="training batch", metadata=SCORING)  # one batch of 2; or "held-out stories"
    image_target: str = "own projection"  # the model's own, untrained; or "frozen space", centred
    attention_keys: str = "one"  # all text in one key; or "one per text"


LADDER: list[Rung[ProtocolA]] = ladder(
    ProtocolA(),
    ("target: the next text's first real token", {"token_target": "first token"}),
    ("target: all its tokens", {"token_target": "all tokens"}),
    ("input: the four context texts only", {"text_input": "context"}),
    ("scored on held-out stories", {"scored_on": "held-out stories"}),
    ("picture: frozen, centred features", {"image_target": "frozen space"}),
    ("attention: one key per text", {"attention_keys": "one per text"}),
)


class CrossModalPredictor(nn.Module):
    """System A's trainable part."""

    def __init__(self, image_dim: int, text_dim: int, target_dim: int, vocabulary: int) -> None:
        super().__init__()
        self.image_projection = nn.Linear(image_dim, WIDTH)
        self.text_projection = nn.Linear(text_dim, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.image_head = nn.Linear(WIDTH, target_dim)
        self.token_head = nn.Linear(WIDTH, vocabulary)

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        """images: (B, K, Di), the queries. texts: (B, keys, Dt)."""
        keys = self.text_projection(texts)
        fused, weights = self.attention(self.image_projection(images), keys, keys)  # (B, K, 512), (B, K, keys)
        state = self.lstm(fused)[1][0][-1]  # (B, 512)
        return {"image": self.image_head(state), "logits": self.token_head(state), "attention": weights}


class SystemA:
    """The system under one protocol: trained, then scored."""

    def __init__(self, material: Material, protocol: ProtocolA, seed: int = 0) -> None:
        self.material, self.protocol, self.seed = material, protocol, seed
        kind = protocol.text_input if protocol.attention_keys == "one" else "page"
        _, self.vectors = material.texts(kind)
        pages, _ = material.texts("page")
        self.tokens = material.pieces.encode(pages, 128)  # (F, 128)
        train, _ = material.sliding
        seen = material.image[train.unique()]
        self.mean, self.scale = seen.mean(0), (seen - seen.mean(0)).pow(2).mean().sqrt()
        torch.manual_seed(seed)
        target_dim = WIDTH if protocol.image_target == "own projection" else material.image.shape[1]
        self.model = CrossModalPredictor(
            material.image.shape[1], self.vectors.shape[1], target_dim, len(material.pieces)
        )

    def inputs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, K, Di) and text keys (B, 1 or K, Dt) of windows; rows: (B, K + 1)."""
        context = rows[:, :-1]
        one = self.protocol.attention_keys == "one"
        return self.material.image[context], self.vectors[context[:, -1:] if one else context]

    def embedding(self, frames: Tensor) -> Tensor:
        """Pictures as the protocol's targets: through the model's own projection, or frozen and centred."""
        pictures = self.material.image[frames]
        if self.protocol.image_target == "own projection":
            return self.model.image_projection(pictures).detach()
        return (pictures - self.mean) / self.scale

    def token_targets(self, rows: Tensor, which: int = -1) -> tuple[Tensor, Tensor]:
        """Number of the window, and token to be predicted, of each target token. which: of the frame; -1 the next."""
        tokens = self.tokens[rows[:, which]]
        if self.protocol.token_target == "first piece":
            tokens = tokens[:, :1]  # [CLS], of whatever text
        elif self.protocol.token_target == "first token":
            tokens = tokens[:, 1:2]
        else:
            tokens = tokens[:, 1:].masked_fill(tokens[:, 1:] == self.material.pieces.end, self.material.pieces.pad)
        window, place = (tokens != self.material.pieces.pad).nonzero(as_tuple=True)
        return window, tokens[window, place]

    def fit(self, settings: Settings, epochs: int | None = None) -> list[float]:
        """Train as published; returns the mean loss of each epoch."""
        train, _ = self.material.sliding
        optimiser = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        losses = []
        for epoch in range(settings.epochs_a if epochs is None else epochs):
            total = 0.0
            batches = order(len(train), self.seed, epoch).split(BATCH)
            for batch in batches:
                rows = train[batch]
                out = self.model(*self.inputs(rows))
                window, token = self.token_targets(rows)
                loss = F.mse_loss(out["image"], self.embedding(rows[:, -1]))
                loss = loss + F.cross_entropy(out["logits"][window], token)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                total += loss.item()
            losses.append(total / len(batches))
        return losses

    def scored_windows(self) -> Tensor:
        train, held = self.material.sliding
        if self.protocol.scored_on == "training batch":
            return train[order(len(train), self.seed, 0)[:BATCH]]
        return held

    @torch.inference_mode()
    def score(self) -> dict[str, Any]:
        """Top-1, top-5 and cosine with their floors, and what shuffling the pictures changes."""
        rows, (train, _) = self.scored_windows(), self.material.sliding
        window, token = self.token_targets(rows)
        _, learned = self.token_targets(train)
        counts = torch.bincount(learned, minlength=len(self.material.pieces)).float()
        out = self.model(*self.inputs(rows))
        # The bag of the last text's tokens, ties broken by how common a token is.
        last = torch.zeros(len(rows), len(counts)).index_put_(
            self.token_targets(rows, -2), torch.tensor(1.0), accumulate=True
        )
        guesses = {
            "": out["logits"],
            "_majority": counts.expand(len(rows), -1),
            "_copy_last": last + counts / (counts.sum() + 1),
        }
        scores: dict[str, Any] = {}
        for name, guess in guesses.items():
            best = guess.topk(5).indices[window]  # (tokens, 5)
            scores[f"top1{name}"] = float((best[:, 0] == token).float().mean())
            scores[f"top5{name}"] = float((best == token[:, None]).any(1).float().mean())
        target = self.embedding(rows[:, -1])
        constant = self.embedding(train[:, -1]).mean(0).expand_as(target)
        for name, guess in (("", out["image"]), ("_constant", constant), ("_copy_last", self.embedding(rows[:, -2]))):
            scores[f"cosine{name}"] = float(F.cosine_similarity(guess, target, dim=-1).mean())
        return scores | {"shuffled_pictures_change": self.shuffle_pictures(rows)}

    @torch.inference_mode()
    def shuffle_pictures(self, rows: Tensor) -> float:
        """Largest change of any output when every window is given the pictures of another."""
        images, texts = self.inputs(rows)
        other = another_story(self.material.story_of[rows[:, 0]])
        if (other == torch.arange(len(rows))).any():
            other = torch.arange(len(rows)).roll(1)
        before, after = self.model(images, texts), self.model(images[other].flip(1), texts)
        return float(max((before[k] - after[k]).abs().max() for k in ("image", "logits")))

    @torch.inference_mode()
    def attention(self, rows: Tensor) -> Tensor:
        """(B, K, keys) weights that each picture gives to each key."""
        return self.model(*self.inputs(rows))["attention"]


def floors_of(name: str) -> Sequence[str]:
    """The floors that stand beside a score of this system."""
    return ("constant", "copy_last") if name == "cosine" else ("majority", "copy_last")
