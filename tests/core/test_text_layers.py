"""Trained text layers: upper layers over stored states equal the whole network, and they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import StubEncoder, text_folder, tiny_config, tiny_stories

from storylib.data import encoders, features, scoring
from storylib.data.encoders import EncoderError, load_text_encoder
from storylib.data.splits import Splits
from storylib.data.text_layers import FrameTexts, LowerLayers, UpperLayers
from storylib.data.windows import WindowDataset
from storylib.experiments import runs, storyteller
from storylib.experiments.storyteller import Storyteller
from storylib.training import build_model, build_vocabulary

TEXTS = ["the fox runs home .", "the owl sleeps .", "fox", "the fox the owl runs home . the fox sleeps home ."]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The names of a tiny DistilBERT and BERT with random weights, in local folders."""
    return {kind: f"hf:{text_folder(tmp_path_factory.mktemp(kind), kind, layers=3)}" for kind in ("distilbert", "bert")}


@pytest.mark.parametrize("name", ["distilbert/cls", "distilbert/mean", "bert/cls", "bert/mean", "bert/pooler"])
def test_upper_layers_over_stored_states_equal_the_whole_network(folders, name):
    kind, pooling = name.split("/")
    encoder = load_text_encoder(f"{folders[kind]}/{pooling}")
    whole = encoder.embed(TEXTS)
    for count in (1, 2, 3):
        upper = UpperLayers(encoder, count).eval()
        texts = FrameTexts(whole, *LowerLayers(encoder, count).states(TEXTS))
        with torch.no_grad():
            assert (upper(texts) - whole).abs().max() < 1e-5
            two_by_two = FrameTexts(*(x.view(2, 2, *x.shape[1:]) for x in (texts.frozen, texts.states, texts.mask)))
            assert (upper(two_by_two).view_as(whole) - whole).abs().max() < 1e-5
    assert torch.equal(encoder.embed(TEXTS), whole)  # the encoder itself is unchanged


def test_minilm_can_be_cut_at_any_layer():
    encoder = load_text_encoder("minilm")
    texts = ["The little fox ran home through the rain.", "It slept.", "word " * 500]
    whole = encoder.embed(texts)
    for count in (1, 6):
        cut = FrameTexts(whole, *LowerLayers(encoder, count).states(texts))
        with torch.no_grad():
            assert (UpperLayers(encoder, count).eval()(cut) - whole).abs().max() < 1e-5


def test_only_the_upper_layers_can_be_trained(folders):
    encoder = load_text_encoder(folders["distilbert"])
    upper = UpperLayers(encoder, 1)
    names = [name for name, p in upper.named_parameters() if p.requires_grad]
    assert names and all("layer.0." in name for name in names) and len(names) == len(list(upper.parameters()))
    assert not any(p.requires_grad for p in encoder.network.parameters())


def test_more_layers_than_there_are_is_an_error(folders):
    encoder = load_text_encoder(folders["bert"])
    with pytest.raises(EncoderError, match=r"has \d layers, so trainable_text_layers=9 is too many"):
        UpperLayers(encoder, 9)
    encoder.network = torch.nn.Linear(2, 2)
    with pytest.raises(EncoderError, match="use trainable_text_layers=0"):
        UpperLayers(encoder, 1)


# Stored, trained, evaluated and used


@pytest.fixture(scope="module")
def data(tmp_path_factory, folders):
    """The tiny stories with texts of a tiny DistilBERT, whose upper layer is to be trained."""
    stub = StubEncoder("stub-image", 24)
    stories = tiny_stories()
    splits = Splits(stories[:8], stories[8:10], stories[10:], {s.id: i for i, s in enumerate(stories)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setattr(features, "load_image_encoder", lambda name, device="cpu": stub)
        patch.setattr(scoring, "load_image_encoder", lambda name, device="cpu": stub)
        patch.setattr(storyteller, "load_image_encoder", lambda name: stub)
        for module in (features, scoring):
            patch.setattr(module, "load_text_encoder", encoders.load_text_encoder)
        encoded = features.encode(stories, text=folders["distilbert"], image_size=16, trainable_text_layers=1)
        yield runs.Data(stories, splits, encoded)


def test_trained_layers_are_trained_saved_and_used_like_any_other_part(data, folders):
    config = tiny_config(text_encoder=folders["distilbert"], trainable_text_layers=1, epochs=1, image_weight=0.0)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    untrained, frozen = (
        build_model(config.replace(trainable_text_layers=layers), data.features, data.splits, vocabulary)
        for layers in (1, 0)
    )
    shared = frozen.state_dict()
    assert all(torch.equal(value, shared[name]) for name, value in untrained.state_dict().items() if name in shared)
    texts = WindowDataset(data.features, data.splits.test, vocabulary, config).__getitems__([0, 3, 5])["text"]
    with torch.no_grad():
        assert (untrained.eval().upper_layers(texts) - texts.frozen).abs().max() < 1e-5

    run = runs.evaluate_run(runs.train(config, data), data)
    trained = Storyteller.of_run(run).model
    before, after = (dict(model.upper_layers.named_parameters()) for model in (untrained, trained))
    assert all(not torch.equal(before[name], after[name]) for name in before if "weight" in name)
    assert torch.equal(trained.text_space.mean, untrained.text_space.mean)  # the space of the scores did not move
    assert (trained.upper_layers(texts) - texts.frozen).abs().max() > 1e-4

    frames = data.splits.test[1].frames[1:5]
    prediction = Storyteller.of_run(run).predict([f.image for f in frames], [f.text for f in frames])
    row = run.model_rows.set_index(["story", "frame"]).loc[("s11", 6)]
    assert prediction.text == row["generation"]


def test_states_are_stored_once_for_each_text_and_read_back(data, folders, monkeypatch):
    stored = data.features
    text_states, text_starts = stored.text_states
    assert text_starts[0] == 0 and text_starts[-1] == len(text_states)
    assert len(text_starts) == len(stored.text_vectors) + 1
    lower = LowerLayers(load_text_encoder(folders["distilbert"]), 1)
    for row in (0, 7, 20):
        text = stored.texts[int(np.flatnonzero(stored.text_of == row)[0])]
        states, mask = lower.states([text])
        first, last = text_starts[row : row + 2]
        assert last - first == int(mask.sum())
        assert np.abs(text_states[first:last] - states[0].numpy()).max() < 1e-5
    monkeypatch.setattr(features, "load_text_encoder", None)  # not needed again
    again = features.encode(data.stories, text=folders["distilbert"], image_size=16, trainable_text_layers=1)
    assert np.array_equal(again.text_states[0], text_states)
    assert again.fingerprint == stored.fingerprint
