"""The vocabulary, the text decoder behind a story prefix with its word cache, and the image decoder."""

from __future__ import annotations

import pytest
import torch

from storylib.config import ConfigError
from storylib.decoders import ImageDecoder, TextDecoder, Vocabulary, load_tokenizer
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
    assert torch.allclose(decoder(*given), picked, atol=1e-5)


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


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 4}])
def test_padding_and_unknown_are_never_written(decoder, given, options):
    """Even a language model that wants nothing else does not get them."""
    story, _, context = given
    bias = torch.zeros(SIZE)
    bias[[PAD, UNKNOWN]] = 50.0
    decoder.lm.lm_head.register_forward_hook(lambda *args: args[2] + bias)
    torch.manual_seed(0)
    written = decoder.write(story, context, length=LENGTH, **options)
    assert written.shape[0] == 2 * options.get("num_return_sequences", 1) and written.shape[1] <= LENGTH
    assert all(token not in (PAD, UNKNOWN) for row in written.tolist() for token in up_to_end(row))


def test_greedy_writing_takes_the_most_likely_word_of_the_mixture(decoder, given):
    """Each written word is the arg max of the training-time distribution after the words before it."""
    story, _, context = given
    decoder.cache_gate.data.fill_(0.0)  # half and half, so that the cache decides some words
    written = decoder.write(story, context, length=LENGTH, no_repeat_ngram_size=0).clone()
    whole = decoder.distribution(story, torch.nn.functional.pad(written, (0, LENGTH - written.shape[1])), context)
    whole[..., [PAD, UNKNOWN]] = float("-inf")
    for row, best in zip(written.tolist(), whole.argmax(-1).tolist(), strict=True):
        n = len(up_to_end(row)) + (END in row)
        assert row[:n] == best[:n]
    language_only = decoder.distribution(story, written, torch.zeros_like(context))
    assert not torch.equal(language_only.argmax(-1)[:, 0], written[:, 0])  # without the cache it would differ


def test_sampling_follows_the_mixture(decoder, given):
    story, _, context = given
    torch.manual_seed(0)
    many = 1500
    first = decoder.write(story[:1], context[:1], length=1, do_sample=True, top_k=0, num_return_sequences=many)[:, 0]
    expected = decoder.distribution(story[:1], torch.full((1, 1), END), context[:1])[0, 0].exp()
    expected[[PAD, UNKNOWN]] = 0
    expected = expected / expected.sum()
    found = torch.bincount(first, minlength=SIZE) / many
    assert (found - expected).abs().max() < 0.04


def test_writing_repeats_no_three_words(decoder, given):
    story, _, context = given
    decoder.cache_gate.data.fill_(4.0)
    row = up_to_end(decoder.write(story, context, length=LENGTH)[0].tolist())
    grams = [tuple(row[i : i + 3]) for i in range(len(row) - 2)]
    assert len(grams) == len(set(grams))


# ---- pretrained language models


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    """A random GPT-2 of 30 words with a tokenizer of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    words = {w: i for i, w in enumerate(["<end>", *(f"w{i}" for i in range(28)), "<unk>"])}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(gpt2_folder):
    vocabulary = Vocabulary.of(["w9 w20 w4 w11"] * 2, load_tokenizer(f"hf:{gpt2_folder}", "minilm"))
    return vocabulary, TextDecoder(vocabulary, WIDTH, FRAMES, f"hf:{gpt2_folder}", LENGTH).eval()


def test_any_causal_model_can_write(pretrained):
    vocabulary, decoder = pretrained
    story = torch.randn(2, FRAMES + 1, WIDTH)
    tokens = vocabulary.encode(["w9 w4", "w20"], LENGTH)
    context = vocabulary.encode(["w11 w4"] * 2 * FRAMES, LENGTH).view(2, FRAMES, LENGTH)
    whole = decoder.distribution(story, tokens, context)
    assert whole.shape == (2, LENGTH, len(vocabulary))
    assert torch.allclose(whole.exp().sum(-1), torch.ones(2, LENGTH), atol=1e-5)
    assert len(vocabulary.decode(decoder.write(story, context, length=LENGTH))) == 2


def test_pretrained_words_keep_their_embeddings(pretrained, gpt2_folder):
    from transformers import GPT2LMHeadModel

    vocabulary, decoder = pretrained
    original = GPT2LMHeadModel.from_pretrained(gpt2_folder).get_input_embeddings().weight
    assert torch.equal(decoder.lm.get_input_embeddings().weight[3:], original[vocabulary.pieces])


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
        with pytest.raises(EncoderError, match=r"hf:nobody/no-lm.*text_decoder='gpt2-small'"):
            load()


# ---- image decoder


@pytest.mark.parametrize("size", [8, 16, 64])
def test_an_untrained_picture_is_the_mean_of_the_context(size):
    decoder = ImageDecoder(WIDTH, FRAMES, size)
    context = torch.rand(2, FRAMES, 3, size, size)
    assert torch.allclose(decoder(torch.randn(2, WIDTH), context), context.mean(1), atol=1e-6)


@pytest.mark.parametrize("size", [0, 3, 12, 63, 100])
def test_a_size_that_cannot_be_upsampled_to_is_refused(size):
    with pytest.raises(ValueError, match="image_size" if size > 3 else None):
        ImageDecoder(WIDTH, FRAMES, size)


def test_the_picture_learns_from_state_and_context():
    torch.manual_seed(0)
    decoder = ImageDecoder(WIDTH, FRAMES, 16)
    state, context = torch.randn(2, WIDTH, requires_grad=True), torch.rand(2, FRAMES, 3, 16, 16)
    decoder(state, context).square().sum().backward()
    assert decoder.paint.weight.grad.any() and decoder.mixture.grad.any()
    with torch.no_grad():
        decoder.paint.weight.normal_()
    other = decoder(state + 1, context)
    assert not torch.allclose(decoder(state, context), other)


def test_text_decoders_from_scratch_come_in_two_sizes_and_no_other(vocabulary):
    small, tiny = (TextDecoder(vocabulary, 8, 4, kind).lm.num_parameters() for kind in ("gpt2-small", "gpt2-tiny"))
    assert tiny < small / 3
    with pytest.raises(ConfigError, match="Did you mean 'gpt2-tiny'"):
        TextDecoder(vocabulary, 8, 4, "gpt2-tinny")
