"""System A, a cross-modal predictor, under its published protocol and under each repair of it.

Source: its public README and notebook (see the chapter). Frozen features of a picture and of a text, both projected to
512; pictures attend to one text vector; an LSTM; a head for the next picture's embedding and one for one word piece.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.audit.data import AuditData
from storylib.audit.protocols import ProtocolA
from storylib.audit.system import LEARNING_RATE, System

WIDTH, HEADS = 512, 4


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


class SystemA(System):
    scored_batches = 1

    def __init__(self, data: AuditData, protocol: ProtocolA, seed: int = 0) -> None:
        super().__init__(data, protocol, seed, protocol.text_input if protocol.attention_keys == "one" else "frame")
        self.tokens = data.pieces.encode(data.texts("frame")[0], 128)  # (F, 128)
        train_images = data.image[data.train_windows.unique()]
        self.mean = train_images.mean(0)
        self.scale = (train_images - self.mean).pow(2).mean().sqrt()
        torch.manual_seed(seed)
        target_dim = WIDTH if protocol.image_target == "own projection" else data.image.shape[1]
        dims = data.image.shape[1], self.text_vectors.shape[1], target_dim
        self.model = CrossModalPredictor(*dims, len(data.pieces.ids))
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        self.train_windows, self.epochs = data.train_windows, data.settings.epochs_a

    def model_inputs(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (B, K, Di) and text keys (B, 1 or K, Dt) of windows."""
        return self.data.image[windows[:, :-1]], self.text_vectors[self.text_frames(windows)]

    def text_frames(self, windows: Tensor) -> Tensor:
        return windows[:, -2:-1] if self.protocol.attention_keys == "one" else windows[:, :-1]

    def image_targets(self, frames: Tensor) -> Tensor:
        """Pictures as the protocol's targets: through the model's own projection, or frozen and centred."""
        pictures = self.data.image[frames]
        if self.protocol.image_target == "own projection":
            return self.model.image_projection(pictures).detach()
        return (pictures - self.mean) / self.scale

    def token_targets(self, windows: Tensor, position: int = -1) -> tuple[Tensor, Tensor]:
        """Window index and token of each target token. position: of the frame in the window; -1 is the target."""
        pieces, tokens = self.data.pieces, self.tokens[windows[:, position]]
        if self.protocol.token_target == "first piece":
            tokens = tokens[:, :1]  # always [CLS]
        elif self.protocol.token_target == "first token":
            tokens = tokens[:, 1:2]
        else:
            tokens = tokens[:, 1:].masked_fill(tokens[:, 1:] == pieces.end, pieces.pad)
        window, place = (tokens != pieces.pad).nonzero(as_tuple=True)
        return window, tokens[window, place]

    def loss(self, windows: Tensor) -> Tensor:
        """Squared error of the picture's embedding plus cross-entropy of the target tokens."""
        out = self.model(*self.model_inputs(windows))
        window, token = self.token_targets(windows)
        loss = F.mse_loss(out["image"], self.image_targets(windows[:, -1]))
        return loss + F.cross_entropy(out["logits"][window], token)

    @torch.inference_mode()
    def score(self) -> dict[str, float]:
        """Top-1, top-5 and cosine with their baselines, and the change of the output when pictures are shuffled."""
        windows = self.scored_windows()
        out = self.model(*self.model_inputs(windows))
        scores = self.token_scores(windows, out["logits"]) | self.image_scores(windows, out["image"])
        return scores | {"shuffled_pictures_change": self.shuffle_pictures(windows)}

    def token_scores(self, windows: Tensor, logits: Tensor) -> dict[str, float]:
        """Share of target tokens among the first one and the first five. logits: (B, V)."""
        window, token = self.token_targets(windows)
        _, train_tokens = self.token_targets(self.data.train_windows)
        counts = torch.bincount(train_tokens, minlength=len(self.data.pieces.ids)).float()
        # The bag of the last text's tokens, ties broken by the frequency of a token.
        last = torch.zeros(len(windows), len(counts))
        last.index_put_(self.token_targets(windows, -2), torch.tensor(1.0), accumulate=True)
        last += counts / (counts.sum() + 1)
        predictions = {"": logits, "_majority": counts.expand(len(windows), -1), "_copy_last": last}
        scores = {}
        for name, prediction in predictions.items():
            best = prediction.topk(5).indices[window]  # (tokens, 5)
            scores[f"top1{name}"] = float((best[:, 0] == token).float().mean())
            scores[f"top5{name}"] = float((best == token[:, None]).any(1).float().mean())
        return scores

    def image_scores(self, windows: Tensor, predicted: Tensor) -> dict[str, float]:
        """Mean cosine of predicted embeddings (B, D) and of two baselines to the target's."""
        target = self.image_targets(windows[:, -1])
        constant = self.image_targets(self.data.train_windows[:, -1]).mean(0).expand_as(target)
        last = self.image_targets(windows[:, -2])
        predictions = {"cosine": predicted, "cosine_constant": constant, "cosine_copy_last": last}
        return {name: float(F.cosine_similarity(p, target, dim=-1).mean()) for name, p in predictions.items()}

    @torch.inference_mode()
    def shuffle_pictures(self, windows: Tensor) -> float:
        """Largest change of any output when every window gets the pictures of another."""
        images, texts = self.model_inputs(windows)
        others = images.roll(len(windows) // 2, 0)  # windows of one story stand together
        before, after = self.model(images, texts), self.model(others.flip(1), texts)
        return float(max((before[k] - after[k]).abs().max() for k in ("image", "logits")))

    @torch.inference_mode()
    def write(self, windows: Tensor) -> list[str]:
        """The most probable token for each window."""
        return self.data.pieces.decode(self.model(*self.model_inputs(windows))["logits"].argmax(-1, keepdim=True))

    def target_texts(self, windows: Tensor) -> list[str]:
        """The target token of each window; of all tokens, the first represents them."""
        place = 0 if self.protocol.token_target == "first piece" else 1
        return self.data.pieces.decode(self.tokens[windows[:, -1], place, None])
