"""A trained storyteller asked about new pictures: what evaluation says, kind refusals, and a folder it survives in."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import StubEncoder, tiny_config
from PIL import Image
from safetensors import SafetensorError

from storylib import Storyteller, load_run
from storylib.data.pictures import PictureError
from storylib.experiments import runs
from storylib.experiments import storyteller as prediction
from storylib.experiments.storyteller import Known, PredictionError


@pytest.fixture(autouse=True)
def encoders(monkeypatch, tiny_data):
    """The encoders and the stories that the tiny runs were made with."""
    stubs = {"image": StubEncoder("stub-image", 24), "text": StubEncoder("stub-text", 20)}
    monkeypatch.setattr(prediction, "load_image_encoder", lambda name: stubs["image"])
    monkeypatch.setattr(prediction, "load_text_encoder", lambda name: stubs["text"])
    monkeypatch.setattr(runs, "prepare", lambda config: tiny_data)
    return stubs


@pytest.fixture
def run(tiny_runs):
    return dataclasses.replace(tiny_runs[1.0, 0])


@pytest.fixture
def window(tiny_data):
    """The pictures and texts of four pages of a held-out story."""
    frames = tiny_data.splits.test[1].frames[1:5]
    return [f.image for f in frames], [f.text for f in frames]


def test_it_says_and_draws_what_evaluation_saw(run, window, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(run.path.parent))
    page = load_run(run.id).predict(*window)
    rows = run.model_rows.set_index(["story", "frame"])
    row = rows.loc[("s11", 6)]
    assert page.text == row["generation"] != ""
    drawn = np.load(run.path / "pictures.npy")[int(row["picture"])]
    assert page.image.size == (16, 16)
    assert np.abs(np.asarray(page.image).astype(int) - drawn).max() <= 1
    assert page.text == run.predict(*window).text


def test_the_nearest_known_picture_is_none_of_those_given(run, window, tiny_data):
    page = run.predict(*window)
    model, pages = run.model(tiny_data).requires_grad_(False), [(s, f) for s in tiny_data.stories for f in s.frames]
    vectors = torch.from_numpy(tiny_data.features.image_vectors[tiny_data.features.image_of])
    texts = torch.from_numpy(tiny_data.features.text_vectors[tiny_data.features.text_of])
    own = [i for i, (s, f) in enumerate(pages) if s.id == "s11" and f.number in (2, 3, 4, 5)]
    expected = model.read(vectors[own][None], texts[own][None])["next_image"][0]
    cosine = F.cosine_similarity(model.image_space(vectors), expected[None])
    best = next(i for i in cosine.argsort(descending=True).tolist() if pages[i][1].image not in window[0])
    assert page.nearest.image.tobytes() == pages[best][1].image.tobytes()
    assert page.similarity == pytest.approx(float(cosine[best]), abs=1e-5)
    assert page.nearest in page.story.frames


def test_a_shared_picture_is_known_once(tiny_data):
    known = Known.of(tiny_data.stories, tiny_data.features)
    assert len(known.vectors) == len(known.places) == 14 * 6 - 2
    for vector, (story, frame) in zip(known.vectors, known.places, strict=True):
        row = tiny_data.features.row[story.id, frame.number]
        assert np.array_equal(vector, tiny_data.features.image_vectors[tiny_data.features.image_of[row]])


def test_nothing_is_near_if_all_that_is_known_was_given(run, window, tiny_data):
    story = dataclasses.replace(tiny_data.splits.test[1], frames=tiny_data.splits.test[1].frames[1:5])
    page = run.storyteller.predict(*window, known=Known.of([story], tiny_data.features))
    assert page.nearest is None and page.story is None and page.text


def test_paths_are_as_good_as_pictures(run, window, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, window[0], strict=True):
        image.save(path)
    one, two, three = (run.predict(images, window[1]) for images in (window[0], paths, [str(p) for p in paths]))
    assert one.text == two.text == three.text and one.image.tobytes() == two.image.tobytes() == three.image.tobytes()


def test_words_may_be_drawn_by_chance(run, window):
    def sample(seed):
        torch.manual_seed(seed)
        return run.predict(*window, do_sample=True, temperature=2.0).text

    assert sample(0) == sample(0) and len({sample(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda i, t: (i[:3], t), "reads 4 pictures with a text each.*was given 3 pictures.*the last 4 pages"),
        (lambda i, t: (i, [*t, "One more."]), "was given 5 texts"),
        (lambda i, t: ([], []), "was given 0 pictures"),
        (lambda i, t: (i[0], t), "Give the pictures as a list of 4"),
        (lambda i, t: (i, t[0]), "Give the texts as a list of 4"),
        (lambda i, t: (i, [t[0], " ", *t[2:]]), "Picture 2 has no text"),
        (lambda i, t: (i, [*t[:3], None]), "Picture 4 has no text"),
    ],
)
def test_what_it_cannot_read_is_refused_with_the_way_out(run, window, change, message):
    with pytest.raises(PredictionError, match=message):
        run.predict(*change(*window))


def test_a_picture_that_is_not_there_is_named(run, window, tmp_path):
    with pytest.raises(PictureError, match=r"lost\.png"):
        run.predict([*window[0][:3], str(tmp_path / "lost.png")], window[1])


# ---- saved and loaded


def test_it_comes_back_from_its_folder_without_its_run(run, window, tmp_path):
    before = run.storyteller.predict(*window)
    run.storyteller.save_pretrained(tmp_path / "teller")
    assert {p.name for p in (tmp_path / "teller").iterdir()} == {"README.md", "config.json", "model.safetensors"}
    again = Storyteller.from_pretrained(str(tmp_path / "teller"))
    assert not again.training and again.settings == run.config
    mine, theirs = run.storyteller.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    after = again.predict(*window)
    assert after.text == before.text and after.image.tobytes() == before.image.tobytes() and after.nearest is None
    again.save_pretrained(tmp_path / "twice")
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (tmp_path / "twice" / name).read_bytes() == (tmp_path / "teller" / name).read_bytes()


def test_weights_of_another_model_are_refused(run, tmp_path):
    run.storyteller.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["temporal"] = "lstm"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises((RuntimeError, SafetensorError), match="temporal"):
        Storyteller.from_pretrained(str(tmp_path))


def test_the_card_says_what_the_record_says(run, tmp_path):
    run.storyteller.save_pretrained(tmp_path)
    card, record = (tmp_path / "README.md").read_text(), run.record
    assert card.startswith("---\n") and "library_name: storylib" in card
    assert f"# {run.id}" in card and "`width=16`" in card and "`dropout=" not in card
    assert record["data"]["fingerprint"] in card and record["commit"][:12] in card
    assert f"{record['parameters']:,} parameters; the best epoch was {record['best_epoch']}" in card
    assert "8 stories to learn from, 2 to choose" in card and f"torch {record['versions']['torch']}" in card
    for metric in run.metrics.values():
        assert f"| {metric['title']} | {metric['value']:.3f} | " in card


def test_a_part_that_was_not_trained_is_not_made_up(tiny_data, window, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    run = runs.train(tiny_config(epochs=1, text_weight=0.0, image_weight=0.0), tiny_data)
    page = run.predict(*window)
    assert page.text is None and page.image is None and page.nearest is not None
    assert "How good it is" not in run.storyteller.generate_model_card().content


def test_a_picture_of_another_size_or_mode_is_read(run, window):
    odd = [Image.new("RGBA", (30, 50), (10, 200, 30, 128)), *window[0][1:]]
    assert isinstance(run.predict(odd, window[1]).text, str)
