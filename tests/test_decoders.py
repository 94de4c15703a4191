"""The vocabulary, and the text decoder behind a story prefix with its word cache."""

from __future__ import annotations

import pytest
import torch

from storylib.config import ConfigError
from storylib.decoders import MODES, TextDecoder, Vocabulary, load_tokenizer
from storylib.encoders import EncoderError

PAD, END, UNKNOWN = Vocabulary.PAD, Vocabulary.END, Vocabulary.UNKNOWN
SIZE, WIDTH, FRAMES, LENGTH = 12, 8, 3, 6


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("gpt2-small", "minilm")


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return Vocabulary.of(["the fox runs home.", "The FOX sleeps", "a fox runs"], tokenizer, at_least=2)


# ---- vocabulary


def test_only_pieces_that_recur_are_words(vocabulary, tokenizer):
    assert tokenizer.convert_ids_to_tokens(sorted(vocabulary.pieces)) == sorted(
        ["the", "fox", "runs"], key=tokenizer.convert_tokens_to_ids
    )
    assert len(vocabulary) == 6


def test_encode_by_hand(vocabulary):
    the, fox, runs = (vocabulary.encode([w], 1)[0, 0].item() for w in ("the", "fox", "runs"))
    assert len({the, fox, runs}) == 3 and min(the, fox, runs) > UNKNOWN
    rows = vocabulary.encode(["The fox runs", "the owl runs fox the", ""], 5)
    assert rows.tolist() == [[the, fox, runs, END, PAD], [the, UNKNOWN, runs, fox, the], [END, PAD, PAD, PAD, PAD]]
    assert vocabulary.encode([], 5).shape == (0, 5)


def test_decode_reverses_encode_and_stops_at_the_end(vocabulary):
    assert vocabulary.decode(vocabulary.encode(["The fox runs", "fox the"], 6)) == ["the fox runs", "fox the"]
    fox = vocabulary.encode(["fox"], 1)[0, 0].item()
    rows = torch.tensor([[fox, PAD, UNKNOWN, fox], [fox, END, fox, fox], [END, fox, PAD, PAD]])
    assert vocabulary.decode(rows) == ["fox fox", "fox", ""]


def test_special_tokens_are_no_words(tokenizer):
    found = Vocabulary.of(["[SEP] fox [CLS] [PAD] [UNK] [MASK]"] * 3, tokenizer)
    assert not set(found.pieces) & set(tokenizer.all_special_ids)
    assert tokenizer.convert_tokens_to_ids("fox") in found.pieces
    assert found.encode(["[SEP] fox"], 3)[0].tolist()[0] == UNKNOWN


def test_a_vocabulary_is_rebuilt_from_its_pieces(vocabulary, tokenizer):
    again = Vocabulary(tokenizer, vocabulary.pieces)
    texts = ["the fox sleeps", "runs"]
    assert torch.equal(again.encode(texts, 4), vocabulary.encode(texts, 4))
    assert len(again) == len(vocabulary)


# ---- text decoder


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return TextDecoder(Vocabulary(None, range(SIZE - 3)), WIDTH, FRAMES, length=LENGTH).eval()


@pytest.fixture
def given():
    """story (B, P, width), tokens (B, T), context (B, K, T)."""
    generator = torch.Generator().manual_seed(1)
    story = torch.randn(2, FRAMES + 1, WIDTH, generator=generator)
    tokens = torch.tensor([[3, 5, 4, 7, END, PAD], [8, 2, 9, END, PAD, PAD]])
    context = torch.randint(3, SIZE, (2, FRAMES, LENGTH), generator=generator)
    context[:, :, -1] = PAD
    return story, tokens, context


def test_probabilities_sum_to_one(decoder, given):
    whole = decoder.distribution(*given)
    assert whole.shape == (2, LENGTH, SIZE)
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)


def test_the_true_tokens_are_picked_from_the_distribution(decoder, given):
    picked = decoder.distribution(*given).gather(-1, given[1][..., None])[..., 0]
    assert torch.allclose(decoder(*given), picked.masked_fill(given[1] == PAD, 0.0), atol=1e-5)


def test_rows_sorted_by_length_come_back_in_their_order(decoder):
    """A batch that is cut into parts scores every window as alone, with the same gradients."""
    generator = torch.Generator().manual_seed(2)
    story = torch.randn(21, FRAMES + 1, WIDTH, generator=generator)
    tokens = torch.randint(3, SIZE, (21, LENGTH), generator=generator)
    tokens[torch.arange(LENGTH) >= torch.randint(1, LENGTH + 1, (21, 1), generator=generator)] = PAD
    context = torch.randint(3, SIZE, (21, FRAMES, LENGTH), generator=generator)
    together = decoder(story, tokens, context)
    alone = torch.cat([decoder(*(x[i : i + 1] for x in (story, tokens, context))) for i in range(21)])
    assert torch.allclose(together, alone, atol=1e-5)
    weights = list(decoder.parameters())
    for ours, theirs in zip(*(torch.autograd.grad(x.sum(), weights) for x in (together, alone)), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_words_are_dropped_in_training_only(given):
    torch.manual_seed(0)
    forgetful = TextDecoder(Vocabulary(None, range(SIZE - 3)), WIDTH, FRAMES, length=LENGTH, word_dropout=1.0)
    for module in forgetful.modules():  # leave word dropout as the only chance
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    story, tokens, context = given
    other = torch.where((tokens > UNKNOWN) & (tokens < 9), tokens + 1, tokens)
    target = tokens[:, 2:3]

    def third_word(tokens):
        whole = forgetful.distribution(story, tokens, context)
        return whole[:, 2].gather(1, target)

    assert torch.equal(third_word(tokens), third_word(other))  # what came before is not seen
    forgetful.eval()
    assert not torch.allclose(third_word(tokens), third_word(other))


@pytest.mark.parametrize("position", range(LENGTH))
def test_a_token_changes_nothing_before_or_at_its_place(decoder, given, position):
    story, tokens, context = given
    other = tokens.clone()
    other[:, position] = 10
    before, after = decoder.distribution(story, tokens, context), decoder.distribution(story, other, context)
    assert torch.equal(before[:, : position + 1], after[:, : position + 1])
    if position < LENGTH - 1:
        assert not torch.allclose(before[:, position + 1], after[:, position + 1])


def test_every_part_of_the_story_reaches_every_word(decoder, given):
    story, tokens, context = given
    for part in range(story.shape[1]):
        other = story.clone()
        other[:, part] += 1
        changed = (decoder.distribution(story, tokens, context) - decoder.distribution(other, tokens, context)).abs()
        assert (changed.amax(-1) > 1e-6).all()


def test_the_language_model_equals_one_that_reads_token_by_token(decoder, given):
    """Feeding the prefix and the tokens one at a time through the library's cache gives the same scores."""
    story, tokens, context = given
    past, steps = None, [decoder.prefix(story), *decoder.lm.get_input_embeddings()(tokens[:, :-1]).split(1, dim=1)]
    scores = []
    for step in steps:
        out = decoder.lm(inputs_embeds=step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        scores.append(decoder.mix(out.logits[:, -1], decoder.word_cache(context)))
    real = tokens != PAD
    assert torch.allclose(torch.stack(scores, 1)[real], decoder.distribution(*given)[real], atol=1e-4)


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


def test_a_context_without_words_leaves_a_distribution(decoder, given):
    story, tokens, context = given
    whole = decoder.distribution(story, tokens, torch.full_like(context, UNKNOWN))
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)


def test_gradients_reach_gate_recency_and_story(decoder, given):
    story, tokens, context = given
    story.requires_grad_()
    decoder(story, tokens, context).sum().backward()
    assert story.grad.any(-1).all()
    assert decoder.cache_gate.grad.abs() > 0 and decoder.cache_recency.grad.abs().max() > 0


def up_to_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row


def wants(decoder, ids, by=50.0):
    """Make the language model want nothing else than these ids."""
    bias = torch.zeros(SIZE)
    bias[ids] = by
    decoder.lm.lm_head.register_forward_hook(lambda *args: args[2] + bias)


@pytest.mark.parametrize("options", [{}, {"num_return_sequences": 3, "num_beams": 3, "do_sample": True}])
@pytest.mark.parametrize("mode", MODES)
def test_padding_and_unknown_are_never_written(decoder, given, mode, options):
    """Even a language model that wants nothing else does not get them."""
    story, _, context = given
    wants(decoder, [PAD, UNKNOWN])
    written = decoder.generate(story, context, mode, LENGTH, seed=0, **options)
    assert written.shape[0] == 2 * options.get("num_return_sequences", 1) and written.shape[1] <= LENGTH
    assert all(token not in (PAD, UNKNOWN) for row in written.tolist() for token in up_to_end(row))


@pytest.mark.parametrize("mode", MODES)
def test_a_text_has_a_word_and_then_may_end(decoder, given, mode):
    story, _, context = given
    wants(decoder, [END])
    for row in decoder.generate(story, context, mode, LENGTH, seed=0).tolist():
        assert row[0] > UNKNOWN and row[1] == END and set(row[2:]) <= {PAD}


@pytest.mark.parametrize("mode", MODES)
def test_no_three_words_come_twice(given, mode):
    decoder = TextDecoder(Vocabulary(None, range(SIZE - 3)), WIDTH, FRAMES, length=12).eval()
    story, _, context = given
    wants(decoder, [5], by=20.0)
    many = decoder.generate(story, context, mode, 12, seed=0).tolist()
    assert any(row.count(5) > 3 for row in many)  # it insists
    for row in map(up_to_end, many):
        grams = [tuple(row[i : i + 3]) for i in range(len(row) - 2)]
        assert len(grams) == len(set(grams))


def test_a_beam_is_at_least_as_likely_as_the_greedy_text(decoder, given):
    """Of three words without an end, scored by the training-time mixture."""
    story, _, context = given
    wants(decoder, [END], by=-50.0)
    decoder.cache_gate.data.fill_(0.0)
    likely = []
    for mode in ("greedy", "beam"):
        written = decoder.generate(story, context, mode, 3, no_repeat_ngram_size=0, **{"num_beams": 40}
                                   if mode == "beam" else {})  # fmt: skip
        likely.append(decoder(story, written.clone(), context).sum(1))
    assert (likely[1] >= likely[0] - 1e-4).all()


def test_nucleus_draws_from_the_likeliest_words_only_and_by_seed(decoder, given):
    story, _, context = given
    decoder.cache_gate.data.fill_(0.0)
    shape = {"length": 1, "num_return_sequences": 200}
    first = decoder.generate(story[:1], context[:1], "nucleus", top_p=0.55, seed=3, **shape)[:, 0]
    expected = decoder.distribution(story[:1], torch.full((1, 1), END), context[:1])[0, 0].exp()
    expected[[PAD, UNKNOWN, END]] = 0
    values, order = (expected / expected.sum()).sort(descending=True)
    nucleus = order[: int((values.cumsum(0) < 0.55).sum()) + 1]
    assert set(first.tolist()) == set(nucleus.tolist())
    before = torch.get_rng_state()
    assert torch.equal(decoder.generate(story[:1], context[:1], "nucleus", top_p=0.55, seed=3, **shape)[:, 0], first)
    assert torch.equal(torch.get_rng_state(), before)  # a seed of its own leaves the rest of the program alone
    assert not torch.equal(decoder.generate(story[:1], context[:1], "nucleus", top_p=0.5, seed=4, **shape)[:, 0], first)


def test_an_unknown_mode_and_too_long_a_text_are_refused(decoder, given):
    with pytest.raises(ConfigError, match=r"Unknown way to write 'beams'. Did you mean 'beam'"):
        decoder.generate(given[0], given[2], "beams")
    with pytest.raises(ConfigError, match=f"up to {LENGTH} word pieces; it cannot write {LENGTH + 1}"):
        decoder.generate(given[0], given[2], length=LENGTH + 1)


def test_greedy_writing_takes_the_most_likely_word_of_the_mixture(decoder, given):
    """Each written word is the arg max of the training-time distribution after the words before it."""
    story, _, context = given
    decoder.cache_gate.data.fill_(0.0)  # half and half, so that the cache decides some words
    written = decoder.generate(story, context, length=LENGTH, no_repeat_ngram_size=0).clone()
    whole = decoder.distribution(story, torch.nn.functional.pad(written, (0, LENGTH - written.shape[1])), context)
    whole[..., [PAD, UNKNOWN]] = float("-inf")
    whole[:, 0, END] = float("-inf")
    for row, best in zip(written.tolist(), whole.argmax(-1).tolist(), strict=True):
        n = len(up_to_end(row)) + (END in row)
        assert row[:n] == best[:n]
    language_only = decoder.distribution(story, written, torch.zeros_like(context))
    assert not torch.equal(language_only.argmax(-1)[:, 0], written[:, 0])  # without the cache it would differ


def test_sampling_follows_the_mixture(decoder, given):
    story, _, context = given
    torch.manual_seed(0)
    many = 1500
    first = decoder.generate(story[:1], context[:1], length=1, do_sample=True, top_k=0, num_return_sequences=many)[:, 0]
    expected = decoder.distribution(story[:1], torch.full((1, 1), END), context[:1])[0, 0].exp()
    expected[[PAD, UNKNOWN, END]] = 0
    expected = expected / expected.sum()
    found = torch.bincount(first, minlength=SIZE) / many
    assert (found - expected).abs().max() < 0.04


# ---- pretrained language models


def random_model(kind):
    """Learned positions and tied words (GPT-2), or rotary positions and an output layer of its own (Llama)."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if kind == "gpt2":
        shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 32}
        return GPT2LMHeadModel(GPT2Config(vocab_size=30, **shape, bos_token_id=0, eos_token_id=0))
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, **shape, bos_token_id=0, eos_token_id=0))


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request, tmp_path_factory):
    """A random causal model of 30 words with a tokenizer of its own, as a hub would give it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp(request.param)
    words = {w: i for i, w in enumerate(["<end>", *(f"w{i}" for i in range(28)), "<unk>"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    random_model(request.param).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(folder):
    vocabulary = Vocabulary.of(["w9 w20 w4 w11"] * 2, load_tokenizer(f"hf:{folder}", "minilm"))
    return vocabulary, TextDecoder(vocabulary, WIDTH, FRAMES, f"hf:{folder}", LENGTH).eval()


def test_any_causal_model_can_write(pretrained):
    vocabulary, decoder = pretrained
    story = torch.randn(2, FRAMES + 1, WIDTH)
    tokens = vocabulary.encode(["w9 w4", "w20"], LENGTH)
    context = vocabulary.encode(["w11 w4"] * 2 * FRAMES, LENGTH).view(2, FRAMES, LENGTH)
    whole = decoder.distribution(story, tokens, context)
    assert whole.shape == (2, LENGTH, len(vocabulary))
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)
    real = tokens != PAD
    picked = whole.gather(-1, tokens[..., None])[..., 0]
    assert torch.allclose(decoder(story, tokens, context)[real], picked[real], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_any_causal_model_writes_only_words_of_the_training_texts(pretrained, mode):
    vocabulary, decoder = pretrained
    context = vocabulary.encode(["w11 w4"] * 2 * FRAMES, LENGTH).view(2, FRAMES, LENGTH)
    written = decoder.generate(torch.randn(2, FRAMES + 1, WIDTH), context, mode, LENGTH, seed=0)
    for text in vocabulary.decode(written):
        assert text and set(text.split()) <= {"w9", "w20", "w4", "w11"}


def test_pretrained_words_keep_their_embeddings(pretrained, folder):
    from transformers import AutoModelForCausalLM

    vocabulary, decoder = pretrained
    original = AutoModelForCausalLM.from_pretrained(folder)
    for table in ("get_input_embeddings", "get_output_embeddings"):
        kept, whole = (getattr(lm, table)().weight for lm in (decoder.lm, original))
        assert len(kept) == len(vocabulary) and torch.equal(kept[3:], whole[vocabulary.pieces])


def test_pretrained_models_stop_at_our_end(pretrained):
    _, decoder = pretrained
    settings = decoder.lm.generation_config
    assert (settings.eos_token_id, settings.pad_token_id) == (END, PAD)


def test_a_language_model_out_of_reach_names_the_way_out(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for load in (
        lambda: TextDecoder(Vocabulary(None, range(6)), 4, 2, "hf:nobody/no-lm"),
        lambda: load_tokenizer("hf:nobody/no-lm", "minilm"),
    ):
        with pytest.raises(EncoderError, match=r"hf:nobody/no-lm.*text_decoder='gpt2-shallow'"):
            load()


def test_text_decoders_from_scratch_come_in_two_sizes_and_no_other(vocabulary):
    small, tiny = (TextDecoder(vocabulary, 8, 4, kind).lm.num_parameters() for kind in ("gpt2-small", "gpt2-tiny"))
    assert tiny < small / 3
    with pytest.raises(ConfigError, match="Did you mean 'gpt2-tiny'"):
        TextDecoder(vocabulary, 8, 4, "gpt2-tinny")
