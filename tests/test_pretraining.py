"""The text decoder alone: it learns the texts, from the seed and nothing else, and no other part moves."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from conftest import tiny_config

from storylib.decoders import Vocabulary
from storylib.pretraining import pretrain
from storylib.training import build_model


@pytest.fixture
def pretrained(tiny_data, tiny_sets):
    def run(**changes):
        config = tiny_config()
        model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
        settings = dataclasses.replace(config.train, **changes)
        pretrain(model.text_decoder, tiny_sets["train"].tokens, settings, quiet=True)
        return model

    return run


def nats(model, tokens):
    with torch.inference_mode():
        story = torch.zeros(len(tokens), 5, model.config.width)
        likely = model.eval().text_decoder(story, tokens, torch.full((len(tokens), 4, 1), Vocabulary.PAD))
    return -float(likely.sum() / (tokens != Vocabulary.PAD).sum())


def test_every_training_text_becomes_likelier(pretrained, tiny_sets):
    tokens = tiny_sets["train"].tokens
    none, some = (nats(pretrained(pretraining=epochs), tokens) for epochs in (0, 3))
    assert some < none - 0.5


def test_the_seed_decides_and_the_other_parts_are_left_alone(pretrained):
    plain, one, again, other = (
        pretrained(**changes).state_dict() for changes in ({"pretraining": 0}, {}, {}, {"seed": 1})
    )
    moved = {name for name in one if not torch.equal(one[name], plain[name])}
    assert moved and all(name.startswith("text_decoder.lm.") for name in moved)  # not how the story is read
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in moved)
