"""From the story state to words and to a picture.

Both copy before they create: the text decoder mixes a language model with a cache of the context's words, and the
token decoder takes the codes of a picture from the context's pictures or makes new ones.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.config import ConfigError, ModelConfig, unknown
from storylib.data.language_model import LanguageModel, is_pretrained, load_language_model
from storylib.data.picture_tokens import CELL, CODES, PictureTokenizer
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import Batch
from storylib.data.writing import write
from storylib.metrics.retrieval import tied_rank

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False, "num_beams": 4},
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
FROM_SCRATCH = {"gpt2-shallow": (256, 1), "gpt2-small": (256, 3), "gpt2-tiny": (128, 3)}  # width and layers
CORRECTION_RANK, CORRECTION_DROPOUT = 128, 0.3  # of a pretrained language model's states
SAMPLED_PIECES = 2048  # of those that no training text has
WRITTEN_TOGETHER = 16  # texts that a pretrained language model writes at once
ROWS = 512  # whose logits over all pieces are in memory at once: 100 MB
LENGTH_GROUPS = 4  # parts of a batch that the text decoder reads apart, so that little of each is padding
CHANNELS = (64, 48, 24, 8)  # of the upsampling decoder at 4, 8, 16 and 32 pixels; 8 from there on
CODE_WIDTH, TOKEN_WIDTH, TOKEN_LAYERS = 16, 128, 2  # of the token decoder
SCORED_CODES = 64  # of a picture in a training step: neighbours teach almost the same
DRAWING_STEPS = 6

warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size`")  # intended: the prefix has no words


class TextDecoder(nn.Module):
    """Any Hugging Face causal language model behind a prefix of story embeddings, with a cache of the context's words.

    Names and places recur. So the next word comes from the language model or, with a learned probability, from the
    words of the context, in which recent frames count more (a cache model: Grave et al. 2017).
    """

    def __init__(
        self, vocabulary: Vocabulary, width: int, frames: int, kind: str, length: int = 48, word_dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lm = language_model(kind, vocabulary, length + frames + 1)
        self.length, self.word_dropout = length, word_dropout
        self.prefix = nn.Linear(width, self.lm.get_input_embeddings().embedding_dim)
        self.cache_gate = nn.Parameter(torch.tensor(math.log(0.1 / 0.9)))
        self.cache_recency = nn.Parameter(torch.zeros(frames))

    def word_cache(self, context: Tensor) -> Tensor:
        """(B, V) probability of each word under the words of the context (B, K, T)."""
        weights = (context > Vocabulary.UNKNOWN).float()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        weights = weights * self.cache_recency.softmax(0)[None, :, None]
        cache = weights.new_zeros(len(context), self.lm.config.vocab_size)
        cache = cache.scatter_add(1, context.flatten(1), weights.flatten(1))
        return cache / cache.sum(-1, keepdim=True).clamp(min=1e-9)

    def mix(self, logits: Tensor, cache: Tensor) -> Tensor:
        """Log-probabilities (..., V) of language model and cache together."""
        log_lm, log_cache = self._log_shares(cache)
        return torch.logaddexp(log_lm + logits.log_softmax(-1), log_cache + cache.clamp(min=1e-12).log())

    def _log_shares(self, cache: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 1) log of the language model's and of the cache's share; an empty cache has none."""
        empty = cache.sum(-1, keepdim=True) == 0
        log_lm = torch.where(empty, 0.0, F.logsigmoid(-self.cache_gate))
        return log_lm, torch.where(empty, -torch.inf, F.logsigmoid(self.cache_gate))

    def forward(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """(B, T) log-probability of each true token given the story and the tokens before it, never itself.

        story: (B, P, width) what the prefix is made of. tokens: (B, T) ids. context: (B, K, L) ids. The same as picking
        from ``distribution``, but computed for real tokens only; padding gets 0.
        """
        lengths = (tokens != Vocabulary.PAD).sum(1)
        lm_log_probabilities = torch.zeros(tokens.shape, device=story.device)
        order = lengths.argsort()
        for rows in order.chunk(max(1, min(LENGTH_GROUPS, len(order) // 8))):
            group = tokens[rows, : max(1, int(lengths[rows[-1]]))]
            real = group != Vocabulary.PAD
            losses = F.cross_entropy(self._logits(story[rows], group, real), group[real], reduction="none")
            row, place = real.nonzero(as_tuple=True)
            lm_log_probabilities[rows[row], place] = -losses
        cache = self.word_cache(context)  # (B, V)
        log_lm, log_cache = self._log_shares(cache)  # (B, 1)
        cached = cache.gather(1, tokens).clamp(min=1e-12).log()
        mixed = torch.logaddexp(log_lm + lm_log_probabilities, log_cache + cached)
        return mixed.masked_fill(tokens == Vocabulary.PAD, 0.0)

    def distribution(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """(B, T, V) log-probabilities of every word at every position; arguments as in ``forward``."""
        return self.mix(self._logits(story, tokens), self.word_cache(context)[:, None])

    def ranked(self, story: Tensor, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) log-probability and rank of each true token; arguments as in ``forward``."""
        return _ranked(self.distribution(story, tokens, context), tokens)

    def _logits(self, story: Tensor, tokens: Tensor, where: Tensor | None = None) -> Tensor:
        """(B, T, V), or (N, V) at the N places that are true in ``where`` (B, T)."""
        prefix = self.prefix(story)  # (B, P, E)
        before = tokens[:, :-1]
        if self.training and self.word_dropout:  # what the preceding words do not say must come from the story
            dropped = torch.rand(before.shape, device=before.device) < self.word_dropout
            before = before.masked_fill(dropped & (before != Vocabulary.PAD), Vocabulary.UNKNOWN)
        inputs = torch.cat([prefix, self.lm.get_input_embeddings()(before)], dim=1)
        first = prefix.shape[1] - 1
        if self.lm.config.model_type == "gpt2":  # padding is last and a causal model never looks ahead: no mask needed
            hidden = self.lm.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, first:]
            return self.lm.lm_head(hidden if where is None else hidden[where])
        mask = torch.cat([tokens.new_ones(prefix.shape[:2]), (before != Vocabulary.PAD).long()], dim=1)
        logits = self.lm(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits[:, first:]
        return logits if where is None else logits[where]

    @torch.inference_mode()
    def generate(
        self, story: Tensor, context: Tensor, mode: str = "greedy", seed: int | None = None, **options: Any
    ) -> Tensor:
        """(B, <= length) ids written freely, with END and padding after the last word.

        mode: "greedy", "beam" (4 beams) or "nucleus" (Holtzman et al. 2020), drawn from ``seed`` if one is given.
        options: of the library's ``generate``; they override the mode's. No three words occur twice, padding and
        unknown are never written, and the first word is never END. Raises ConfigError for an unknown mode, or for
        ``max_new_tokens`` beyond the length that was learned.
        """
        settings = {"no_repeat_ngram_size": 3, "min_new_tokens": 1} | _settings(mode, self.length, options)
        prefix, cache = self.prefix(story), self.word_cache(context)

        def mix_cache(input_ids: Tensor, scores: Tensor) -> Tensor:
            """Mixes the word cache into the scores at each step, as in training."""
            mixed = self.mix(scores, cache.repeat_interleave(len(scores) // len(cache), dim=0))  # one row per beam
            mixed = mixed.masked_fill(scores.isinf(), float("-inf"))  # banned words stay banned
            mixed[:, [Vocabulary.PAD, Vocabulary.UNKNOWN]] = float("-inf")
            return mixed

        with _seeded(seed):
            return self.lm.generate(
                inputs_embeds=prefix,
                attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
                logits_processor=[mix_cache],
                **settings,
            )


def _settings(mode: str, length: int, options: dict[str, Any]) -> dict[str, Any]:
    """The library's options of a way to write. Raises ConfigError for an unknown one, or a text longer than learned."""
    if mode not in MODES:
        raise ConfigError(unknown("way to write", mode, MODES))
    if options.setdefault("max_new_tokens", length) > length:
        wanted = options["max_new_tokens"]
        raise ConfigError(f"The decoder learned texts up to {length} word pieces; it cannot write {wanted}.")
    return MODES[mode] | options


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Random draws depend on the seed alone, if there is one."""
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _ranked(log_probabilities: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(...) log-probability of each token and its rank among all V. log_probabilities: (..., V)."""
    own = log_probabilities.gather(-1, tokens[..., None])
    others = torch.ones_like(log_probabilities, dtype=torch.bool).scatter_(-1, tokens[..., None], False)
    return own[..., 0], tied_rank(log_probabilities, own, others)


def language_model(kind: str, vocabulary: Vocabulary, positions: int) -> Any:
    """A small GPT-2 over our vocabulary, from scratch. Raises ConfigError for an unknown name."""
    from transformers import GPT2Config, GPT2LMHeadModel  # takes seconds
    from transformers.utils import logging

    logging.set_verbosity_error()
    if kind not in FROM_SCRATCH:
        raise ConfigError(unknown("text decoder", kind, [*FROM_SCRATCH, "smollm2", "hf:<repo>"]))
    ids = {"bos_token_id": None, "eos_token_id": Vocabulary.END, "pad_token_id": Vocabulary.PAD}
    width, layers = FROM_SCRATCH[kind]
    shape: dict[str, Any] = {"n_positions": positions, "n_embd": width, "n_layer": layers, "n_head": 4}
    # The activation is GPT-2's own curve in one kernel. Dropout helps no decoder this small.
    shape |= {"n_inner": 2 * width, "activation_function": "gelu_pytorch_tanh"}
    shape |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(vocabulary), **shape, **ids))  # type: ignore[arg-type]


class PretrainedTextDecoder(nn.Module):
    """A frozen pretrained language model that has read the context, and a correction of its last hidden states.

    The correction depends on the state itself and on the story. It starts at zero, so that the untrained decoder is the
    language model alone. The states of the true next text are stored (``storylib.data.language_model``), so training
    runs nothing but the correction and the rows of the output layer that it needs: those of the pieces that occur in
    the training texts, and a random sample of the others, weighted to stand for all of them.
    """

    adaptation: Tensor  # of the language model to the training texts, see storylib.data.adaptation
    familiar: Tensor | None  # pieces of the training texts

    def __init__(
        self, vocabulary: Vocabulary, width: int, frames: int, kind: str = "smollm2", length: int = 48
    ) -> None:
        super().__init__()
        self.vocabulary, self.kind, self.length = vocabulary, kind, length
        lm = load_language_model(kind, "cpu")
        size = lm.output.in_features
        self.dropout = nn.Dropout(CORRECTION_DROPOUT)
        self.read_state = nn.Linear(size, CORRECTION_RANK)
        self.read_story = nn.Linear((frames + 1) * width, CORRECTION_RANK)
        self.correction = nn.Linear(CORRECTION_RANK, size)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.register_buffer("adaptation", torch.zeros(lm.adaptation_size()))
        self.familiar = None

    @property
    def lm(self) -> LanguageModel:
        """The language model. It is no part of the weights, and all decoders of a process share it."""
        return load_language_model(self.kind, str(self.device))

    @cached_property
    def writer(self) -> LanguageModel:
        """The adapted language model, which only writing needs: training and scores read stored states."""
        return self.lm.adapted(self.adaptation)

    def correct(self, states: Tensor, story: Tensor) -> Tensor:
        """(B, T, D) hidden states, corrected. story: (B, P, width)."""
        story = self.read_story(self.dropout(story.flatten(1)))[:, None]
        return states + self.correction(self.dropout(F.gelu(self.read_state(states) + story)))

    def familiarise(self, tokens: Tensor) -> None:
        """Train on the pieces of these texts, ids (N, T), and on samples of all others; else all are always used."""
        known = torch.zeros(len(self.lm.output.weight), dtype=torch.bool)
        known[self._pieces(tokens[tokens != Vocabulary.PAD])] = True
        others = (~known).nonzero()[:, 0]
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
        self.familiar, self.others = known.nonzero()[:, 0], others[order]

    def _pieces(self, tokens: Tensor) -> Tensor:
        """The language model's pieces of our ids: the texts end where it ends a line."""
        return torch.where(tokens == Vocabulary.END, self.lm.end, tokens - 3)

    def _choices(self) -> tuple[Any, Tensor | float]:
        """(C,) pieces that a true one is compared with, and the log of how many pieces each stands for."""
        if self.familiar is None:
            return slice(None), 0.0
        order = torch.randperm(len(self.others)) if self.training else torch.arange(len(self.others))
        sample = self.others[order[:SAMPLED_PIECES]]
        each = len(self.others) / max(1, len(sample))
        counts = torch.cat([torch.ones(len(self.familiar)), torch.full((len(sample),), each)])
        return torch.cat([self.familiar, sample]).to(self.device), counts.log().to(self.device)

    def forward(self, story: Tensor, tokens: Tensor, context: Tensor) -> Tensor:
        """(B, T) log-probability of each true token; padding gets 0.

        story: (B, P, width). tokens: (B, T) ids. context: (B, T, D) the language model's states before each token.
        """
        real, weight = tokens != Vocabulary.PAD, self.lm.output.weight
        states = self.correct(context, story)[real]  # (N, D)
        own = (states * weight[self._pieces(tokens[real])]).sum(-1)
        pieces, log_count = self._choices()
        compared = weight[pieces]
        total = [(rows @ compared.T + log_count).logsumexp(-1) for rows in states.split(ROWS)]
        return torch.zeros_like(tokens, dtype=own.dtype).masked_scatter(real, own - torch.cat(total))

    def ranked(self, story: Tensor, tokens: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T) log-probability and rank of each true token among all pieces; arguments as in ``forward``."""
        real, weight = tokens != Vocabulary.PAD, self.lm.output.weight
        rows = zip(self.correct(context, story)[real].split(ROWS), self._pieces(tokens[real]).split(ROWS), strict=True)
        parts = [_ranked((states @ weight.T).log_softmax(-1), pieces) for states, pieces in rows]
        own, rank = (torch.cat(part).float() for part in zip(*parts, strict=True))
        empty = torch.zeros_like(tokens, dtype=own.dtype)
        return empty.masked_scatter(real, own), empty.masked_scatter(real, rank)

    @torch.inference_mode()
    def generate(
        self, story: Tensor, context: Tensor, mode: str = "greedy", seed: int | None = None, **options: Any
    ) -> Tensor:
        """(B, <= length) ids written freely; arguments as in ``TextDecoder.generate``.

        No six pieces occur twice in what is written, as hardly in a picture book; what the context says may recur.
        """
        settings = {"no_repeat_ngram_size": 6} | _settings(mode, self.length, options)
        contexts = [self.vocabulary.decode(frames) for frames in context]
        texts = [""] * len(contexts)
        order = (context != Vocabulary.PAD).sum((1, 2)).argsort()  # contexts of similar length need little padding
        with _seeded(seed):
            for rows in order.split(WRITTEN_TOGETHER):

                def correct(states: Tensor, stories: Tensor = story[rows]) -> Tensor:
                    return self.correct(states, stories.repeat_interleave(len(states) // len(stories), dim=0))

                written = write(self.writer, [contexts[row] for row in rows], self.length, correct, **settings)
                for row, text in zip(rows.tolist(), written, strict=True):
                    texts[row] = text
        return self.vocabulary.encode(texts, self.length)

    @property
    def device(self) -> torch.device:
        return self.correction.weight.device


def text_context(batch: Batch) -> Tensor:
    """What a text decoder reads of a batch's context: a language model's states if there are any, or the tokens."""
    return batch["states"] if "states" in batch else batch["context_tokens"]


def text_decoder(
    vocabulary: Vocabulary, width: int, frames: int, config: ModelConfig
) -> TextDecoder | PretrainedTextDecoder:
    """The decoder that ``text_decoder`` names: a pretrained language model, or one from scratch."""
    kind, length = config.text_decoder, config.text_length
    if is_pretrained(kind):
        return PretrainedTextDecoder(vocabulary, width, frames, kind, length)
    return TextDecoder(vocabulary, width, frames, kind, length, config.word_dropout)


class UpsamplingDecoder(nn.Module):
    """Upsamples the story state, as both published systems do; the last doubling shuffles channels into pixels."""

    def __init__(self, width: int, frames: int, size: int = 64) -> None:
        super().__init__()
        steps = int(math.log2(size / 4))
        channels = [CHANNELS[min(i, len(CHANNELS) - 1)] for i in range(steps)]
        self.seed = nn.Linear(width, channels[0] * 16)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Upsample(scale_factor=2, mode="nearest"),
                    nn.Conv2d(before, after, 3, padding=1),
                    nn.GroupNorm(8, after),
                    nn.GELU(),
                )
                for before, after in pairwise(channels)
            )
        )
        self.paint = nn.Conv2d(channels[-1], 4 * 3, 3, padding=1)

    def losses(self, state: Tensor, batch: Batch) -> Tensor:
        """(B,) mean absolute error of the pixels: sharper than the squared error (Zhao et al. 2017)."""
        return (self._draw(state) - batch["picture"]).abs().mean((1, 2, 3))

    def draw(self, state: Tensor, batch: Batch) -> Tensor:
        """(B, 3, S, S) pixels in 0..1 of states (B, width); nothing else is used."""
        return self._draw(state).clamp(0, 1)

    def _draw(self, state: Tensor) -> Tensor:
        x = F.gelu(self.seed(state)).view(len(state), -1, 4, 4)
        return F.pixel_shuffle(self.paint(self.blocks(x)), 2) + 0.5


class TokenDecoder(nn.Module):
    """Predicts the codes of the next picture, several at a time: a masked transformer (Chang et al. 2022).

    A position is a square of 2 x 2 codes. It sees its codes in each context picture, those of the next picture that are
    known already, and the story state. Each code is new or, with learned probabilities, the one that a context picture
    has at its place: a backdrop that stays is copied exactly.
    """

    def __init__(self, width: int, frames: int, size: int = 64) -> None:
        super().__init__()
        self.frames, self.side = frames, size // CELL  # codes of a side
        self.tokenizer = PictureTokenizer().requires_grad_(False)
        self.embedding = nn.Embedding(CODES + 1, CODE_WIDTH)  # the last one: not known yet
        self.read_codes = nn.Linear((frames + 1) * 4 * CODE_WIDTH, TOKEN_WIDTH)
        self.read_state = nn.Linear(width, TOKEN_WIDTH)
        self.position = nn.Parameter(torch.randn((self.side // 2) ** 2, TOKEN_WIDTH) * 0.02)
        layer = nn.TransformerEncoderLayer(
            TOKEN_WIDTH, 4, 2 * TOKEN_WIDTH, 0.1, "gelu", batch_first=True, norm_first=True
        )
        self.network = nn.TransformerEncoder(layer, TOKEN_LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(TOKEN_WIDTH)
        self.write = nn.Linear(TOKEN_WIDTH, 4 * CODE_WIDTH)
        self.choice = nn.Linear(TOKEN_WIDTH, 4 * (frames + 1))  # a context picture's code, or a new one
        self.bias = nn.Parameter(torch.zeros(CODES))
        nn.init.normal_(self.embedding.weight, std=CODE_WIDTH**-0.5)
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def losses(self, state: Tensor, batch: Batch) -> Tensor:
        """(B,) nats per code that is not known; in training a random share is, otherwise none."""
        context, codes = batch["codes"][:, :-1], batch["codes"][:, -1]
        hidden = torch.ones_like(codes, dtype=torch.bool)
        if self.training:
            share = torch.cos(torch.rand(len(codes), 1, 1, device=codes.device) * math.pi / 2)
            hidden = torch.rand(codes.shape, device=codes.device) < share
            hidden[:, 0, 0] |= ~hidden.any((1, 2))
        new, choice = self._read(state, context, codes.masked_fill(hidden, CODES))
        scored = hidden
        if self.training:
            order = torch.rand(codes.shape, device=codes.device).masked_fill(~hidden, 1).flatten(1)
            chosen = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order.argsort(1)[:, :SCORED_CODES], True)
            scored = hidden & chosen.view(codes.shape)
        window = scored.nonzero()[:, 0]
        true, choice, old = codes[scored], choice[scored].log_softmax(-1), context.movedim(1, -1)[scored]
        log_new = choice[:, -1] - F.cross_entropy(self._logits(new[scored]), true, reduction="none")
        log_old = choice[:, :-1].masked_fill(old != true[:, None], -torch.inf)
        nats = -torch.cat([log_old, log_new[:, None]], dim=1).logsumexp(1)
        sums = torch.zeros_like(state[:, 0]).index_add(0, window, nats.to(state.dtype))
        return sums / scored.sum((1, 2))

    def probabilities(self, state: Tensor, context: Tensor, codes: Tensor) -> Tensor:
        """(B, G, G, V) of every code at every place. context: (B, K, G, G) codes. codes: (B, G, G), V where unknown."""
        new, choice = self._read(state, context, codes)
        shares = choice.softmax(-1)
        new = self._logits(new).softmax(-1) * shares[..., -1:]
        return new.scatter_add(-1, context.movedim(1, -1), shares[..., :-1])

    @torch.inference_mode()
    def draw(self, state: Tensor, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3, S, S) pixels in 0..1: the likeliest picture, or with a generator a random one.

        A code that a context picture has at its place takes its pixels from there, as far as they differ from what the
        code alone shows.
        """
        context = batch["codes"][:, : self.frames]
        codes = self._codes(state, context, generator)
        shares = self._read(state, context, codes)[1][..., : self.frames].movedim(-1, 1)  # (B, K, G, G)
        same = context == codes[:, None]
        source = shares.masked_fill(~same, -torch.inf).argmax(1, keepdim=True)
        chosen = torch.zeros_like(same).scatter(1, source, True)
        copied = (same & chosen).repeat_interleave(CELL, -1).repeat_interleave(CELL, -2)[:, :, None]
        pictures = batch["context_pictures"]
        shown = self.tokenizer.decode(context.flatten(0, 1)).view(pictures.shape)
        return (self.tokenizer.decode(codes) + ((pictures - shown) * copied).sum(1)).clamp(0, 1)

    def _codes(self, state: Tensor, context: Tensor, generator: torch.Generator | None) -> Tensor:
        """(B, G, G) codes. In each of a few steps those that the model is surest of become known, at first few."""
        codes = torch.full_like(context[:, 0], CODES)
        for step in range(DRAWING_STEPS):
            probabilities = self.probabilities(state, context, codes).flatten(1, 2)  # (B, G * G, V)
            noise = torch.zeros(probabilities.shape[:2])
            if generator is None:
                sure, drawn = probabilities.max(-1)
            else:
                point = torch.rand(noise.shape, generator=generator)[..., None].to(probabilities)
                drawn = torch.searchsorted(probabilities.cumsum(-1), point)[..., 0].clamp(max=CODES - 1)
                sure = probabilities.gather(-1, drawn[..., None])[..., 0]
                noise = -torch.empty(noise.shape).exponential_(generator=generator).log()  # Gumbel
            unknown = codes.flatten(1) == CODES
            drawn = torch.where(unknown, drawn, codes.flatten(1))
            remaining = 1 - (step + 1) / DRAWING_STEPS
            order = sure.log() + remaining * noise.to(sure)
            order = order.masked_fill(~unknown, torch.inf).argsort(1, descending=True)
            known = drawn.shape[1] - int(math.sin(remaining * math.pi / 2) * drawn.shape[1])
            codes = drawn.scatter(1, order[:, known:], CODES).view(codes.shape)
        return codes

    def sample(self, state: Tensor, batch: Batch, k: int, generator: torch.Generator) -> Tensor:
        """(B, k, 3, S, S) pixels of k random pictures."""
        return torch.stack([self.draw(state, batch, generator) for _ in range(k)], dim=1)

    def _read(self, state: Tensor, context: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """(B, G, G, CODE_WIDTH) what is new at each place, and (B, G, G, K + 1) where its code comes from."""
        pictures = self.embedding(torch.cat([context, codes[:, None]], dim=1))  # (B, K + 1, G, G, C)
        squares = pictures.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # (B, K + 1, G / 2, 2, G / 2, 2, C)
        squares = squares.permute(0, 2, 4, 1, 3, 5, 6).flatten(3).flatten(1, 2)  # (B, P, (K + 1) * 4 * C)
        tokens = self.read_codes(squares) + self.position + self.read_state(state)[:, None]
        tokens = self.norm(self.network(tokens))
        return self._places(self.write(tokens)), self._places(self.choice(tokens))

    def _places(self, squares: Tensor) -> Tensor:
        """(B, G, G, C) from squares of 2 x 2 codes (B, P, 4 * C)."""
        side = self.side // 2
        return squares.view(len(squares), side, side, 2, 2, -1).transpose(2, 3).flatten(3, 4).flatten(1, 2)

    def _logits(self, new: Tensor) -> Tensor:
        """(..., V) scores of every code."""
        return new @ self.embedding.weight[:CODES].T + self.bias


IMAGE_DECODERS: dict[str, Any] = {"upsampling": UpsamplingDecoder, "tokens": TokenDecoder}
