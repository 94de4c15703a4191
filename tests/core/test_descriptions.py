"""What a picture shows, as its source describes it: encoded like a text, aligned on demand, and scored apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny_config, tiny_stories, use_stub_encoders

from storylib.config import ConfigError
from storylib.data.features import encode
from storylib.data.splits import Splits, split_stories
from storylib.data.windows import WindowDataset
from storylib.evaluation import evaluate
from storylib.experiments.runs import Data, train
from storylib.losses import compute_losses
from storylib.metrics.registry import METRICS, MODEL
from storylib.training import build_model, build_vocabulary


def described_stories():
    """The tiny stories; every second frame says what its picture shows."""
    stories = []
    for story in tiny_stories():
        frames = [
            dataclasses.replace(f, description=f"bar {f.number} of {story.id}" if f.number % 2 else None)
            for f in story.frames
        ]
        stories.append(dataclasses.replace(story, frames=tuple(frames)))
    return stories


@pytest.fixture
def data(cache, monkeypatch):
    use_stub_encoders(monkeypatch)
    stories = described_stories()
    splits = Splits(stories[:8], stories[8:10], stories[10:], {s.id: i for i, s in enumerate(stories)})
    return Data(stories, splits, encode(stories, image_size=16))


def sets(data, **overrides):
    config = tiny_config(**overrides)
    vocabulary = build_vocabulary(data.features, data.splits, config)
    model = build_model(config, data.features, data.splits, vocabulary).eval()
    datasets = [WindowDataset(data.features, part, vocabulary, config) for _, part in data.splits]
    for dataset in datasets:
        dataset.embed_bank(model.image_space, model.text_space)
    return config, vocabulary, model, *datasets


def test_a_frame_without_a_description_has_its_text_in_its_place(data, monkeypatch):
    stub, features = use_stub_encoders(monkeypatch)["text"], data.features
    frames = [frame for story in data.stories for frame in story.frames]
    for row, frame in enumerate(frames):
        shown = features.text_vectors[features.description_of[row]]
        assert np.allclose(shown, stub.embed([frame.description or frame.text])[0], atol=1e-5)
        assert (features.description_of[row] == features.text_of[row]) == (frame.description is None)


def test_texts_that_change_places_give_other_features(data):
    first, *rest = data.stories
    a, b, *others = first.frames
    swapped = (dataclasses.replace(a, text=b.text), dataclasses.replace(b, text=a.text), *others)
    again = encode([dataclasses.replace(first, frames=swapped), *rest], image_size=16)
    assert again.fingerprint != data.features.fingerprint


def test_the_loss_aligns_pictures_with_descriptions_only_if_asked_and_the_story_is_read_from_its_texts(data):
    config, _, model, training, *_ = sets(data, contrastive_text="description")
    _, _, _, by_story, *_ = sets(data)
    _, _, _, off, *_ = sets(data, contrastive_text="description", contrastive_weight=0.0)
    batch, story_batch = training.__getitems__(range(6)), by_story.__getitems__(range(6))
    assert "description" not in story_batch and "description" not in off.__getitems__(range(6))
    assert torch.equal(batch["text"], story_batch["text"])
    output, story_output = model(batch), model(story_batch)
    assert torch.equal(output["next_text"], story_output["next_text"])
    every_second = batch["text_id"] != story_batch["text_id"]
    assert every_second.float().mean() == pytest.approx(0.5, abs=0.1)
    same = torch.isclose(output["text_shared"], story_output["text_shared"]).all(-1)
    assert torch.equal(~same, every_second)
    losses = [compute_losses(out, b, config.train) for out, b in ((output, batch), (story_output, story_batch))]
    assert losses[0]["contrastive"] != losses[1]["contrastive"] and losses[0]["text"] == losses[1]["text"]


def test_described_pictures_are_scored_among_the_described_frames(data):
    _, vocabulary, model, training, _, held_out = sets(data)
    table, _ = evaluate(model, vocabulary, training, held_out)
    rows = table[table["predictor"] == MODEL].set_index(["story", "frame"])
    described = {(s.id, f.number) for s in data.splits.test for f in s.frames if f.description}
    assert len(described) == 12
    for task in ("image_to_description", "described_image_to_text"):
        ranks = rows[f"{task}_rank"].dropna()
        assert set(ranks.index) == described and ranks.between(1, 12).all()
        assert rows[f"{task}_candidates"].min() == 12 - (task == "described_image_to_text")  # a text occurs twice
    by_name = {str(name): part for name, part in table.groupby("predictor")}
    values = METRICS["image_to_description_mrr"].values(by_name)
    assert set(values) == {MODEL, "chance", "linear map"}
    assert values["linear map"] != METRICS["described_image_to_text_mrr"].values(by_name)["linear map"]


def test_descriptions_are_aligned_only_where_there_are_some(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    with pytest.raises(ConfigError, match="no training frame of 'storyworld' has one"):
        train(tiny_config(contrastive_text="description"), tiny_data)


def test_the_largest_source_trains_and_the_others_test(stub_encoders):
    stories = [dataclasses.replace(s, group=None, source="abc"[i % 7 // 5]) for i, s in enumerate(tiny_stories())]
    last = stories[13]  # of the smaller source; its frames are those of a story of the larger one
    stories[0] = dataclasses.replace(stories[0], frames=(*stories[0].frames[:5], last.frames[2]))
    splits = split_stories(stories, by="source")
    assert {s.source for s in splits.test} == {"b"} and {s.source for s in splits.train + splits.validation} == {"a"}
    assert stories[0] in splits.left_out and splits.validation
    with pytest.raises(ValueError, match="needs stories of several sources"):
        split_stories(tiny_stories(), by="source")
