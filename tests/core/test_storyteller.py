"""A trained storyteller on new pictures: it predicts what the evaluation saw, refuses clearly, and can be saved."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import StubEncoder, tiny_config
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from storylib.data.pictures import PictureError
from storylib.evaluation import predict
from storylib.experiments import runs
from storylib.experiments import storyteller as module
from storylib.experiments.storyteller import KnownPictures, PredictionError, Storyteller


@pytest.fixture(autouse=True)
def encoders(monkeypatch):
    """The stubs that the tiny runs were made with."""
    stubs = {"image": StubEncoder("stub-image", 24), "text": StubEncoder("stub-text", 20)}
    monkeypatch.setattr(module, "load_image_encoder", lambda name: stubs["image"])
    monkeypatch.setattr(module, "load_text_encoder", lambda name: stubs["text"])


@pytest.fixture(scope="module")
def run(tiny_runs):
    return tiny_runs[1.0, 0]


@pytest.fixture(scope="module")
def storyteller(run):
    return Storyteller.of_run(run)


@pytest.fixture(scope="module")
def context(tiny_data):
    """The pictures and texts of four frames of a held-out story."""
    frames = tiny_data.splits.test[1].frames[1:5]
    return [frame.image for frame in frames], [frame.text for frame in frames]


# The model of a run


def test_the_loaded_model_is_the_trained_one(run, tiny_sets):
    storyteller = Storyteller.of_run(run)
    model, vocabulary = storyteller.model, storyteller.vocabulary
    assert not model.training and run.record["parameters"] == sum(p.numel() for p in model.parameters())
    tiny_sets["test"].embed_bank(model.image_space, model.text_space)
    again = predict(model, vocabulary, tiny_sets["test"], tiny_sets["train"])
    rows = run.model_rows.dropna(subset=["nll"])
    assert rows["nll"].to_numpy() == pytest.approx(again.nll.numpy())
    assert rows["generation"].tolist() == again.words
    drawn = run.pictures[:, 0]
    assert np.abs(drawn / 255 - again.picture.permute(0, 2, 3, 1).numpy()).max() < 0.01


def test_loading_needs_no_data_and_computes_no_space(run, monkeypatch):
    """The frozen spaces are among the weights: no second eigen-decomposition, no random draw, no features."""

    def never(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr(torch.linalg, "eigh", never)
    monkeypatch.setattr(runs, "prepare", never)
    before = torch.get_rng_state()
    model = Storyteller.of_run(run).model
    assert torch.equal(torch.get_rng_state(), before)
    weights = load_file(run.weights)
    state = model.state_dict()
    assert {"image_space.mean", "image_space.basis"} <= weights.keys() <= state.keys()
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert state["image_space.basis"].any()


def test_records_are_read_without_torch_and_transformers_is_imported_by_a_model_only(run):
    """Importing either takes seconds."""
    code = """
import sys
from storylib.experiments.records import Run, describe
run = Run(__import__("pathlib").Path(sys.argv[1]))
run.metrics, run.history, run.model_rows, describe([run])
print("torch" in sys.modules)
from storylib.experiments import runs, storyteller
import storylib.training, storylib.evaluation
print([name for name in sys.argv[2:] if name in sys.modules])
"""
    heavy = "transformers datasets timm torchmetrics nltk accelerate sacrebleu rouge_score".split()
    command = [sys.executable, "-c", code, str(run.path), *heavy]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["False", "[]"]


# What it predicts


def test_it_predicts_what_the_evaluation_saw(storyteller, run, context):
    frame = storyteller.predict(*context)
    row = run.model_rows.set_index(["story", "frame"]).loc[("s11", 6)]
    assert frame.text == row["generation"] != ""
    drawn = run.pictures[int(row["picture"]), 0]
    assert frame.image.size == (16, 16)
    assert np.abs(np.asarray(frame.image).astype(int) - drawn).max() <= 1
    assert frame.text == storyteller.predict(*context).text and frame.nearest == ()


def test_the_nearest_known_pictures_are_none_of_the_context(storyteller, context, tiny_data):
    features, space = tiny_data.features, storyteller.model.image_space
    frames = [(story, frame) for story in tiny_data.stories for frame in story.frames]
    image = torch.from_numpy(features.image_vectors[features.image_of])
    text = torch.from_numpy(features.text_vectors[features.text_of])
    own = [i for i, (story, frame) in enumerate(frames) if story.id == "s11" and frame.number in (2, 3, 4, 5)]
    with torch.no_grad():
        predicted = storyteller.model.read(image[own][None], text[own][None])["next_image"][0]
    cosine = F.cosine_similarity(space(image), predicted[None])
    expected = {}  # by picture: the first frame of each
    for i in cosine.argsort(descending=True).tolist():
        if frames[i][1].image not in context[0]:
            expected.setdefault(frames[i][1].image.tobytes(), float(cosine[i]))
    known = KnownPictures.of(tiny_data.stories, features)
    nearest = storyteller.predict(*context, known=known, nearest=3).nearest
    assert [r.frame.image.tobytes() for r in nearest] == list(expected)[:3]
    assert [r.similarity for r in nearest] == pytest.approx(list(expected.values())[:3], abs=1e-5)
    assert all(r.frame in r.story.frames for r in nearest)


def test_a_shared_picture_is_known_once(tiny_data):
    known = KnownPictures.of(tiny_data.stories, tiny_data.features)
    assert len(known.vectors) == len(known.sources) == 14 * 6 - 2
    for vector, (story, frame) in zip(known.vectors, known.sources, strict=True):
        row = tiny_data.features.keys.index((story.id, frame.number))
        assert np.array_equal(vector, tiny_data.features.image_vectors[tiny_data.features.image_of[row]])


def test_nothing_is_retrieved_if_every_known_picture_is_in_the_context(storyteller, context, tiny_data):
    story = dataclasses.replace(tiny_data.splits.test[1], frames=tiny_data.splits.test[1].frames[1:5])
    frame = storyteller.predict(*context, known=KnownPictures.of([story], tiny_data.features))
    assert frame.nearest == () and frame.text


def test_paths_and_pictures_of_any_mode_are_read(storyteller, context, tmp_path):
    images, texts = context
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    one, two, three = (storyteller.predict(p, texts) for p in (images, paths, [str(path) for path in paths]))
    assert one.text == two.text == three.text and one.image.tobytes() == two.image.tobytes() == three.image.tobytes()
    odd = [Image.new("RGBA", (30, 50), (10, 200, 30, 128)), *images[1:]]
    assert isinstance(storyteller.predict(odd, texts).text, str)


def test_texts_can_be_sampled(storyteller, context):
    def sample(seed):
        return storyteller.predict(*context, mode="nucleus", seed=seed, temperature=2.0).text

    assert sample(0) == sample(0) and len({sample(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t: (i[:3], t), "reads 4 pictures with a text each.*got 3 pictures.*the last 4"),
        (lambda i, t: (i, [*t, "One more."]), "got 5 texts"),
        (lambda i, t: ([], []), "got 0 pictures"),
        (lambda i, t: (i[0], t), "Give the pictures as a list of 4"),
        (lambda i, t: (i, t[0]), "Give the texts as a list of 4"),
        (lambda i, t: (i, [t[0], " ", *t[2:]]), "Picture 2 has no text"),
        (lambda i, t: (i, [*t[:3], None]), "Picture 4 has no text"),
    ],
)
def test_a_wrong_context_is_refused_with_the_way_out(storyteller, context, change, message):
    with pytest.raises(PredictionError, match=message):
        storyteller.predict(*change(*context))


def test_a_missing_picture_is_named(storyteller, context, tmp_path):
    with pytest.raises(PictureError, match=r"lost\.png"):
        storyteller.predict([*context[0][:3], str(tmp_path / "lost.png")], context[1])


# Saved and loaded


def test_it_is_loaded_from_its_folder_without_its_run(storyteller, run, context, tmp_path):
    before = storyteller.predict(*context)
    storyteller.save_pretrained(tmp_path / "one")
    assert {p.name for p in (tmp_path / "one").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    again = Storyteller.from_pretrained(str(tmp_path / "one"))
    assert not again.training and again.settings == run.config
    one, two = storyteller.state_dict(), again.state_dict()
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    after = again.predict(*context)
    assert after.text == before.text and after.image.tobytes() == before.image.tobytes()
    again.save_pretrained(tmp_path / "two")
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_weights_of_another_model_are_refused(storyteller, tmp_path):
    storyteller.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["temporal"] = "lstm"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((RuntimeError, SafetensorError), match="temporal"):
        Storyteller.from_pretrained(str(tmp_path))


def test_the_card_shows_the_record(storyteller, run, tmp_path):
    storyteller.save_pretrained(tmp_path)
    card, record = (tmp_path / "README.md").read_text(), run.record
    assert card.startswith("---\n") and "library_name: storylib" in card
    assert f"# {run.id}" in card and "`width=16`" in card and "`dropout=" not in card
    assert record["data"]["fingerprint"] in card and record["commit"][:12] in card
    assert f"{record['parameters']:,} parameters; best epoch {record['best_epoch']}" in card
    assert "8 for training, 2 for validation" in card and f"torch {record['versions']['torch']}" in card
    for metric in run.metrics.values():
        assert f"| {metric['title']} | {metric['value']:.3f} | " in card


def test_a_decoder_that_was_not_trained_predicts_nothing(tiny_data, context, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    run = runs.train(tiny_config(epochs=1, text_weight=0.0, image_weight=0.0), tiny_data)
    storyteller = Storyteller.of_run(run)
    frame = storyteller.predict(*context, known=KnownPictures.of(tiny_data.stories, tiny_data.features))
    assert frame.text is None and frame.image is None and len(frame.nearest) == 1
    assert "How good it is" not in storyteller.generate_model_card().content
