"""The text decoder over a pretrained language model: it starts as the model and learns a correction of its states."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import tiny_config
from tiny_language_model import hub_folder

from storylib import decoders
from storylib.config import ModelConfig
from storylib.data.features import read_windows
from storylib.data.language_model import load_language_model
from storylib.data.vocabulary import Vocabulary, load_tokenizer
from storylib.decoders import PretrainedTextDecoder
from storylib.experiments.runs import evaluate_run, train
from storylib.experiments.storyteller import Storyteller

LENGTH, FRAMES, WIDTH = 12, 2, 4


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture
def decoder(name):
    torch.manual_seed(0)
    vocabulary = Vocabulary.whole(load_language_model(name).tokenizer)
    config = ModelConfig(text_decoder=name, text_length=LENGTH)
    return PretrainedTextDecoder(vocabulary, WIDTH, FRAMES, config).eval()


@pytest.fixture
def inputs(decoder):
    torch.manual_seed(1)
    tokens = decoder.vocabulary.encode(["the end", "owl", "a very long text of an owl"], LENGTH)
    return torch.randn(3, FRAMES + 1, WIDTH), tokens, torch.randn(3, LENGTH, 16)


def corrected(decoder):
    """The decoder with a correction that is not zero."""
    torch.nn.init.normal_(decoder.correction.weight, std=0.1)
    return decoder


def test_untrained_it_is_the_language_model(decoder, inputs):
    story, tokens, states = inputs
    lm = load_language_model(decoder.kind)
    log_probabilities, rank = decoder.ranked(story, tokens, states)
    assert torch.allclose(decoder(story, tokens, states), log_probabilities, atol=1e-4)
    for row, text in enumerate(["the end", "owl"]):
        pieces = [*lm.pieces([text])[0], lm.end]
        scores = lm.output(states[row, : len(pieces)]).log_softmax(-1)
        expected = scores[range(len(pieces)), pieces]
        assert torch.allclose(log_probabilities[row, : len(pieces)], expected, atol=1e-4)
        assert not log_probabilities[row, len(pieces) :].any()
        better = (scores > expected[:, None]).sum(-1) + 1
        assert torch.equal(rank[row, : len(pieces)], better.float())


def test_a_process_loads_the_language_model_once(name):
    load_language_model.cache_clear()
    config = ModelConfig(text_decoder=name, text_length=LENGTH)
    decoder = PretrainedTextDecoder(Vocabulary.whole(load_tokenizer(name)), WIDTH, FRAMES, config)
    assert decoder.lm.output.in_features == 16 and load_language_model.cache_info().misses == 1


def test_the_correction_depends_on_the_state_and_on_the_story(decoder, inputs):
    story, tokens, states = inputs
    before = corrected(decoder)(story, tokens, states)
    assert not torch.allclose(before, decoder(story + 1, tokens, states))
    assert not torch.allclose(before[0, 1:], decoder(story, tokens, states.roll(1, 1))[0, 1:])


def test_training_compares_with_familiar_pieces_and_a_sample_that_stands_for_the_others(decoder, inputs, monkeypatch):
    story, tokens, states = inputs
    exact = corrected(decoder)(story, tokens, states)
    decoder.familiarise(tokens)
    every = torch.cat([decoder.familiar, decoder.others]).sort().values
    assert torch.equal(every, torch.arange(decoder.lm.output.out_features)) and len(decoder.familiar) < 20
    assert torch.allclose(decoder(story, tokens, states), exact, atol=1e-4)  # all others are in the sample
    monkeypatch.setattr(decoders, "SAMPLED_PIECES", 10)
    decoder.train()
    decoder.dropout.p = 0.0
    torch.manual_seed(0)
    sampled = torch.stack([decoder(story, tokens, states) for _ in range(300)])
    assert sampled.std(0).max() > 0
    assert torch.allclose((-sampled).exp().mean(0).log(), -exact, atol=0.1)  # the sums of exponentials are unbiased


def test_what_it_writes_follows_the_correction(decoder, inputs):
    context = decoder.vocabulary.encode(["the fox", "an owl"] * 3, LENGTH).view(3, FRAMES, LENGTH)
    plain = decoder.generate(inputs[0], context)
    assert plain.shape == (3, LENGTH) and all(decoder.vocabulary.decode(plain))
    with torch.no_grad():
        decoder.correction.bias.copy_(50 * decoder.lm.output.weight[decoder.lm.tokenizer("Z")["input_ids"][0]])
    assert decoder.vocabulary.decode(decoder.generate(inputs[0], context, no_repeat_ngram_size=0)) == ["Z" * LENGTH] * 3


def test_a_run_is_trained_evaluated_beside_the_language_model_and_loaded(name, tiny_data, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    config = tiny_config(text_decoder=name, pretraining=1, image_weight=0.0, text_length=24)
    splits = tiny_data.splits
    reading = read_windows(tiny_data.stories, splits.train, name, 24, 1, 4)
    data = dataclasses.replace(tiny_data, features=dataclasses.replace(tiny_data.features, reading=reading))
    run = evaluate_run(train(config, data), data)
    entry = run.metrics["nats_per_word"]
    models = {"language model", "language model, no context", "adapted language model"}
    assert models | {"trigram and cache"} <= set(entry["baselines"])
    assert "language model" in run.metrics["meteor"]["baselines"]
    assert run.metrics["context_gap_per_word"]["value"] != 0
    storyteller = Storyteller.of_run(run)
    assert torch.equal(storyteller.model.text_decoder.adaptation, reading.adaptation)
