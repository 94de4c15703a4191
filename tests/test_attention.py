"""What a prediction rests on: measured by swapping frames, and checked where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

from storylib.attention import attention
from storylib.floors import Rotated
from storylib.training import WindowDataset, build_model


def build(tiny_data, tiny_sets, **overrides):
    config = tiny_config(**overrides)
    model = build_model(config, tiny_data.features, tiny_data.splits, tiny_sets["vocabulary"])
    held = WindowDataset(tiny_data.features, tiny_data.splits.test, tiny_sets["vocabulary"], config)
    held.embed_bank(model)
    return model, held


def test_an_untrained_model_rests_on_the_frames_as_its_mixture_says(tiny_data, tiny_sets):
    model, held = build(tiny_data, tiny_sets)
    found = attention(model, held)
    assert found["mixture"]["image"] == found["mixture"]["text"] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    influence = np.array(found["influence"])
    assert influence.shape == (2, 2, 4)
    assert influence[0, 1] == pytest.approx(np.zeros(4), abs=1e-6)  # the next picture is a mixture of pictures only
    assert influence[1, 0] == pytest.approx(np.zeros(4), abs=1e-6)
    for own in (influence[0, 0], influence[1, 1]):
        assert (np.diff(own) > 0).all()  # recent frames weigh more
    rotated = Rotated(held)
    bank, weights = held.bank["image_bank"], torch.tensor([0.1, 0.2, 0.3, 0.4])
    moved = []
    for row in range(len(held)):
        before = bank[held.frames[row, :-1]]
        after = before.clone()
        after[2] = bank[rotated.frames[row, 2]]
        moved.append(1 - F.cosine_similarity(weights @ before, weights @ after, dim=0).item())
    assert influence[0, 0, 2] == pytest.approx(np.mean(moved), abs=1e-5)


def test_a_model_without_a_mixture_has_influence_only(tiny_data, tiny_sets):
    model, held = build(tiny_data, tiny_sets, next_embedding="linear")
    found = attention(model, held)
    assert found["mixture"] is None and np.array(found["influence"]).min() >= 0
    assert np.array(found["influence"]).max() > 0
