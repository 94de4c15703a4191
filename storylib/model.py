"""The story model: four frames in; the next frame's picture and text out, as embeddings, words and pixels. ::

    picture features -> projection \\                                        / next image embedding
                                    fusion -> temporal model -> story state -- next text embedding
    text features    -> projection /                                         \\ text decoder, image decoder

Each next embedding is a mixture of the context's plus a correction that starts at zero, so that an untrained model
equals a baseline and training is judged on what it adds.
"""

from __future__ import annotations

from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.config import ModelConfig
from storylib.data.features import Rows
from storylib.data.language_model import is_pretrained
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import Batch
from storylib.decoders import IMAGE_DECODERS, PretrainedTextDecoder, TextDecoder, text_context

ROWS_IN_MEMORY = 16_384  # feature vectors


class ContextReading(TypedDict):
    """What the model makes of a context of K frames."""

    story: Tensor  # (B, K + 1, W) the fused frames and the story state: the text decoder's prefix
    state: Tensor  # (B, W) the story state
    next_image: Tensor  # (B, Di) in the frozen space, not of unit length
    next_text: Tensor  # (B, Dt)


class ModelOutput(ContextReading, total=False):
    """What the losses need. A decoder whose loss is off has no entry."""

    image_shared: Tensor  # (B, K + 1, W) unit vectors in the shared space
    text_shared: Tensor  # (B, K + 1, W) of the texts, or of what the pictures show
    token_log_probabilities: Tensor  # (B, T) of the target's true tokens
    picture: Tensor  # (B, 3, S, S) pixels, not clamped
    picture_divergence: Tensor  # scalar, in nats; only of a sampling decoder in training
    next_image_scale: Tensor  # scalars: inverse temperatures of the softmax over all candidates,
    next_text_scale: Tensor
    next_image_in_story_scale: Tensor  # of the softmax over the target's own story,
    next_text_in_story_scale: Tensor
    alignment_scale: Tensor  # and of the contrastive loss
    alignment_bias: Tensor  # scalar; SigLIP only


class FrozenSpace(nn.Module):
    """Frozen features, centred on the training mean and scaled to unit length: the space of every retrieval score."""

    mean: Tensor  # (D,)
    basis: Tensor  # (rank, D) principal directions of the unit vectors, each as long as its standard deviation

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("basis", torch.zeros(min(rank, dim), dim))

    @classmethod
    def fit(cls, vectors: Tensor | Rows, rank: int) -> FrozenSpace:
        """The space of the training frames. vectors: (F, D) their features, read piece by piece."""
        pieces = torch.arange(len(vectors)).split(ROWS_IN_MEMORY)
        means = [vectors[rows].mean(0) * (len(rows) / len(vectors)) for rows in pieces]
        space = cls(len(means[0]), rank)
        space.mean = torch.stack(means).sum(0)
        units = (space(vectors[rows]) for rows in pieces)
        covariance = torch.stack([unit.T @ unit for unit in units]).sum(0) / len(vectors)
        variance, directions = torch.linalg.eigh(covariance.double())  # ascending; in float32 it fails at a low rank
        deviations = variance.clamp(min=0).sqrt()
        space.basis = (directions * deviations).T[-len(space.basis) :].float().contiguous()
        return space

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors - self.mean, dim=-1)


class Fusion(nn.Module):
    """(B, K, W) one vector per frame from its projected picture and text (B, K, W)."""

    def __init__(self, kind: str, width: int, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(dropout))
        elif kind == "gate":
            self.gate = nn.Linear(2 * width, width)
        else:  # pictures attend to the texts of all frames: with one text, its weight would be 1 whatever the picture
            self.attention = nn.MultiheadAttention(width, 4, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        if self.kind == "concat":
            return self.norm(self.mix(torch.cat([image, text], dim=-1)))
        if self.kind == "gate":
            gate = self.gate(torch.cat([image, text], dim=-1)).sigmoid()
            return self.norm(gate * image + (1 - gate) * text)
        attended, _ = self.attention(image, text, text, need_weights=False)
        return self.norm(image + attended)


class Temporal(nn.Module):
    """(B, K, W) states of a story after each frame (B, K, W); the last one is the story state."""

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

    The mixture starts as the recency-weighted mean, a baseline. Its weights depend on how similar the frames are, and
    may be negative, because a story moves away from its start. The correction reads the story state and the mixture. It
    moves along the principal directions of the training frames, in proportion to their standard deviations: with a few
    thousand windows a free correction overfits.
    """

    basis: Tensor

    def __init__(self, width: int, basis: Tensor, frames: int, dropout: float) -> None:
        super().__init__()
        recency = torch.arange(1, frames + 1, dtype=torch.float)
        self.mixture = nn.Linear(frames * (frames - 1), frames)  # from the similarity of each pair of frames
        self.dropout = nn.Dropout(dropout)
        self.correction = nn.Linear(width + len(basis), len(basis))
        for layer in (self.mixture, self.correction):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.mixture.bias.copy_(recency / recency.sum())
        self.register_buffer("basis", basis.clone())
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.log_in_story_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, state: Tensor, context: Tensor, similarity: Tensor) -> Tensor:
        """(B, D) from the state (B, W), the context's centred vectors (B, K, D) and their similarity (B, K (K - 1))."""
        mixture = torch.einsum("bk,bkd->bd", self.mixture(similarity), context)
        inputs = torch.cat([self.dropout(state), mixture @ F.normalize(self.basis, dim=-1).T], dim=-1)
        return mixture + self.correction(inputs) @ self.basis


class LinearNextEmbedding(nn.Module):
    """The next frame's embedding from the story state alone, as in both published systems."""

    def __init__(self, width: int, basis: Tensor, *_: Any) -> None:
        super().__init__()
        self.head = nn.Linear(width, basis.shape[1])
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.log_in_story_scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, state: Tensor, context: Tensor, similarity: Tensor) -> Tensor:
        """(B, D) from the state (B, W); nothing else is used."""
        return self.head(state)


NEXT_EMBEDDINGS: dict[str, Any] = {"mixture": NextEmbedding, "linear": LinearNextEmbedding}


def pair_similarity(image: Tensor, text: Tensor) -> Tensor:
    """(B, K (K - 1)) cosines of each pair of context frames, of their pictures and then of their texts."""
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
        image_space: FrozenSpace,
        text_space: FrozenSpace,
        vocabulary: Vocabulary,
        frames: int,
    ) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.image_space, self.text_space = image_space, text_space
        self.dropout = nn.Dropout(config.feature_dropout)
        self.image_projection = nn.Linear(len(image_space.mean), width)
        self.text_projection = nn.Linear(len(text_space.mean), width)
        self.fusion = Fusion(config.fusion, width, config.dropout)
        self.temporal = Temporal(config.temporal, width, frames, config.dropout)
        next_embedding = NEXT_EMBEDDINGS[config.next_embedding]
        self.next_image = next_embedding(width, image_space.basis, frames, config.state_dropout)
        self.next_text = next_embedding(width, text_space.basis, frames, config.state_dropout)
        text_decoder: Any = PretrainedTextDecoder if is_pretrained(config.text_decoder) else TextDecoder
        self.text_decoder: PretrainedTextDecoder | TextDecoder = text_decoder(vocabulary, width, frames, config)
        self.image_decoder = IMAGE_DECODERS[config.image_decoder](width, frames, config.image_size)
        log_scale = torch.tensor(1 / config.temperature).log()
        self.log_alignment_scale = nn.Parameter(log_scale, requires_grad=config.learned_temperature)
        self.alignment_bias = nn.Parameter(torch.tensor(-10.0))  # SigLIP only

    def project(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(..., W) pictures and texts in the shared space: what the story is read from and the loss aligns."""
        return self.image_projection(self.dropout(self.image_space(image))), self.project_text(text)

    def project_text(self, text: Tensor) -> Tensor:
        """(..., W) texts in the shared space."""
        return self.text_projection(self.dropout(self.text_space(text)))

    def shared(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """(..., W) the projections as unit vectors: what cross-modal retrieval compares."""
        image, text = self.project(image, text)
        return F.normalize(image, dim=-1), F.normalize(text, dim=-1)

    def read(self, image: Tensor, text: Tensor, projected: tuple[Tensor, Tensor] | None = None) -> ContextReading:
        """Read a context. image: (B, K, Di), text: (B, K, Dt) frozen features. projected: both, if known."""
        reads_image, reads_text = self.config.inputs != "texts", self.config.inputs != "pictures"
        projected_image, projected_text = projected or self.project(image, text)
        frames = self.fusion(reads_image * projected_image, reads_text * projected_text)  # (B, K, W)
        state = self.temporal(frames)[:, -1]
        image, text = reads_image * self.image_space(image), reads_text * self.text_space(text)
        similarity = pair_similarity(image, text)
        return {
            "story": torch.cat([frames, state[:, None]], dim=1),
            "state": state,
            "next_image": self.next_image(state, image, similarity),
            "next_text": self.next_text(state, text, similarity),
        }

    def read_windows(self, batch: Batch, projected: tuple[Tensor, Tensor] | None = None) -> ContextReading:
        """Read the contexts of a batch. The target's own frame is a target only, except to an oracle."""
        image, text = batch["image"], batch["text"]
        *earlier, last, target = range(image.shape[1])
        images = [*earlier, target if self.config.inputs == "target picture" else last]
        texts = [*earlier, target if self.config.inputs == "target text" else last]
        context = projected and (projected[0][:, images], projected[1][:, texts])
        return self.read(image[:, images], text[:, texts], context)

    def forward(self, batch: Batch) -> ModelOutput:
        """Everything the losses need."""
        projected_image, projected_text = self.project(batch["image"], batch["text"])
        reading = self.read_windows(batch, (projected_image, projected_text))
        aligned_text = self.project_text(batch["description"]) if "description" in batch else projected_text
        output: ModelOutput = {
            **reading,
            "image_shared": F.normalize(projected_image, dim=-1),
            "text_shared": F.normalize(aligned_text, dim=-1),
            "next_image_scale": _scale(self.next_image.log_scale),
            "next_text_scale": _scale(self.next_text.log_scale),
            "next_image_in_story_scale": _scale(self.next_image.log_in_story_scale),
            "next_text_in_story_scale": _scale(self.next_text.log_in_story_scale),
            "alignment_scale": _scale(self.log_alignment_scale),
            "alignment_bias": self.alignment_bias,
        }
        if "tokens" in batch:
            tokens = batch["tokens"].clamp(min=0)
            output["token_log_probabilities"] = self.text_decoder(reading["story"], tokens, text_context(batch))
        if "picture" in batch:
            pictures = batch["context_pictures"], batch["picture"]
            output |= self.image_decoder.outputs(reading["state"], *pictures)  # type: ignore[typeddict-item]
        return output


def _scale(log_scale: Tensor) -> Tensor:
    """An inverse temperature, at most 100, as in CLIP."""
    return log_scale.exp().clamp(max=100)
