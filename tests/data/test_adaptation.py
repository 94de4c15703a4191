"""A language model adapted to the training texts by low-rank products: what is trained, kept and merged."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_language_model import WINDOWS, hub_folder, true_log_probabilities

from storylib.config import ConfigError
from storylib.data import adaptation, resumable
from storylib.data.adaptation import adapt
from storylib.data.language_model import load_language_model, window_states

STORIES = [["The fox runs.", "The fox swims.", "The fox sleeps."] * 2, ["The owl flies.", "The owl sleeps."]]


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("llama"), "llama")


def nats(model):
    windows = [(tuple(texts[i : i + 2]), texts[i + 2]) for texts in STORIES for i in range(len(texts) - 2)]
    return -sum(float(true_log_probabilities(model, *window).sum()) for window in windows)


def test_the_training_texts_become_likelier_and_the_model_itself_stays(llama, cache, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNKS", 1)
    model = load_language_model(llama)
    before, plain = copy.deepcopy(model.network.state_dict()), nats(model)
    learned = adapt(llama, STORIES, 20, 48)
    assert learned.shape == (model.adaptation_size(),) and model.adapted(None) is model
    assert nats(model.adapted(learned)) < 0.95 * plain and nats(model) == plain
    assert all(torch.equal(weight, before[name]) for name, weight in model.network.state_dict().items())
    states = [window_states(WINDOWS, llama, adaptation=part).states for part in (None, learned)]
    assert not (states[0] == states[1]).all()


def test_merged_products_are_those_beside_the_layers(llama):
    model = load_language_model(llama)
    network = copy.deepcopy(model.network)
    layers = adaptation._insert(network)
    assert len(layers) == len(model.linear()) == 14
    for layer in layers:
        torch.nn.init.normal_(layer.up, std=0.1)
    flat = torch.cat([part.detach().flatten() for layer in layers for part in (layer.down, layer.up)])
    pieces = torch.tensor([[3, 9, 4, 20]])
    beside, merged = (lm(pieces).logits for lm in (network, model.adapted(flat).network))
    assert torch.allclose(beside, merged, atol=1e-4) and not torch.allclose(beside, model.network(pieces).logits)


def test_it_is_trained_once_and_always_the_same(llama, cache, monkeypatch):
    first = adapt(llama, STORIES, 1, 48)
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "_train", lambda *_: pytest.fail("trained again"))
        assert torch.equal(first, adapt(llama, STORIES, 1, 48))
    monkeypatch.setenv("STORYLIB_CACHE", str(cache / "other"))
    torch.manual_seed(5)
    assert torch.equal(first, adapt(llama, STORIES, 1, 48))


def test_chunks_hold_whole_texts_of_one_story(llama, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNK", 40)
    model = load_language_model(llama)
    texts = [model.tokenizer.decode(chunk) for chunk in adaptation._chunks(model, STORIES, 12)]
    assert "".join(texts).replace("<|endoftext|>", "") == "".join(
        model.tokenizer.decode(pieces[:12]) + "\n" for story in STORIES for pieces in model.pieces(story)
    )
    assert all(text.startswith("<|endoftext|>") for text in texts) and len(texts) > 2


def test_a_model_without_linear_layers_is_refused(tmp_path, cache):
    with pytest.raises(ConfigError, match=r"has no linear layers to adapt\. Set pretraining=0"):
        adapt(hub_folder(tmp_path), STORIES, 1, 48)


def test_a_killed_adaptation_goes_on_from_its_checkpoint(llama, cache, monkeypatch):
    monkeypatch.setattr(adaptation, "CHUNKS", 1)
    monkeypatch.setattr(resumable, "EVERY", 1)
    whole, pad, calls = adapt(llama, STORIES, 2, 48), adaptation.pad_sequence, []

    def killed(*args, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls.append(1) or pad(*args, **options)

    monkeypatch.setenv("STORYLIB_CACHE", str(cache / "other"))
    with monkeypatch.context() as patch:
        patch.setattr(adaptation, "pad_sequence", killed)
        with pytest.raises(KeyboardInterrupt):
            adapt(llama, STORIES, 2, 48)
    monkeypatch.setattr(adaptation, "pad_sequence", lambda *args, **options: calls.append(1) or pad(*args, **options))
    assert torch.equal(adapt(llama, STORIES, 2, 48), whole) and len(calls) == 4  # two stories twice
