"""The storyteller: four frames in; the next frame's picture and text out, as embeddings, words and pixels.

    image vectors -> projection \\                                        / next image embedding
                                 fusion -> temporal model -> story state -- next text embedding
    text vectors  -> projection /                                         \\ text decoder, image decoder

Each prediction is a mixture of the context plus a correction that starts at zero, so an untrained model equals a
floor and training can only be judged on what it adds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.boundary import UpperLayers
from storylib.config import ModelConfig
from storylib.decoders import TextDecoder, Vocabulary
from storylib.features import Rows
from storylib.image_decoders import IMAGE_DECODERS

PIECE = 16_384  # pages whose features are in memory at once


class FrozenSpace(nn.Module):
    """Frozen features, centred on the training mean and scaled to unit length: the space of every retrieval score.

    vectors: (P, D) features of the training pages, read piece by piece. rank: principal directions in ``basis``.
    """

    mean: Tensor  # (D,)
    basis: Tensor  # (rank, D) principal directions of the unit vectors, each as long as its standard deviation

    def __init__(self, vectors: Tensor | Rows, rank: int) -> None:
        super().__init__()
        pieces = torch.arange(len(vectors)).split(PIECE)
        means = [vectors[pages].mean(0) * (len(pages) / len(vectors)) for pages in pieces]
        self.register_buffer("mean", torch.stack(means).sum(0))
        products = [unit.T @ unit for unit in (self(vectors[pages]) for pages in pieces)]
        variance, directions = torch.linalg.eigh(torch.stack(products).sum(0) / len(vectors))  # ascending
        rank = min(rank, len(variance))
        spread = variance[-rank:].clamp(min=0).sqrt()
        self.register_buffer("basis", (directions[:, -rank:] * spread).T.contiguous())

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors - self.mean, dim=-1)


class Fusion(nn.Module):
    """One vector per frame from its picture and its text; (B, K, W) each."""

    def __init__(self, kind: str, width: int, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(dropout))
        elif kind == "gate":
            self.gate = nn.Linear(2 * width, width)
        else:  # pictures ask, the texts of all frames answer: with one text the answer could not depend on the picture
            self.attention = nn.MultiheadAttention(width, 4, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        if self.kind == "concat":
            return self.norm(self.mix(torch.cat([image, text], dim=-1)))
        if self.kind == "gate":
            gate = self.gate(torch.cat([image, text], dim=-1)).sigmoid()
            return self.norm(gate * image + (1 - gate) * text)
        answer, _ = self.attention(image, text, text, need_weights=False)
        return self.norm(image + answer)


class Temporal(nn.Module):
    """States of a story after each frame, (B, K, W) -> (B, K, W); the last one is the story state."""

    def __init__(self, kind: str, width: int, frames: int, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        if kind == "transformer":
            self.position = nn.Parameter(torch.randn(frames, width) * 0.02)
            layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
            self.network: nn.Module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        else:
            self.network = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](width, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        if self.kind == "transformer":
            causal = nn.Transformer.generate_square_subsequent_mask(frames.shape[1], device=frames.device)
            return self.network(frames + self.position, mask=causal, is_causal=True)
        return self.network(frames)[0]


class NextEmbedding(nn.Module):
    """The next frame's embedding: a mixture of the context's embeddings plus a correction that starts at zero.

    The mixture starts as the recency-weighted mean, a floor. Its weights are free to be negative, because a story moves
    away from its start, and depend on how alike the frames are. The correction reads the story state and the mixture
    itself, and moves along the principal directions of the training pages, far along the long ones and little along
    the short: with some thousand windows a free one learns them by heart.
    """

    basis: Tensor

    def __init__(self, width: int, basis: Tensor, frames: int, dropout: float) -> None:
        super().__init__()
        recency = torch.arange(1, frames + 1, dtype=torch.float)
        self.mixture = nn.Linear(frames * (frames - 1), frames)  # from the likeness of each pair, in picture and text
        self.dropout = nn.Dropout(dropout)
        self.correction = nn.Linear(width + len(basis), len(basis))
        for layer in (self.mixture, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.mixture.bias.copy_(recency / recency.sum())
        self.register_buffer("basis", basis.clone())
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.log_story_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, state: Tensor, context: Tensor, likeness: Tensor) -> Tensor:
        """(B, D) from the state (B, W), the context's centred vectors (B, K, D) and their likeness (B, K (K - 1))."""
        mixture = torch.einsum("bk,bkd->bd", self.mixture(likeness), context)
        seen = torch.cat([self.dropout(state), mixture @ F.normalize(self.basis, dim=-1).T], dim=-1)
        return mixture + self.correction(seen) @ self.basis


class LinearNextEmbedding(nn.Module):
    """The next frame's embedding read off the story state alone, as both published systems do."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, dim)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.log_story_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, state: Tensor, context: Tensor, likeness: Tensor) -> Tensor:
        """(B, D) from the state (B, W); nothing else is used."""
        return self.head(state)


def likeness(image: Tensor, text: Tensor) -> Tensor:
    """(B, K (K - 1)) cosines of each pair of context frames, of their pictures, then of their texts."""
    first, second = torch.triu_indices(image.shape[1], image.shape[1], offset=1)
    return torch.cat([(x[:, first] * x[:, second]).sum(-1) for x in (image, text)], dim=-1)


class StoryModel(nn.Module):
    """All trainable parts, over the two frozen spaces of dimensions Di and Dt.

    The parts that every arm of the ablation shares are built first and in one order, so that the same seed gives the
    same initial weights whatever the arm.
    """

    def __init__(
        self,
        config: ModelConfig,
        image: FrozenSpace,
        text: FrozenSpace,
        vocabulary: Vocabulary,
        frames: int = 4,
        upper_layers: UpperLayers | None = None,
    ) -> None:
        super().__init__()
        width, dropout = config.width, config.dropout
        self.config = config
        self.image_space, self.text_space = image, text
        self.dropout = nn.Dropout(config.feature_dropout)
        self.image_projection = nn.Linear(len(image.mean), width)
        self.text_projection = nn.Linear(len(text.mean), width)
        self.fusion = Fusion(config.fusion, width, dropout)
        self.temporal = Temporal(config.temporal, width, frames, dropout)
        self.next_image, self.next_text = (
            NextEmbedding(width, space.basis, frames, config.state_dropout)
            if config.next_embedding == "mixture"
            else LinearNextEmbedding(width, len(space.mean))
            for space in (image, text)
        )
        self.text_decoder = TextDecoder(
            vocabulary, width, frames, config.text_decoder, config.text_length, config.word_dropout
        )
        self.image_decoder = IMAGE_DECODERS[config.image_decoder](width, frames, config.image_size)
        self.log_alignment_scale = nn.Parameter(
            torch.tensor(1 / config.temperature).log(), requires_grad=config.learned_temperature
        )
        self.alignment_bias = nn.Parameter(torch.tensor(-10.0))  # SigLIP only
        self.upper_layers = upper_layers

    def texts(self, batch: dict[str, Tensor]) -> Tensor:
        """(..., Dt) the texts of a batch as the story is read: frozen, or from the layers that are trained."""
        return self.upper_layers(batch["text_states"], batch["text_mask"]) if self.upper_layers else batch["text"]

    def project(self, image: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """(..., W) pictures and texts in the space that the story is read in, and that the contrastive loss aligns."""
        return (
            self.image_projection(self.dropout(self.image_space(image))),
            self.text_projection(self.dropout(self.text_space(told))),
        )

    def shared(self, image: Tensor, told: Tensor) -> tuple[Tensor, Tensor]:
        """The projections as unit vectors (..., W): what cross-modal retrieval compares."""
        image, told = self.project(image, told)
        return F.normalize(image, dim=-1), F.normalize(told, dim=-1)

    def read(
        self,
        image: Tensor,
        text: Tensor,
        told: Tensor | None = None,
        projected: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Read the context: image (B, K, Di) and text (B, K, Dt) features in, next embeddings and states out.

        told: (B, K, Dt) the texts from trained layers, see ``texts``. The next embedding is still a mixture of the
        frozen ones: the space of every retrieval score must not move. projected: (B, K, W) each, where it is known.
        """
        projected = projected or self.project(image, text if told is None else told)
        image, text = self.image_space(image), self.text_space(text)
        frames = self.fusion(*projected)  # (B, K, W)
        states = self.temporal(frames)
        state = states[:, -1]
        alike = likeness(image, text)
        return {
            "story": torch.cat([frames, state[:, None]], dim=1),  # (B, K + 1, W): the text decoder's prefix
            "state": state,
            "next_image": self.next_image(state, image, alike),
            "next_text": self.next_text(state, text, alike),
        }

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everything the losses need. The target's own frame enters only as a target; a decoder without one rests."""
        told = self.texts(batch)
        seen, said = self.project(batch["image"], told)
        out = self.read(batch["image"][:, :-1], batch["text"][:, :-1], projected=(seen[:, :-1], said[:, :-1]))
        out["image_shared"], out["text_shared"] = F.normalize(seen, dim=-1), F.normalize(said, dim=-1)
        if "tokens" in batch:
            tokens = batch["tokens"].clamp(min=0)
            out["token_log_probabilities"] = self.text_decoder(out["story"], tokens, batch["context_tokens"])
        if "picture" in batch:
            out |= self.image_decoder.learn(out["state"], batch["context_pictures"], batch["picture"])
        scales = {
            "next_image_scale": self.next_image.log_scale,
            "next_text_scale": self.next_text.log_scale,
            "next_image_story_scale": self.next_image.log_story_scale,
            "next_text_story_scale": self.next_text.log_story_scale,
            "alignment_scale": self.log_alignment_scale,
        }
        out |= {name: log_scale.exp().clamp(max=100) for name, log_scale in scales.items()}
        out["alignment_bias"] = self.alignment_bias
        return out
