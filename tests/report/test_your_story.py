"""A reader's own pictures: which are accepted, what the messages say, what the bundled storyteller predicts."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from conftest import noise, tiny_stories, use_stub_encoders

from storylib.data.types import Frame
from storylib.experiments.provenance import RunError
from storylib.experiments.storyteller import KnownPictures
from storylib.report.figures_stories import your_story as draw
from storylib.report.your_story import BUNDLED, YourStoryError, load_storyteller, read_context

LINES = "A fox wakes. | She runs. | It rains. | She hides."


@pytest.fixture
def folder(tmp_path):
    """Four pictures, and a file that is none."""
    for name in ("b.png", "a.jpg", "d.png", "c.JPG"):
        noise(ord(name[0])).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names(folder):
    frames = read_context(str(folder), LINES)
    assert [frame.text for frame in frames] == ["A fox wakes.", "She runs.", "It rains.", "She hides."]
    assert [frame.number for frame in frames] == [1, 2, 3, 4]
    assert frames[1].image.tobytes() == noise(ord("b")).tobytes()


def test_paths_keep_their_order(folder):
    names = ("d.png", "b.png", "a.jpg", "c.JPG")
    frames = read_context(", ".join(str(folder / name) for name in names), LINES)
    assert frames[0].image.tobytes() == noise(ord("d")).tobytes()


def test_three_pictures_are_one_too_few(folder):
    (folder / "d.png").unlink()
    with pytest.raises(YourStoryError, match=r"3 pictures and 4 lines\. Give four pictures in the order"):
        read_context(str(folder), LINES)


@pytest.mark.parametrize(("lines", "count"), [("", 0), ("One. | Two. | Three.", 3), ("One. | Two. |  | Four.", 3)])
def test_each_picture_needs_a_line(folder, lines, count):
    with pytest.raises(YourStoryError, match=f"4 pictures and {count} lines"):
        read_context(str(folder), lines)


def test_a_picture_that_is_huge_or_none_is_named(folder, monkeypatch):
    monkeypatch.setattr("storylib.data.pictures.PIXELS", 1000)
    with pytest.raises(
        YourStoryError, match=r"Picture 1 cannot be used.*a\.jpg is too large.*scale it to less than 1,000"
    ):
        read_context(str(folder), LINES)
    monkeypatch.undo()
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(YourStoryError, match=r"Picture 2 cannot be used.*b\.png"):
        read_context(str(folder), LINES)


def test_what_is_missing_is_named():
    with pytest.raises(YourStoryError, match=r"There is no picture nowhere\.png"):
        read_context("nowhere.png, b.png", LINES)
    with pytest.raises(YourStoryError, match="on Google Colab only"):
        read_context("upload", LINES)
    with pytest.raises(RunError, match="Unknown run 'no-such-run'"):
        load_storyteller("no-such-run")


def test_a_notebook_shows_the_message_and_no_traceback():
    assert YourStoryError("Give four.")._render_traceback_() == ["Give four."]


def test_on_colab_files_are_asked_for(folder, monkeypatch):
    monkeypatch.chdir(folder)
    colab = ModuleType("google.colab")
    colab.files = type(
        "Files", (), {"upload": staticmethod(lambda: dict.fromkeys(("a.jpg", "b.png", "c.JPG", "d.png")))}
    )
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert [frame.text for frame in read_context("upload", LINES)] == [line.strip() for line in LINES.split("|")]


def test_any_run_predicts_and_its_nearest_known_frames_are_drawn(tiny_runs, tiny_data, monkeypatch):
    stubs = use_stub_encoders(monkeypatch)
    for kind in ("image", "text"):
        monkeypatch.setattr(f"storylib.experiments.storyteller.load_{kind}_encoder", lambda *_, kind=kind: stubs[kind])
    monkeypatch.setattr("storylib.experiments.runs.prepare", lambda config: tiny_data)
    monkeypatch.setenv("STORYLIB_RUNS", str(tiny_runs[1.0, 0].path.parent))
    storyteller, known = load_storyteller(tiny_runs[1.0, 0].id)
    assert {story.id for story, _ in known.sources} <= {story.id for story in tiny_data.splits.test}
    known = KnownPictures.of(tiny_data.stories, tiny_data.features)
    context = list(tiny_stories()[11].frames[:4])
    predicted = storyteller.predict([f.image for f in context], [f.text for f in context], known, nearest=4)
    assert predicted.text is not None and predicted.image.size == (16, 16)
    nearest = {(found.story.id, found.frame.number) for found in predicted.nearest}
    assert len(nearest) == 4 and not nearest & {(tiny_stories()[11].id, frame.number) for frame in context}
    assert context[0].text in draw(context, predicted).get_label()


@pytest.mark.slow
def test_the_bundled_storyteller_is_small_and_predicts():
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 5_000_000
    storyteller, known = load_storyteller()
    context = read_context()
    predicted = storyteller.predict([f.image for f in context], [f.text for f in context], known, nearest=3)
    assert len(predicted.text.split()) > 3 and predicted.image.size == (64, 64) and len(predicted.nearest) == 3
    assert {found.story.licence for found in predicted.nearest} == {"CC0-1.0"}
    assert storyteller.record["config"]["source"] == "storyworld" and storyteller.record["commit"]
    blobs = [Frame(noise(i), line, i) for i, line in enumerate(LINES.split("|"))]
    assert storyteller.predict([f.image for f in blobs], [f.text for f in blobs]).text  # whatever the pictures are
