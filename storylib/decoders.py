"""From the story state to words and to a picture.

Both decoders copy before they create. The text decoder mixes a language model with a cache of the context's words; the
image decoder mixes the context's pictures at every pixel and adds a correction that starts at zero.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from storylib.config import ConfigError, ModelConfig, unknown
from storylib.data.language_model import LanguageModel, load_language_model
from storylib.data.vocabulary import Vocabulary
from storylib.data.windows import Batch
from storylib.data.writing import write
from storylib.metrics.retrieval import tied_rank

MODES: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "beam": {"do_sample": False, "num_beams": 4, "length_penalty": 2.0},  # a sum alone prefers short texts
    "nucleus": {"do_sample": True, "top_p": 0.9, "top_k": 0},
}
FROM_SCRATCH = {"gpt2-shallow": (256, 1), "gpt2-small": (256, 3), "gpt2-tiny": (128, 3)}  # width and layers
CORRECTION_RANK, CORRECTION_DROPOUT = 128, 0.3  # of a pretrained language model's states
SAMPLED_PIECES = 2048  # of the pieces that no training text has
WRITTEN_TOGETHER = 16  # texts that a pretrained language model writes at once
ROWS = 512  # whose logits over all pieces are in memory at once: 100 MB
LENGTH_GROUPS = 4  # parts of a batch that the text decoder reads apart, so that little of each is padding
FREE_NATS = 2.0  # divergence that costs nothing: enough to say which frame recurs; without it no latent is used
DECISIVENESS = 4.0  # of the finished image decoder: a mean of several pictures has the least error, but is blurred
CHANNELS = (64, 48, 24, 8)  # of the image decoder at 4, 8, 16 and 32 pixels; 8 from there on

warnings.filterwarnings("ignore", message="Passing `no_repeat_ngram_size`")  # intended: the prefix has no words


class Writer(nn.Module):
    """What both text decoders share: how they are asked to write."""

    length: int  # word pieces of the longest text
    no_repeat: int  # so many pieces in a row are not written twice
    mode = "greedy"  # how it writes by default
    _write: Any  # (story, context, options of ``generate``) -> ids; each decoder has its own

    @torch.inference_mode()
    def generate(
        self, story: Tensor, context: Tensor, mode: str | None = None, seed: int | None = None, **options: Any
    ) -> Tensor:
        """(B, <= length) ids written freely, with END and padding after the last word.

        mode: "greedy", "beam" (four beams) or "nucleus" (Holtzman et al. 2020), drawn from ``seed`` if one is given; by
        default the decoder's own. options: of the library's ``generate``; they override the mode's. Raises ConfigError
        for an unknown mode, or for ``max_new_tokens`` beyond the length that was learned.
        """
        mode = mode or self.mode
        if mode not in MODES:
            raise ConfigError(unknown("way to write", mode, MODES))
        wanted = options.setdefault("max_new_tokens", self.length)
        if wanted > self.length:
            raise ConfigError(f"The decoder learned texts up to {self.length} word pieces; it cannot write {wanted}.")
        settings = {"no_repeat_ngram_size": self.no_repeat, "min_new_tokens": 1} | MODES[mode] | options
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return self._write(story, context, settings)


class TextDecoder(Writer):
    """A causal language model behind a prefix of story embeddings, with a cache of the context's words.

    Names and places recur. So the next word comes from the language model or, with a learned probability, from the
    words of the context, in which recent frames count more (a cache model: Grave et al. 2017). In what is written no
    three words occur twice, padding and unknown never occur, and the first word is never END.
    """

    no_repeat = 3

    def __init__(self, vocabulary: Vocabulary, width: int, frames: int, config: ModelConfig) -> None:
        super().__init__()
        self.length, self.word_dropout = config.text_length, config.word_dropout
        self.lm = language_model(config.text_decoder, vocabulary, self.length + frames + 1)
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
        return self._mixed(logits.log_softmax(-1), cache, cache)

    def _mixed(self, log_probabilities: Tensor, cached: Tensor, cache: Tensor) -> Tensor:
        """Mix log-probabilities of the language model with probabilities ``cached``; an empty cache has no share."""
        empty = cache.sum(-1, keepdim=True) == 0
        log_lm = torch.where(empty, 0.0, F.logsigmoid(-self.cache_gate))
        log_cache = torch.where(empty, -torch.inf, F.logsigmoid(self.cache_gate))
        return torch.logaddexp(log_lm + log_probabilities, log_cache + cached.clamp(min=1e-12).log())

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
        mixed = self._mixed(lm_log_probabilities, cache.gather(1, tokens), cache)
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
        # Padding is last and a causal model never looks ahead: no mask needed.
        hidden = self.lm.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, first:]
        return self.lm.lm_head(hidden if where is None else hidden[where])

    def _write(self, story: Tensor, context: Tensor, settings: dict[str, Any]) -> Tensor:
        prefix, cache = self.prefix(story), self.word_cache(context)

        def mix_cache(input_ids: Tensor, scores: Tensor) -> Tensor:
            mixed = self.mix(scores, cache.repeat_interleave(len(scores) // len(cache), dim=0))  # one row per beam
            mixed = mixed.masked_fill(scores.isinf(), float("-inf"))  # banned words stay banned
            mixed[:, [Vocabulary.PAD, Vocabulary.UNKNOWN]] = float("-inf")
            return mixed

        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        return self.lm.generate(inputs_embeds=prefix, attention_mask=mask, logits_processor=[mix_cache], **settings)


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
    width, layers = FROM_SCRATCH[kind]
    # The activation is GPT-2's own curve in one kernel. Dropout helps no decoder this small.
    options: dict[str, Any] = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    options |= {"n_positions": positions, "n_embd": width, "n_layer": layers, "n_head": 4, "n_inner": 2 * width}
    options |= {"activation_function": "gelu_pytorch_tanh", "vocab_size": len(vocabulary)}
    options |= {"bos_token_id": None, "eos_token_id": Vocabulary.END, "pad_token_id": Vocabulary.PAD}
    return GPT2LMHeadModel(GPT2Config(**options))


class PretrainedTextDecoder(Writer):
    """A frozen pretrained language model that has read the context, and a correction of its last hidden states.

    The correction depends on the state itself and on the story. It starts at zero, so that the untrained decoder is the
    language model alone. The states of the true next text are stored (``storylib.data.language_model``), so training
    runs nothing but the correction and the rows of the output layer that it needs, for the pieces that occur in
    the training texts, and a random sample of the others, weighted to stand for all of them.
    """

    no_repeat = 6  # hardly any six recur in a picture book; what the context says may
    mode = "beam"  # greedily, it writes texts that are too short
    adaptation: Tensor  # of the language model to the training texts, see storylib.data.adaptation

    def __init__(self, vocabulary: Vocabulary, width: int, frames: int, config: ModelConfig) -> None:
        super().__init__()
        self.vocabulary, self.kind, self.length = vocabulary, config.text_decoder, config.text_length
        lm = load_language_model(self.kind, "cpu")
        size = lm.output.in_features
        self.dropout = nn.Dropout(CORRECTION_DROPOUT)
        self.read_state = nn.Linear(size, CORRECTION_RANK)
        self.read_story = nn.Linear((frames + 1) * width, CORRECTION_RANK)
        self.correction = nn.Linear(CORRECTION_RANK, size)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)
        self.register_buffer("adaptation", torch.zeros(lm.adaptation_size()))
        self.familiar: Tensor | None = None  # pieces of the training texts

    @property
    def lm(self) -> LanguageModel:
        """The language model. It is no part of the weights, and all decoders of a process share it."""
        return load_language_model(self.kind, str(self.correction.weight.device))

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
        device = self.correction.weight.device
        return torch.cat([self.familiar, sample]).to(device), counts.log().to(device)

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

    def _write(self, story: Tensor, context: Tensor, settings: dict[str, Any]) -> Tensor:
        contexts = [self.vocabulary.decode(frames) for frames in context]
        texts = [""] * len(contexts)
        order = (context != Vocabulary.PAD).sum((1, 2)).argsort()  # contexts of similar length need little padding
        for rows in order.split(WRITTEN_TOGETHER):

            def correct(states: Tensor, stories: Tensor = story[rows]) -> Tensor:
                return self.correct(states, stories.repeat_interleave(len(states) // len(stories), dim=0))

            written = write(self.writer, [contexts[row] for row in rows], self.length, correct, **settings)
            for row, text in zip(rows.tolist(), written, strict=True):
                texts[row] = text
        return self.vocabulary.encode(texts, self.length)


def text_context(batch: Batch) -> Tensor:
    """What a text decoder reads of a batch's context: a language model's states if there are any, or the tokens."""
    return batch["states"] if "states" in batch else batch["context_tokens"]


class ImageDecoder(nn.Module):
    """Upsamples the story state; the last doubling shuffles channels into pixels, so no layer runs at full size."""

    def __init__(self, width: int, frames: int, size: int = 64) -> None:
        super().__init__()
        steps = int(math.log2(max(size, 4) / 4))
        if size < 16 or size != 4 * 2**steps:
            raise ConfigError(f"image_size must be 16, 32, 64, 128 and so on, not {size}")
        self.frames = frames
        channels = [CHANNELS[min(i, len(CHANNELS) - 1)] for i in range(steps)]
        self.seed = nn.Linear(width, channels[0] * 16)
        inputs = [*channels[:-2], channels[-2] + 3 * frames]  # the last block also sees the context, reduced
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(8, after),
                nn.GELU(),
            )
            for before, (_, after) in zip(inputs, pairwise(channels), strict=True)
        )
        self.paint = nn.Conv2d(channels[-1], 4 * 3 + frames, 3, padding=1)
        self.choice = nn.Linear(channels[0] * 16, frames)  # which frame recurs, the same at every pixel
        for parameter in (*self.paint.parameters(), *self.choice.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, state: Tensor, context: Tensor) -> Tensor:
        """(B, 3, S, S) pixels, not clamped. state: (B, width). context: (B, K, 3, S, S) pixels in 0..1."""
        return self._draw(self.seed(state), context)

    def outputs(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """What the losses need: the ``picture``, to be compared with the target (B, 3, S, S)."""
        return {"picture": self(state, context)}

    def _draw(self, seed: Tensor, context: Tensor, preference: Tensor | float = 0.0) -> Tensor:
        """(B, 3, S, S) from seeds (B, C * 16), the context's pictures and a preference for each of them (B, K)."""
        seed = F.gelu(seed)
        x = seed.view(len(seed), -1, 4, 4)
        for block in self.blocks[:-1]:
            x = block(x)
        x = self.blocks[-1](torch.cat([x, F.adaptive_avg_pool2d(context.flatten(1, 2), x.shape[-1])], dim=1))
        painted = self.paint(x)  # (B, 12 + K, S / 2, S / 2)
        correction = F.pixel_shuffle(painted[:, self.frames :], 2)
        # Divided by the root of their number, so that the many inputs do not decide in one step.
        choice = preference + self.choice(seed) / math.sqrt(seed.shape[1])
        decisiveness = 1.0 if self.training else DECISIVENESS
        shares = (decisiveness * (painted[:, : self.frames] + choice[:, :, None, None])).softmax(1)
        shares = F.interpolate(shares, scale_factor=2, mode="bilinear")
        return (shares[:, :, None] * context).sum(1) + correction


class SamplingImageDecoder(ImageDecoder):
    """A conditional variational decoder (Sohn et al. 2015): draws the expected picture, and several different samples.

    A latent says how the next picture differs from the expected one: which frame recurs, where something new is. In
    training it is read from the target, later it is drawn from a learned prior. Half of each training batch learns
    without a latent, so that the same weights also give the expected picture.
    """

    def __init__(self, width: int, frames: int, size: int = 64, latent: int = 32) -> None:
        super().__init__(width, frames, size)
        self.prior = nn.Linear(width, 2 * latent)
        nn.init.zeros_(self.prior.weight)
        nn.init.zeros_(self.prior.bias)
        change = (3 * 8 * 8 + 1) * frames
        self.posterior = nn.Sequential(nn.Linear(width + change, width), nn.GELU(), nn.Linear(width, 2 * latent))
        self.seed_of_latent = nn.Linear(latent, self.seed.out_features)
        self.preference = nn.Linear(latent, frames)

    def outputs(self, state: Tensor, context: Tensor, target: Tensor) -> dict[str, Tensor]:
        """In training also ``picture_divergence``, a scalar: nats of posterior from prior, beyond ``FREE_NATS``."""
        if not self.training:
            return {"picture": self(state, context)}
        half = (len(state) + 1) // 2
        mean, log_deviation = self.posterior_of(state[:half], context[:half], target[:half]).chunk(2, -1)
        prior_mean, prior_log_deviation = self.prior(state[:half]).chunk(2, -1)
        latent = mean + log_deviation.exp() * torch.randn_like(mean)
        distance = ((mean - prior_mean) / prior_log_deviation.exp()).square()
        distance = distance + (2 * (log_deviation - prior_log_deviation)).exp()
        divergence = (prior_log_deviation - log_deviation + (distance - 1) / 2).sum(-1).mean()
        seed = self.seed(state)
        seed = torch.cat([seed[:half] + self.seed_of_latent(latent), seed[half:]])
        preference = F.pad(self.preference(latent), (0, 0, 0, len(state) - half))
        return {"picture": self._draw(seed, context, preference), "picture_divergence": F.relu(divergence - FREE_NATS)}

    def posterior_of(self, state: Tensor, context: Tensor, target: Tensor) -> Tensor:
        """(B, 2 Z) mean and log deviation of the latent, from how the target differs from each context frame."""
        change = target[:, None] - context  # (B, K, 3, S, S)
        coarse = F.adaptive_avg_pool2d(change.flatten(1, 2), 8).flatten(1)
        return self.posterior(torch.cat([state, 4 * coarse, 10 * change.abs().mean((2, 3, 4))], dim=-1))

    @torch.no_grad()
    def sample(self, state: Tensor, context: Tensor, k: int, generator: torch.Generator | None = None) -> Tensor:
        """(B, k, 3, S, S) pixels of k samples, not clamped."""
        mean, log_deviation = (part[:, None] for part in self.prior(state).chunk(2, -1))
        noise = torch.randn(len(state), k, mean.shape[-1], generator=generator, dtype=state.dtype)
        latent = mean + log_deviation.exp() * noise.to(state.device)
        seeds = self.seed(state)[:, None] + self.seed_of_latent(latent)
        preferences = self.preference(latent)
        return torch.stack([self._draw(seeds[:, i], context, preferences[:, i]) for i in range(k)], dim=1)


IMAGE_DECODERS = {"upsampling": ImageDecoder, "sampling": SamplingImageDecoder}
