"""The influence of each input: measured by swapping it, and checked where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib.analysis.influence import influence, measure_influence
from storylib.data.windows import OtherStories, WindowDataset
from storylib.training import build_model


def build(tiny_data, tiny_sets, **overrides):
    config = tiny_config(**overrides)
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"]).eval()
    return model, WindowDataset(tiny_data.features, tiny_data.splits.test, tiny_sets["vocabulary"], config)


def test_an_untrained_model_uses_the_frames_as_its_mixture_says(tiny_data, tiny_sets):
    model, windows = build(tiny_data, tiny_sets)
    weights = [0.1, 0.2, 0.3, 0.4]
    moved = measure_influence(model, windows)
    assert moved.shape == (3, 2, 4)
    assert moved[0, 1] == pytest.approx(np.zeros(4), abs=1e-6)  # the next picture is a mixture of pictures only
    assert moved[1, 0] == pytest.approx(np.zeros(4), abs=1e-6)
    for own in (moved[0, 0], moved[1, 1]):
        assert (np.diff(own) > 0).all()  # recent frames weigh more
    others = OtherStories(windows)
    expected = []
    for row in range(len(windows)):
        before = model.image_space(windows.image[windows.frames[row, :-1]])
        after = before.clone()
        after[2] = model.image_space(windows.image[others.frames[row, 2]])
        cosine = F.cosine_similarity(torch.tensor(weights) @ before, torch.tensor(weights) @ after, dim=0)
        expected.append(1 - cosine.item())
    assert moved[0, 0, 2] == pytest.approx(np.mean(expected), abs=1e-5)


def test_a_model_without_a_mixture_uses_its_inputs(tiny_data, tiny_sets):
    model, windows = build(tiny_data, tiny_sets, next_embedding="linear")
    moved = measure_influence(model, windows)
    assert moved[:2].min() >= 0 and moved[:2].max() > 0  # words may also become likelier


def test_the_words_cost_what_the_story_state_no_longer_says(tiny_data, tiny_sets, monkeypatch):
    model, windows = build(tiny_data, tiny_sets)
    others = OtherStories(windows).frames
    words = sum(len(windows.scored_texts[frame].split()) for frame in windows.frames[:, -1].tolist())
    assert words > 2 * len(windows)
    said = model.text_decoder.forward

    def as_the_state_says(story, tokens, context):
        """A decoder that gives each text as many nats as a unit of its fused frames says."""
        return said(story, tokens, context) * 0 - 1000 * story[:, :-1, 0].sum(1)[:, None] / tokens.shape[1]

    monkeypatch.setattr(model.text_decoder, "forward", as_the_state_says)
    moved = measure_influence(model, windows)[2]
    for side in range(2):
        frames = [windows.frames[:, :-1].clone() for _ in range(2)]
        frames[side][:, 1] = others[:, 1]
        nats = []
        for images, texts in ((windows.frames[:, :-1],) * 2, frames):
            reading = model.read(windows.image[images], windows.text[texts])
            nats.append(1000 * reading["story"][:, :-1, 0].sum().item())
        assert moved[side, 1] == pytest.approx((nats[1] - nats[0]) / words, rel=1e-3, abs=1e-4)
    assert abs(moved[:, 1]).max() > 1e-3


def test_a_model_that_does_not_write_has_no_words(tiny_data, tiny_sets):
    assert measure_influence(*build(tiny_data, tiny_sets, text_weight=0.0)).shape == (2, 2, 4)


def test_the_influence_of_an_arm_is_the_mean_over_its_trained_models(tiny_runs, tiny_data, tiny_sets):
    table = influence([tiny_runs[1.0, seed] for seed in (0, 1)], tiny_data)
    single = [influence([tiny_runs[1.0, seed]], tiny_data) for seed in (0, 1)]
    assert table.columns.tolist() == [1, 2, 3, 4] and not np.allclose(single[0], single[1])
    assert table.to_numpy() == pytest.approx((single[0].to_numpy() + single[1].to_numpy()) / 2)
    untrained, windows = build(tiny_data, tiny_sets)
    before = measure_influence(untrained, windows)
    assert not np.allclose(single[0].loc[("next text", "text")], before[1, 1], atol=1e-3)
