"""The two systems, and our own, as predictors that ``check`` can ask: each answers as its protocol scores it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from storylib.audit.ladder import B_PIECES, Material
from storylib.audit.system_a import SystemA
from storylib.audit.system_b import SystemB
from storylib.prediction import NextFrame
from storylib.runs import Run
from storylib.stories import Window


class Rows:
    """Rows of a material's frames, so that a window may be put together from frames of several stories."""

    def __init__(self, material: Material) -> None:
        self.of = {id(f): i for i, f in enumerate(f for s in material.stories for f in s.frames)}

    def __call__(self, windows: Sequence[Window]) -> Tensor:
        """(W, K + 1): the context's, then the target's. Raises ValueError for frames of other stories."""
        try:
            return torch.tensor([[self.of[id(f)] for f in (*w.context, w.target)] for w in windows])
        except KeyError:
            raise ValueError(
                "the windows must be of the stories that the system was made with: material.stories"
            ) from None


class AskA:
    """System A under its protocol: it says one token."""

    def __init__(self, system: SystemA) -> None:
        self.system, self.trained_on, self.rows = system, system.material.train, Rows(system.material)
        kind = system.protocol.text_input if system.protocol.attention_keys == "one" else "page"
        self.texts = system.material.texts(kind)[0]

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        """The texts that it reads."""
        one = self.system.protocol.attention_keys == "one"
        return [[self.texts[r] for r in (row[-2:-1] if one else row[:-1])] for row in self.rows(windows).tolist()]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        """The token that its score is against; of all tokens, the first stands for them."""
        place = 0 if self.system.protocol.token_target == "first piece" else 1
        return self._words(self.system.tokens[self.rows(windows)[:, -1], place])

    @torch.inference_mode()
    def write(self, windows: Sequence[Window]) -> list[str]:
        """Its most probable token."""
        out = self.system.model(*self.system.inputs(self.rows(windows)))
        return self._words(out["logits"].argmax(-1))

    def _words(self, ids: Tensor) -> list[str]:
        pieces = self.system.material.pieces
        words: list[str] = pieces.tokenizer.convert_ids_to_tokens([pieces.ids[i] for i in ids.tolist()])
        return words


class AskB:
    """System B under its protocol: it writes a text."""

    def __init__(self, system: SystemB) -> None:
        self.system, self.trained_on, self.rows = system, system.material.train, Rows(system.material)
        self.texts = system.material.texts(system.kind)[0]

    def inputs(self, windows: Sequence[Window]) -> list[list[str]]:
        """The texts that it reads."""
        return [[self.texts[r] for r in row[:-1]] for row in self.rows(windows).tolist()]

    def targets(self, windows: Sequence[Window]) -> list[str]:
        """What its score is against."""
        return self.system.material.pieces.decode(self.system.tokens[self.rows(windows)[:, -1]])

    def write(self, windows: Sequence[Window]) -> list[str]:
        """As the protocol scores it, fed with the true text if it says so."""
        return self.system.write(self.rows(windows))

    def write_freely(self, windows: Sequence[Window]) -> list[str]:
        """Fed with its own words only."""
        return self.system.write(self.rows(windows), writing="free")

    @torch.inference_mode()
    def token_nats(self, window: Window, texts: Sequence[str]) -> list[np.ndarray]:
        """Minus the log-probability of each token, the closing one included."""
        given, wanted = self.system.pairs(self.system.material.pieces.encode(texts, B_PIECES))
        context = self.rows([window])[:, :-1]
        state, _, _ = self.system.model.read(self.system.material.image[context], self.system.vectors[context])
        logits = self.system.model.logits(state.expand(len(texts), -1).contiguous(), given)
        nats = -logits.log_softmax(-1).gather(-1, wanted[..., None]).squeeze(-1)
        real = wanted != self.system.material.pieces.pad
        return [row[keep].numpy() for row, keep in zip(nats, real, strict=True)]


class AskRun:
    """A run of storylib, which reads the context only."""

    def __init__(self, run: Run) -> None:
        self.storyteller = run.storyteller

    def predict(self, images: Sequence[object], texts: Sequence[str]) -> NextFrame:
        """The next text, written freely."""
        return self.storyteller.predict(images, texts)  # type: ignore[arg-type]

    @torch.inference_mode()
    def token_nats(self, window: Window, texts: Sequence[str]) -> list[np.ndarray]:
        """Minus the log-probability of each token, the closing one included."""
        teller = self.storyteller.eval()
        batch = teller.read([f.image for f in window.context], [f.text for f in window.context])
        story = teller.model.read(batch["image"], batch["text"], teller.model.texts(batch))["story"]
        tokens = teller.vocabulary.encode(texts, teller.settings.model.text_length).to(story.device)
        context = batch["context_tokens"].expand(len(texts), -1, -1)
        known = teller.model.text_decoder(story.expand(len(texts), -1, -1), tokens, context)
        real = tokens != teller.vocabulary.PAD
        return [-row[keep].cpu().numpy() for row, keep in zip(known, real, strict=True)]


def ask(system: SystemA | SystemB | Run) -> AskA | AskB | AskRun:
    """A system, trained under a protocol, or a run of ours as a predictor that every check can be made on."""
    return (
        AskA(system) if isinstance(system, SystemA) else AskB(system) if isinstance(system, SystemB) else AskRun(system)
    )


class CopyLast:
    """The text of the last frame again: the simplest honest predictor."""

    def predict(self, images: Sequence[object], texts: Sequence[str]) -> str:
        """The last text."""
        return texts[-1]
