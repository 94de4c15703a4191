"""Both published systems and a run of storylib as predictors for ``check``: each answers as its protocol scores it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from storylib.audit.data import TEXT_LENGTH_B
from storylib.audit.system_a import SystemA
from storylib.audit.system_b import SystemB
from storylib.data.pictures import PictureLike
from storylib.data.types import Window
from storylib.experiments.records import Run
from storylib.experiments.storyteller import NextFrame, Storyteller

Predictor: TypeAlias = "SystemAPredictor | SystemBPredictor | RunPredictor"


def as_predictor(system: SystemA | SystemB | Run) -> Predictor:
    """A trained system, or a run of storylib, as a predictor on which every check can be made."""
    if isinstance(system, SystemA):
        return SystemAPredictor(system)
    if isinstance(system, SystemB):
        return SystemBPredictor(system)
    return RunPredictor(system)


class SystemAPredictor:
    """System A under its protocol: it predicts one token."""

    def __init__(self, system: SystemA) -> None:
        self.system, self.trained_on = system, system.data.train

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        """The texts that it reads."""
        texts = self.system.data.texts(self.system.text_form)[0]
        context = self.system.data.frames_of(windows)[:, :-1]
        if self.system.protocol.attention_keys == "one":
            context = context[:, -1:]
        return [[texts[frame] for frame in row] for row in context.tolist()]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        """The token against which it is scored; of all tokens, the first represents them."""
        place = 0 if self.system.protocol.token_target == "first piece" else 1
        return self._words(self.system.tokens[self.system.data.frames_of(windows)[:, -1], place])

    @torch.inference_mode()
    def write(self, windows: Sequence[Window]) -> list[str]:
        """Its most probable token."""
        out = self.system.model(*self.system.inputs(self.system.data.frames_of(windows)))
        return self._words(out["logits"].argmax(-1))

    def _words(self, indices: Tensor) -> list[str]:
        pieces = self.system.data.pieces
        words: list[str] = pieces.tokenizer.convert_ids_to_tokens([pieces.ids[i] for i in indices.tolist()])
        return words


class SystemBPredictor:
    """System B under its protocol: it writes a text."""

    def __init__(self, system: SystemB) -> None:
        self.system, self.trained_on = system, system.data.train

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        """The texts that it reads."""
        texts = self.system.data.texts(self.system.text_form)[0]
        return [[texts[frame] for frame in row[:-1]] for row in self.system.data.frames_of(windows).tolist()]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        """The texts against which it is scored."""
        return self.system.target_texts(self.system.data.frames_of(windows))

    def write(self, windows: Sequence[Window]) -> list[str]:
        """As the protocol scores it, with teacher forcing if the protocol says so."""
        return self.system.write(self.system.data.frames_of(windows))

    def write_freely(self, windows: Sequence[Window]) -> list[str]:
        """Free running: it reads its own words only."""
        return self.system.write(self.system.data.frames_of(windows), decoding="free")

    @torch.inference_mode()
    def token_nats(self, window: Window, texts: Sequence[str]) -> list[np.ndarray]:
        """Minus the log-probability of each token, the closing one included."""
        system, data = self.system, self.system.data
        inputs, targets = system.inputs_and_targets(data.pieces.encode(texts, TEXT_LENGTH_B))
        context = self.system.data.frames_of([window])[:, :-1]
        state, _, _ = system.model.read(data.image[context], system.text_vectors[context])
        logits = system.model.logits(state.expand(len(texts), -1).contiguous(), inputs)
        nats = -logits.log_softmax(-1).gather(-1, targets[..., None]).squeeze(-1)
        real = targets != data.pieces.pad
        return [row[keep].numpy() for row, keep in zip(nats, real, strict=True)]


class RunPredictor:
    """A run of storylib, which reads the context only."""

    def __init__(self, run: Run) -> None:
        self.storyteller = Storyteller.of_run(run)

    def predict(self, images: Sequence[PictureLike | str], texts: Sequence[str]) -> NextFrame:
        """The next frame, with free-running decoding."""
        return self.storyteller.predict(images, texts)

    @torch.inference_mode()
    def token_nats(self, window: Window, texts: Sequence[str]) -> list[np.ndarray]:
        """Minus the log-probability of each token, the closing one included."""
        storyteller = self.storyteller
        batch = storyteller.context_batch([f.image for f in window.context], [f.text for f in window.context])
        story = storyteller.model.read(batch["image"], batch["text"])["story"].expand(len(texts), -1, -1)
        tokens = storyteller.vocabulary.encode(texts, storyteller.settings.model.text_length).to(story.device)
        context = batch["context_tokens"].expand(len(texts), -1, -1)
        log_probability = storyteller.model.text_decoder(story, tokens, context)
        real = tokens != storyteller.vocabulary.PAD
        return [-row[keep].cpu().numpy() for row, keep in zip(log_probability, real, strict=True)]


class CopyLast:
    """The text of the last frame: the simplest baseline."""

    def predict(self, images: Sequence[object], texts: Sequence[str]) -> str:
        """The last text."""
        return texts[-1]
