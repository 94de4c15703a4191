"""What a language model writes; a correction of its last hidden states may come before the output layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from storylib.data.language_model import LanguageModel

MARKUP = re.compile(r"[<>#*_`|{}\[\]\\~^=@]|http|www\.")  # no piece of a story
Correct = Callable[[Tensor], Tensor]  # last hidden states (..., D) to corrected ones


@torch.no_grad()
def write(
    model: LanguageModel,
    contexts: Sequence[Sequence[str]],
    length: int = 48,
    correct: Correct | None = None,
    **options: Any,
) -> list[str]:
    """The next text after each context: one line, without special pieces, markup or a chat turn.

    correct: applied before the output layer to states (rows, T, D); the beams of a context follow each other.
    options: of the library's ``generate``. It is given no pieces of the prompt, only their embeddings, so that
    ``no_repeat_ngram_size`` counts the words that are written, and leaves names and refrains of the context alone.
    """
    ends, banned = _ends_and_banned(model)
    prompts = [torch.tensor(model.prompt(model.pieces(context), length)).flip(0) for context in contexts]
    ids = pad_sequence(prompts, batch_first=True).flip(1)  # padded on the left
    mask = pad_sequence([torch.ones_like(prompt) for prompt in prompts], batch_first=True).flip(1)
    settings: dict[str, Any] = {"max_new_tokens": length, "min_new_tokens": 1, "suppress_tokens": banned}
    settings |= {"eos_token_id": ends, "pad_token_id": model.start} | options
    hook = model.output.register_forward_pre_hook(lambda _, states: (correct(*states),) if correct else None)
    try:
        device = model.network.device
        prompt = {
            "inputs_embeds": model.network.get_input_embeddings()(ids.to(device)),
            "attention_mask": mask.to(device),
        }
        if (beams := settings.get("num_beams", 1)) > 1:  # the prompt is read once, not once per beam
            one_piece = {"max_new_tokens": 1, "do_sample": False, "return_dict_in_generate": True}
            read = model.network.generate(**prompt, **one_piece, pad_token_id=model.start).past_key_values
            read.crop(-1)  # generation begins with the last piece
            read.batch_repeat_interleave(beams)
            settings["past_key_values"] = read
        rows = model.network.generate(**prompt, **settings)
    finally:
        hook.remove()
    return [text.split("\n")[0].strip() for text in model.tokenizer.batch_decode(rows, skip_special_tokens=True)]


@lru_cache(maxsize=1)
def _ends_and_banned(model: LanguageModel) -> tuple[list[int], list[int]]:
    """The pieces that end a text, and the pieces that are never written."""
    pieces = model.tokenizer.batch_decode([[i] for i in range(model.output.out_features)])
    ends = {i for i, piece in enumerate(pieces) if "\n" in piece} | {model.start, model.end}
    banned = {i for i, piece in enumerate(pieces) if MARKUP.search(piece)} | set(model.tokenizer.all_special_ids)
    return sorted(ends), sorted(banned - ends)
