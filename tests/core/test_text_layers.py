"""The freeze boundary: upper layers over stored states equal the whole network, and they learn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import StubEncoder, tiny_config, tiny_stories
from test_encoders import text_folder

from storylib.data import features, judges
from storylib.data.encoders import EncoderError, load_text_encoder
from storylib.data.splits import Splits
from storylib.data.text_layers import LowerLayers, UpperLayers
from storylib.experiments import runs
from storylib.experiments import storyteller as prediction
from storylib.training import build_model, build_vocabulary

TEXTS = ["the fox runs home .", "the owl sleeps .", "fox", "the fox the owl runs home . the fox sleeps home ."]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """The name of a tiny DistilBERT or BERT with random weights, in a local folder."""
    return lambda kind: f"hf:{text_folder(tmp_path_factory.mktemp(kind), kind, layers=3)}"


@pytest.mark.parametrize("name", ["distilbert/cls", "distilbert/mean", "bert/cls", "bert/mean", "bert/pooler"])
def test_upper_layers_over_stored_states_equal_the_whole_network(stand_in, name):
    kind, pooling = name.split("/")
    encoder = load_text_encoder(f"{stand_in(kind)}/{pooling}")
    whole = encoder.embed(TEXTS)
    for count in (1, 2, 3):
        upper = UpperLayers(encoder, count).eval()
        states, mask = LowerLayers(encoder, count).states(TEXTS)
        with torch.no_grad():
            assert (upper(states, mask) - whole).abs().max() < 1e-5
            again = upper(states.view(2, 2, *states.shape[1:]), mask.view(2, 2, -1))
        assert (again.view_as(whole) - whole).abs().max() < 1e-5
    assert torch.equal(encoder.embed(TEXTS), whole)  # the encoder itself is as it was


def test_minilm_is_cut_at_every_layer():
    encoder = load_text_encoder("minilm")
    texts = ["The little fox ran home through the rain.", "It slept.", "word " * 500]
    whole = encoder.embed(texts)
    for count in (1, 3, 6):
        states, mask = LowerLayers(encoder, count).states(texts)
        with torch.no_grad():
            assert (UpperLayers(encoder, count).eval()(states, mask) - whole).abs().max() < 1e-5


def test_only_the_upper_layers_are_there_to_be_trained(stand_in):
    encoder = load_text_encoder(stand_in("distilbert"))
    upper = UpperLayers(encoder, 1)
    names = [n for n, p in upper.named_parameters() if p.requires_grad]
    assert names and all("layer.0." in n for n in names) and len(names) == len(list(upper.parameters()))
    assert not any(p.requires_grad for p in encoder.network.parameters())


def test_more_layers_than_there_are_is_an_error(stand_in):
    encoder = load_text_encoder(stand_in("bert"))
    with pytest.raises(EncoderError, match=r"has \d layers, so trainable_text_layers=9 is too many"):
        UpperLayers(encoder, 9)
    encoder.network = torch.nn.Linear(2, 2)
    with pytest.raises(EncoderError, match="use trainable_text_layers=0"):
        UpperLayers(encoder, 1)


# ---- stored, trained, evaluated, and asked


@pytest.fixture
def data(stand_in, monkeypatch, tmp_path, cache):
    """The tiny stories, their texts read by minilm, whose upper layer is to be trained."""
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
    stub = StubEncoder("stub-image", 24)
    monkeypatch.setattr(features, "load_image_encoder", lambda name, device="cpu": stub)
    monkeypatch.setattr(judges, "load_image_encoder", lambda name, device="cpu": stub)
    monkeypatch.setattr(judges, "load_text_encoder", load_text_encoder)
    monkeypatch.setattr(prediction, "load_image_encoder", lambda name: stub)
    stories = tiny_stories()
    splits = Splits(stories[:8], stories[8:10], stories[10:], {s.id: i for i, s in enumerate(stories)})
    return runs.Data(stories, splits, features.encode(stories, image_size=16, trainable_text_layers=1))


def test_it_is_trained_saved_and_asked_like_any_other(data, monkeypatch):
    config = tiny_config(trainable_text_layers=1, epochs=1, image_weight=0.0)
    untrained = build_model(config, data.features, data.splits, build_vocabulary(data.features, data.splits, config))
    frozen = build_model(config.replace(trainable_text_layers=0), data.features, data.splits,
                         build_vocabulary(data.features, data.splits, config))  # fmt: skip
    shared = frozen.state_dict()
    assert all(torch.equal(v, shared[n]) for n, v in untrained.state_dict().items() if n in shared)
    dataset = runs.WindowDataset(data.features, data.splits.test, runs.build_vocabulary(
        data.features, data.splits, config), config)  # fmt: skip
    batch = dataset.__getitems__([0, 3, 5])
    with torch.no_grad():
        assert (untrained.eval().texts(batch) - batch["text"]).abs().max() < 1e-5

    run = runs.evaluate_run(runs.train(config, data), data)
    trained = run.model(data)
    before, after = (dict(m.upper_layers.named_parameters()) for m in (untrained, trained))
    assert all(not torch.equal(before[n], after[n]) for n in before if "weight" in n)
    assert torch.equal(trained.text_space.mean, untrained.text_space.mean)  # the space of the scores did not move
    assert (trained.texts(batch) - batch["text"]).abs().max() > 1e-4

    monkeypatch.setattr(runs, "prepare", lambda config: data)
    frames = data.splits.test[1].frames[1:5]
    page = dataclasses.replace(run).predict([f.image for f in frames], [f.text for f in frames])
    row = run.model_rows.set_index(["story", "frame"]).loc[("s11", 6)]
    assert page.text == row["generation"]


def test_states_are_stored_once_for_each_text_and_read_back(data, monkeypatch):
    stored = data.features
    assert stored.text_starts[0] == 0 and stored.text_starts[-1] == len(stored.text_states)
    assert len(stored.text_starts) == len(stored.text_vectors) + 1
    lower = LowerLayers(load_text_encoder("minilm"), 1)
    for row in (0, 7, 20):
        text = stored.texts[int(np.flatnonzero(stored.text_of == row)[0])]
        states, mask = lower.states([text])
        first, last = stored.text_starts[row : row + 2]
        assert last - first == int(mask.sum())
        assert np.abs(stored.text_states[first:last] - states[0].numpy()).max() < 1e-5
    monkeypatch.setattr(features, "load_text_encoder", None)  # not needed again
    again = features.encode(data.stories, image_size=16, trainable_text_layers=1)
    assert np.array_equal(again.text_states, stored.text_states)
    assert again.fingerprint == stored.fingerprint
