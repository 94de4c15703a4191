"""A reader's own pictures: which are accepted, what the messages say, what the bundled storyteller predicts."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from conftest import noise, tiny_stories, use_stub_encoders

from storylib.data.types import Frame
from storylib.experiments.provenance import RunError
from storylib.experiments.storyteller import KnownPictures, Storyteller
from storylib.report.figures_stories import your_story as draw
from storylib.report.your_story import (
    BUNDLED,
    YourStoryError,
    load_storyteller,
    make_bundle,
    read_context,
    read_frames,
    write_frames,
)

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
    with pytest.raises(YourStoryError, match=r"four pictures, not 3\. Give them in the order"):
        read_context(str(folder), LINES)


@pytest.mark.parametrize(("lines", "message"), [
    ("", "four lines, not 0. Write one per picture"),
    ("One. | Two. | Three.", "four lines, not 3"),
    ("One. | Two. |  | Four.", r"Picture 3 \(c.JPG\) has no line"),
])  # fmt: skip
def test_pictures_without_a_line_are_named(folder, lines, message):
    with pytest.raises(YourStoryError, match=message):
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


def test_an_outdated_bundle_says_how_to_make_it_again(monkeypatch):
    def unfit(folder):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(Storyteller, "from_pretrained", unfit)
    with pytest.raises(YourStoryError, match="`storylib bundle` trains it again"):
        load_storyteller()


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


def test_frames_are_kept_with_small_pictures(tiny_data, tmp_path, monkeypatch):
    frames = [(story, frame) for story in tiny_data.stories[:2] for frame in story.frames]
    monkeypatch.setattr("storylib.report.your_story.SIZE", 12)
    write_frames(frames, tmp_path / "known.parquet")
    for (story, frame), (kept, small) in zip(frames, read_frames(tmp_path / "known.parquet"), strict=True):
        facts = (story.id, story.title, story.licence, frame.text, frame.number)
        assert (kept.id, kept.title, kept.licence, small.text, small.number) == facts
        assert max(small.image.size) == 12


def test_a_bundle_is_written_and_found_again(tiny_runs, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr("storylib.experiments.runs.prepare", lambda config: tiny_data)
    monkeypatch.setattr("storylib.experiments.runs.train", lambda config, data: tiny_runs[1.0, 0])
    size = make_bundle("quick", tmp_path / "bundle")
    assert size == sum(file.stat().st_size for file in (tmp_path / "bundle").iterdir())
    monkeypatch.setattr("storylib.report.your_story.BUNDLED", tmp_path / "bundle")
    storyteller, known = load_storyteller()
    assert storyteller.settings.model.width == 16 and len(known.sources) == len(known.vectors)
