"""The text decoder behind its story prefix with the word cache, and both image decoders."""

from __future__ import annotations

import pytest
import torch

from storylib.config import ConfigError, ModelConfig
from storylib.data.vocabulary import Vocabulary
from storylib.decoders import FREE_NATS, IMAGE_DECODERS, MODES, ImageDecoder, SamplingImageDecoder, TextDecoder
from storylib.losses import image_loss

PAD, END, UNKNOWN = Vocabulary.PAD, Vocabulary.END, Vocabulary.UNKNOWN
SIZE, WIDTH, FRAMES, LENGTH = 12, 8, 3, 6
BOTH = pytest.mark.parametrize("kind", IMAGE_DECODERS)


def text_decoder(length=LENGTH, word_dropout=0.0, kind="gpt2-shallow"):
    config = ModelConfig(text_decoder=kind, text_length=length, word_dropout=word_dropout)
    return TextDecoder(Vocabulary(None, range(SIZE - 3)), WIDTH, FRAMES, config)


# Text decoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return text_decoder().eval()


@pytest.fixture
def inputs():
    """story (B, P, width), tokens (B, T), context (B, K, T)."""
    generator = torch.Generator().manual_seed(1)
    story = torch.randn(2, FRAMES + 1, WIDTH, generator=generator)
    tokens = torch.tensor([[3, 5, 4, 7, END, PAD], [8, 2, 9, END, PAD, PAD]])
    context = torch.randint(3, SIZE, (2, FRAMES, LENGTH), generator=generator)
    context[:, :, -1] = PAD
    return story, tokens, context


def test_probabilities_sum_to_one(decoder, inputs):
    whole = decoder.distribution(*inputs)
    assert whole.shape == (2, LENGTH, SIZE)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)


def test_forward_picks_the_true_tokens_from_the_distribution(decoder, inputs):
    picked = decoder.distribution(*inputs).gather(-1, inputs[1][..., None])[..., 0]
    assert torch.allclose(decoder(*inputs), picked.masked_fill(inputs[1] == PAD, 0.0), atol=1e-5)


def test_a_batch_read_in_parts_scores_each_window_as_alone(decoder):
    """Rows are grouped by length, and come back in their order with the same gradients."""
    generator = torch.Generator().manual_seed(2)
    story = torch.randn(21, FRAMES + 1, WIDTH, generator=generator)
    tokens = torch.randint(3, SIZE, (21, LENGTH), generator=generator)
    tokens[torch.arange(LENGTH) >= torch.randint(1, LENGTH + 1, (21, 1), generator=generator)] = PAD
    context = torch.randint(3, SIZE, (21, FRAMES, LENGTH), generator=generator)
    together = decoder(story, tokens, context)
    alone = torch.cat([decoder(*(x[i : i + 1] for x in (story, tokens, context))) for i in range(21)])
    assert torch.allclose(together, alone, atol=1e-5)
    weights = list(decoder.parameters())
    gradients = [torch.autograd.grad(x.sum(), weights) for x in (together, alone)]
    for one, two in zip(*gradients, strict=True):
        assert torch.allclose(one, two, atol=1e-4)


def test_words_are_dropped_in_training_only(inputs):
    torch.manual_seed(0)
    decoder = text_decoder(word_dropout=1.0)
    for module in decoder.modules():  # word dropout is then the only randomness
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    story, tokens, context = inputs
    other = torch.where((tokens > UNKNOWN) & (tokens < 9), tokens + 1, tokens)
    target = tokens[:, 2:3]

    def third_word(tokens):
        whole = decoder.distribution(story, tokens, context)
        return whole[:, 2].gather(1, target)

    assert torch.equal(third_word(tokens), third_word(other))  # the preceding words are hidden
    decoder.eval()
    assert not torch.allclose(third_word(tokens), third_word(other))


@pytest.mark.parametrize("position", range(LENGTH))
def test_a_token_changes_nothing_before_or_at_its_place(decoder, inputs, position):
    story, tokens, context = inputs
    other = tokens.clone()
    other[:, position] = 10
    before, after = decoder.distribution(story, tokens, context), decoder.distribution(story, other, context)
    assert torch.equal(before[:, : position + 1], after[:, : position + 1])
    if position < LENGTH - 1:
        assert not torch.allclose(before[:, position + 1], after[:, position + 1])


def test_every_part_of_the_story_reaches_every_word(decoder, inputs):
    story, tokens, context = inputs
    for part in range(story.shape[1]):
        other = story.clone()
        other[:, part] += 1
        changed = (decoder.distribution(story, tokens, context) - decoder.distribution(other, tokens, context)).abs()
        assert (changed.amax(-1) > 1e-6).all()


def test_the_language_model_equals_one_that_reads_token_by_token(decoder, inputs):
    """Feeding the prefix and the tokens one at a time through the library's cache gives the same scores."""
    story, tokens, context = inputs
    past, steps = None, [decoder.prefix(story), *decoder.lm.get_input_embeddings()(tokens[:, :-1]).split(1, dim=1)]
    scores = []
    for step in steps:
        out = decoder.lm(inputs_embeds=step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        scores.append(decoder.mix(out.logits[:, -1], decoder.word_cache(context)))
    real = tokens != PAD
    assert torch.allclose(torch.stack(scores, 1)[real], decoder.distribution(*inputs)[real], atol=1e-4)


def test_word_cache_by_hand(decoder):
    """Frame 1: 3 3 4; frame 2: unknown and padding; frame 3: 5. Frames weigh 1 : 2 : 3, words within a frame alike."""
    decoder.cache_recency.data = torch.tensor([1.0, 2.0, 3.0]).log()
    context = torch.tensor([[[3, 3, 4, END], [UNKNOWN, END, PAD, PAD], [5, END, PAD, PAD]]])
    cache = decoder.word_cache(context)[0]
    assert cache.shape == (SIZE,)
    expected = torch.zeros(SIZE)
    expected[3], expected[4], expected[5] = 1 / 6 * 2 / 3, 1 / 6 * 1 / 3, 3 / 6
    assert torch.allclose(cache, expected / expected.sum())


def test_mix_by_hand(decoder):
    logits = torch.randn(1, SIZE)
    cache = torch.full((1, SIZE), 1 / SIZE)
    gate = decoder.cache_gate.sigmoid()
    assert gate.item() == pytest.approx(0.1)
    expected = ((1 - gate) * logits.softmax(-1) + gate * cache).log()
    assert torch.allclose(decoder.mix(logits, cache), expected, atol=1e-6)


def test_a_context_without_words_leaves_a_distribution(decoder, inputs):
    story, tokens, context = inputs
    whole = decoder.distribution(story, tokens, torch.full_like(context, UNKNOWN))
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)


def test_gradients_reach_gate_recency_and_story(decoder, inputs):
    story, tokens, context = inputs
    story.requires_grad_()
    decoder(story, tokens, context).sum().backward()
    assert story.grad.any(-1).all()
    assert decoder.cache_gate.grad.abs() > 0 and decoder.cache_recency.grad.abs().max() > 0


def up_to_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row


def favour(decoder, ids, by=50.0):
    """Make the language model prefer these ids over all others."""
    bias = torch.zeros(SIZE)
    bias[ids] = by
    decoder.lm.lm_head.register_forward_hook(lambda *args: args[2] + bias)


@pytest.mark.parametrize("options", [{}, {"num_return_sequences": 3, "num_beams": 3, "do_sample": True}])
@pytest.mark.parametrize("mode", MODES)
def test_padding_and_unknown_are_never_written(decoder, inputs, mode, options):
    """Even if the language model prefers them."""
    story, _, context = inputs
    favour(decoder, [PAD, UNKNOWN])
    written = decoder.generate(story, context, mode, seed=0, **options)
    assert written.shape[0] == 2 * options.get("num_return_sequences", 1) and written.shape[1] <= LENGTH
    assert all(token not in (PAD, UNKNOWN) for row in written.tolist() for token in up_to_end(row))


@pytest.mark.parametrize("mode", MODES)
def test_a_text_ends_after_its_first_word_at_the_earliest(decoder, inputs, mode):
    story, _, context = inputs
    favour(decoder, [END])
    for row in decoder.generate(story, context, mode, seed=0).tolist():
        assert row[0] > UNKNOWN and row[1] == END and set(row[2:]) <= {PAD}


@pytest.mark.parametrize("mode", MODES)
def test_no_three_words_are_repeated(inputs, mode):
    decoder = text_decoder(length=12).eval()
    story, _, context = inputs
    favour(decoder, [5], by=20.0)
    many = decoder.generate(story, context, mode, seed=0).tolist()
    assert any(row.count(5) > 3 for row in many)  # the preference does show
    for row in map(up_to_end, many):
        grams = [tuple(row[i : i + 3]) for i in range(len(row) - 2)]
        assert len(grams) == len(set(grams))


def test_a_beam_is_at_least_as_likely_as_the_greedy_text(decoder, inputs):
    """Texts of three words without an end, scored by the training-time mixture."""
    story, _, context = inputs
    favour(decoder, [END], by=-50.0)
    decoder.cache_gate.data.fill_(0.0)
    likely = []
    for mode in ("greedy", "beam"):
        options = {"num_beams": 40} if mode == "beam" else {}
        written = decoder.generate(story, context, mode, max_new_tokens=3, no_repeat_ngram_size=0, **options)
        likely.append(decoder(story, written.clone(), context).sum(1))
    assert (likely[1] >= likely[0] - 1e-4).all()


def test_nucleus_sampling_draws_from_the_likeliest_words_and_follows_the_seed(decoder, inputs):
    story, _, context = inputs
    decoder.cache_gate.data.fill_(0.0)
    shape = {"max_new_tokens": 1, "num_return_sequences": 200}
    first = decoder.generate(story[:1], context[:1], "nucleus", top_p=0.55, seed=3, **shape)[:, 0]
    expected = decoder.distribution(story[:1], torch.full((1, 1), END), context[:1])[0, 0].exp()
    expected[[PAD, UNKNOWN, END]] = 0
    values, order = (expected / expected.sum()).sort(descending=True)
    nucleus = order[: int((values.cumsum(0) < 0.55).sum()) + 1]
    assert set(first.tolist()) == set(nucleus.tolist())
    before = torch.get_rng_state()
    assert torch.equal(decoder.generate(story[:1], context[:1], "nucleus", top_p=0.55, seed=3, **shape)[:, 0], first)
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is untouched
    assert not torch.equal(decoder.generate(story[:1], context[:1], "nucleus", top_p=0.5, seed=4, **shape)[:, 0], first)


def test_an_unknown_mode_and_a_text_that_is_too_long_are_refused(decoder, inputs):
    with pytest.raises(ConfigError, match=r"Unknown way to write 'beams'. Did you mean 'beam'"):
        decoder.generate(inputs[0], inputs[2], "beams")
    with pytest.raises(ConfigError, match=f"up to {LENGTH} word pieces; it cannot write {LENGTH + 1}"):
        decoder.generate(inputs[0], inputs[2], max_new_tokens=LENGTH + 1)


def test_greedy_writing_takes_the_most_likely_word_of_the_mixture(decoder, inputs):
    """Each written word is the arg max of the training-time distribution after the words before it."""
    story, _, context = inputs
    decoder.cache_gate.data.fill_(0.0)  # equal shares, so that the cache decides some words
    written = decoder.generate(story, context, no_repeat_ngram_size=0).clone()
    whole = decoder.distribution(story, torch.nn.functional.pad(written, (0, LENGTH - written.shape[1])), context)
    whole[..., [PAD, UNKNOWN]] = float("-inf")
    whole[:, 0, END] = float("-inf")
    for row, best in zip(written.tolist(), whole.argmax(-1).tolist(), strict=True):
        n = len(up_to_end(row)) + (END in row)
        assert row[:n] == best[:n]
    without_cache = decoder.distribution(story, written, torch.zeros_like(context))
    assert not torch.equal(without_cache.argmax(-1)[:, 0], written[:, 0])


def test_sampling_follows_the_mixture(decoder, inputs):
    story, _, context = inputs
    torch.manual_seed(0)
    many = 1500
    options = {"max_new_tokens": 1, "do_sample": True, "top_k": 0, "num_return_sequences": many}
    first = decoder.generate(story[:1], context[:1], **options)[:, 0]
    expected = decoder.distribution(story[:1], torch.full((1, 1), END), context[:1])[0, 0].exp()
    expected[[PAD, UNKNOWN, END]] = 0
    expected = expected / expected.sum()
    frequencies = torch.bincount(first, minlength=SIZE) / many
    assert (frequencies - expected).abs().max() < 0.04


def test_text_decoders_from_scratch_have_known_sizes_and_no_other():
    small, tiny = (text_decoder(kind=kind).lm.num_parameters() for kind in ("gpt2-small", "gpt2-tiny"))
    assert tiny < small / 3
    with pytest.raises(ConfigError, match="Did you mean 'gpt2-tiny'"):
        text_decoder(kind="gpt2-tinny")


# Image decoders


@BOTH
@pytest.mark.parametrize("size", [16, 64, 128])
def test_an_untrained_picture_is_the_mean_of_the_context(kind, size):
    decoder = IMAGE_DECODERS[kind](WIDTH, FRAMES, size)
    context = torch.rand(2, FRAMES, 3, size, size)
    assert torch.allclose(decoder(torch.randn(2, WIDTH), context), context.mean(1), atol=1e-6)


@pytest.mark.parametrize("size", [0, 3, 8, 63, 96])
def test_a_size_that_cannot_be_drawn_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size must be 16, 32, 64, 128 and so on, not {size}"):
        ImageDecoder(WIDTH, FRAMES, size)


@BOTH
def test_gradients_reach_state_and_context(kind):
    torch.manual_seed(0)
    decoder = IMAGE_DECODERS[kind](WIDTH, FRAMES, 16)
    decoder.paint.weight.data.normal_()
    state, context = torch.randn(2, WIDTH, requires_grad=True), torch.rand(2, FRAMES, 3, 16, 16, requires_grad=True)
    decoder(state, context).square().sum().backward()
    assert state.grad.any(-1).all() and context.grad.flatten(2).any(-1).all()


def test_a_chosen_frame_is_copied_exactly():
    """With one frame's share at 1 and no correction, the picture is that frame."""
    decoder = ImageDecoder(WIDTH, FRAMES, 32)
    decoder.paint.bias.data[1] = 100.0
    context = torch.rand(2, FRAMES, 3, 32, 32)
    assert torch.allclose(decoder(torch.randn(2, WIDTH), context), context[:, 1], atol=1e-6)


def test_a_finished_decoder_takes_the_likelier_frame_rather_than_a_blend():
    decoder = ImageDecoder(WIDTH, FRAMES, 32)
    decoder.paint.bias.data[1] = 1.0
    context, state = torch.rand(2, FRAMES, 3, 32, 32), torch.randn(2, WIDTH)
    learning = (decoder.train()(state, context) - context[:, 1]).abs().mean()
    finished = (decoder.eval()(state, context) - context[:, 1]).abs().mean()
    assert finished < learning / 4


@pytest.fixture
def sampler():
    torch.manual_seed(0)
    decoder = SamplingImageDecoder(WIDTH, FRAMES, 16)
    decoder.paint.weight.data.normal_(std=0.1)
    return decoder


def draw(decoder, seed, k=3):
    generator = torch.Generator().manual_seed(1)
    state, context = torch.randn(2, WIDTH, generator=generator), torch.rand(2, FRAMES, 3, 16, 16, generator=generator)
    return decoder.sample(state, context, k, torch.Generator().manual_seed(seed))


def test_samples_differ_from_each_other_and_follow_the_seed(sampler):
    drawn = draw(sampler, 0)
    assert drawn.shape == (2, 3, 3, 16, 16) and not drawn.requires_grad
    assert all(not torch.allclose(drawn[:, i], drawn[:, j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert torch.equal(draw(sampler, 0), drawn) and not torch.equal(draw(sampler, 1), drawn)


def test_a_certain_prior_draws_one_picture(sampler):
    sampler.prior.bias.data[32:] = -100.0
    drawn = draw(sampler, 0)
    assert torch.allclose(drawn[:, 0], drawn[:, 1]) and torch.allclose(drawn[:, 0], drawn[:, 2])


def test_half_of_a_batch_learns_without_a_latent(sampler):
    state, context, target = torch.randn(5, WIDTH), torch.rand(5, FRAMES, 3, 16, 16), torch.rand(5, 3, 16, 16)
    out = sampler.train().outputs(state, context, target)
    expected = sampler(state, context)
    assert torch.allclose(out["picture"][3:], expected[3:], atol=1e-6)
    assert (out["picture"][:3] - expected[:3]).abs().amax((1, 2, 3)).min() > 1e-3
    validation = sampler.eval().outputs(state, context, target)  # the expected picture, without sampling
    assert set(validation) == {"picture"} and torch.equal(validation["picture"], sampler(state, context))


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_the_divergence_is_that_of_two_normal_distributions_beyond_the_free_nats(sampler, scale):
    from torch.distributions import Normal, kl_divergence

    torch.nn.init.normal_(sampler.prior.weight, std=0.01)
    sampler.posterior[-1].bias.data.zero_()
    sampler.posterior[-1].weight.data *= torch.tensor([scale, 0.1]).repeat_interleave(32)[:, None]
    state, context, target = torch.randn(1, WIDTH), torch.rand(1, FRAMES, 3, 16, 16), torch.rand(1, 3, 16, 16)
    divergence = sampler.train().outputs(state, context, target)["picture_divergence"]
    mean, deviation = sampler.posterior_of(state, context, target).chunk(2, -1)
    prior_mean, prior_deviation = sampler.prior(state).chunk(2, -1)
    posterior, prior = Normal(mean, deviation.exp()), Normal(prior_mean, prior_deviation.exp())
    expected = kl_divergence(posterior, prior).sum().item()
    assert (expected > FREE_NATS) == (scale > 1)
    assert divergence.item() == pytest.approx(max(0.0, expected - FREE_NATS), rel=1e-4)


def test_samples_learn_both_possible_pictures():
    """From the same state one of two frames recurs: most samples are one of the two."""
    torch.manual_seed(0)
    decoder = SamplingImageDecoder(WIDTH, 2, 16, latent=4).train()
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    state = torch.ones(32, WIDTH)
    context = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(32, 2, 3, 16, 16)
    for _ in range(60):
        target = torch.randint(0, 2, (32, 1, 1, 1)).float().expand(-1, 3, 16, 16)
        out = decoder.outputs(state, context, target)
        loss = image_loss(out["picture"], target) + 0.02 * out["picture_divergence"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = decoder.eval().sample(state[:1], context[:1], 40, torch.Generator().manual_seed(0))[0].mean((1, 2, 3))
    dark, light = (drawn < 0.3).float().mean(), (drawn > 0.7).float().mean()
    assert dark > 0.15 and light > 0.15 and dark + light > 0.6
