"""The two systems as predictors that ``check`` can ask: each answers as its protocol scores it, flaws and all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from storylib.audit.ladder import B_PIECES, Material
from storylib.audit.system_a import SystemA
from storylib.audit.system_b import SystemB
from storylib.encoders import TextEncoder, load_text_encoder
from storylib.pictures import picture_digest
from storylib.stories import Story, Window


class Seen:
    """Features of frames by what is on them, so that a window may be put together from frames of any stories."""

    def __init__(self, material: Material, kind: str) -> None:
        self.material, self.kind = material, kind
        texts, vectors = material.texts(kind)
        self.vector_of = dict(zip(texts, vectors, strict=True))
        frames = [f for s in material.data.stories for f in s.frames]
        self.row_of = {picture_digest(f.image): i for i, f in enumerate(frames)}

    def text(self, window: Window, place: int) -> str:
        """What the protocol gives as the text of a frame; place: 0 for the first of the context, -1 for the next."""
        place = window.length if place < 0 else place
        return self.material.kinds[self.kind](window.story, window.start + place)

    def images(self, windows: Sequence[Window]) -> Tensor:
        """(W, K, Di)."""
        return self.material.image[torch.tensor([[self.row_of[picture_digest(f.image)] for f in w.context]
                                                 for w in windows])]  # fmt: skip

    def texts(self, windows: Sequence[Window], places: Sequence[int]) -> Tensor:
        """(W, places, Dt); texts that were never seen are encoded now."""
        rows = [[self.text(w, p) for p in places] for w in windows]
        new = sorted({t for row in rows for t in row} - set(self.vector_of))
        for start in range(0, len(new), 64):
            part = new[start : start + 64]
            self.vector_of |= dict(zip(part, self._encoder.embed(part), strict=True))
        return torch.stack([torch.stack([self.vector_of[t] for t in row]) for row in rows])

    @cached_property
    def _encoder(self) -> TextEncoder:
        return load_text_encoder(self.material.encoders[1])


class AskA:
    """System A under its protocol: it says one token."""

    def __init__(self, system: SystemA) -> None:
        self.system, self.trained_on = system, system.material.train
        one = system.protocol.attention_keys == "one"
        context = system.material.context
        self.places = range(context - 1, context) if one else range(context)
        self.seen = Seen(system.material, system.protocol.text_input if one else "page")

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        return [[self.seen.text(w, p) for p in self.places] for w in windows]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        """The token that its score is against; of all tokens, the first stands for them."""
        pieces = self.system.material.pieces
        place = 0 if self.system.protocol.token_target == "first piece" else 1
        return self._words(pieces.encode([w.target.text for w in windows], 8)[:, place])

    @torch.inference_mode()
    def write(self, windows: Sequence[Window]) -> list[str]:
        out = self.system.model(self.seen.images(windows), self.seen.texts(windows, self.places))
        return self._words(out["logits"].argmax(-1))

    def _words(self, ids: Tensor) -> list[str]:
        pieces = self.system.material.pieces
        return pieces.tokenizer.convert_ids_to_tokens([pieces.ids[i] for i in ids.tolist()])


class AskB:
    """System B under its protocol: it writes a text."""

    def __init__(self, system: SystemB) -> None:
        self.system, self.trained_on = system, system.material.train
        self.seen = Seen(system.material, system.kind)
        self.places = range(system.material.context)

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        return [[self.seen.text(w, p) for p in self.places] for w in windows]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        return self.system.material.pieces.decode(self._tokens([self.seen.text(w, -1) for w in windows]))

    @torch.inference_mode()
    def write(self, windows: Sequence[Window]) -> list[str]:
        """As the protocol scores it, fed with the true text if it says so."""
        if self.system.protocol.writing == "free":
            return self.write_freely(windows)
        tokens = self._tokens([self.seen.text(w, -1) for w in windows])
        return self.system.material.pieces.decode(self.system.forced(self._state(windows), tokens))

    @torch.inference_mode()
    def write_freely(self, windows: Sequence[Window]) -> list[str]:
        return self.system.material.pieces.decode(self.system.free(self._state(windows)))

    @torch.inference_mode()
    def token_nats(self, window: Window, texts: Sequence[str]) -> list[np.ndarray]:
        """Minus the log-probability of each token, the closing one included."""
        given, wanted = self.system.pairs(self._tokens(texts))
        state = self._state([window]).expand(len(texts), -1).contiguous()
        nats = -self.system.model.logits(state, given).log_softmax(-1).gather(-1, wanted[..., None]).squeeze(-1)
        real = wanted != self.system.material.pieces.pad
        return [row[keep].numpy() for row, keep in zip(nats, real, strict=True)]

    @torch.inference_mode()
    def _state(self, windows: Sequence[Window]) -> Tensor:
        return self.system.model.read(self.seen.images(windows), self.seen.texts(windows, self.places))[0]

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        return self.system.material.pieces.encode(texts, B_PIECES)


def ask(system: SystemA | SystemB) -> AskA | AskB:
    """A system, trained under a protocol, as a predictor for ``check``."""
    return AskA(system) if isinstance(system, SystemA) else AskB(system)


class CopyLast:
    """The text of the last frame again: the simplest honest predictor."""

    trained_on: tuple[Story, ...] = ()

    def predict(self, images: Sequence[object], texts: Sequence[str]) -> str:
        return texts[-1]
