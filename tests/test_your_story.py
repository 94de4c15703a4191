"""A reader's own pictures: what is taken, what is said of what cannot be, what the bundled storyteller makes of it."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from conftest import noise, tiny_stories, use_stub_encoders

from storylib import plots, your_story
from storylib.prediction import Known
from storylib.runs import RunError
from storylib.stories import Frame
from storylib.your_story import BUNDLED, YourStoryError, read_places, storyteller, tell, write_places, your_pages

LINES = "A fox wakes. | She runs. | It rains. | She hides."


@pytest.fixture
def folder(tmp_path):
    """Four pictures, and a file that is none."""
    for name in ("b.png", "a.jpg", "d.png", "c.JPG"):
        noise(ord(name[0])).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_folder_is_taken_in_the_order_of_its_names(folder):
    pages = your_pages(str(folder), LINES)
    assert [page.text for page in pages] == ["A fox wakes.", "She runs.", "It rains.", "She hides."]
    assert [page.page for page in pages] == [1, 2, 3, 4]
    assert pages[1].image.tobytes() == noise(ord("b")).tobytes()


def test_paths_are_taken_in_the_order_given(folder):
    names = ("d.png", "b.png", "a.jpg", "c.JPG")
    pages = your_pages(", ".join(str(folder / name) for name in names), LINES)
    assert pages[0].image.tobytes() == noise(ord("d")).tobytes()


def test_three_pictures_are_one_too_few(folder):
    (folder / "d.png").unlink()
    with pytest.raises(YourStoryError, match=r"Pictures: 3, but a story goes on from four\. Give exactly four"):
        your_pages(str(folder), LINES)


@pytest.mark.parametrize(("lines", "says"), [
    ("", "Lines of text: 0, but .* Write one for each picture"),
    ("One. | Two. | Three.", "Lines of text: 3"),
    ("One. | Two. |  | Four.", r"Picture 3 \(c.JPG\) has no line"),
])  # fmt: skip
def test_pictures_without_a_line_are_named(folder, lines, says):
    with pytest.raises(YourStoryError, match=says):
        your_pages(str(folder), lines)


def test_a_picture_that_is_huge_or_none_is_named(folder, monkeypatch):
    monkeypatch.setattr("storylib.pictures.PIXELS", 1000)
    with pytest.raises(
        YourStoryError, match=r"Picture 1 cannot be used.*a\.jpg is too large.*scale it to less than 1,000"
    ):
        your_pages(str(folder), LINES)
    monkeypatch.undo()
    (folder / "b.png").write_bytes(b"no picture")
    with pytest.raises(YourStoryError, match=r"Picture 2 cannot be used.*b\.png"):
        your_pages(str(folder), LINES)


def test_what_is_not_there_is_named():
    with pytest.raises(YourStoryError, match=r"There is no picture nowhere\.png"):
        your_pages("nowhere.png, b.png", LINES)
    with pytest.raises(YourStoryError, match="on Google Colab only"):
        your_pages("upload", LINES)
    with pytest.raises(RunError, match="Unknown run 'no-such-run'"):
        storyteller("no-such-run")


def test_a_bundle_of_older_code_says_how_to_make_it_anew(monkeypatch):
    def unfit(folder):
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(your_story.Storyteller, "from_pretrained", unfit)
    with pytest.raises(YourStoryError, match=r"python -m storylib\.your_story"):
        storyteller()


def test_a_notebook_shows_the_message_and_no_traceback():
    assert YourStoryError("Give four.")._render_traceback_() == ["Give four."]


def test_on_colab_files_are_asked_for(folder, monkeypatch):
    monkeypatch.chdir(folder)
    colab = ModuleType("google.colab")
    colab.files = type(
        "Files", (), {"upload": staticmethod(lambda: dict.fromkeys(("a.jpg", "b.png", "c.JPG", "d.png")))}
    )
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert [page.text for page in your_pages("upload", LINES)] == [line.strip() for line in LINES.split("|")]


def test_any_run_goes_on_and_finds_the_nearest_pages_once_each(tiny_runs, tiny_data, monkeypatch):
    use_stub_encoders(monkeypatch)
    monkeypatch.setattr("storylib.prediction.load_image_encoder", lambda *_: use_stub_encoders(monkeypatch)["image"])
    monkeypatch.setattr("storylib.prediction.load_text_encoder", lambda *_: use_stub_encoders(monkeypatch)["text"])
    teller = tiny_runs[1.0, 0].storyteller
    known = Known.of(tiny_data.stories, tiny_data.features)
    pages = list(tiny_stories()[11].frames[:4])
    told = tell(teller, known, pages, n=4)
    assert told.next.text is not None and told.next.image.size == (16, 16)
    assert len({(story.id, frame.page) for frame, story, _ in told.nearest}) == 4
    scores = [score for *_, score in told.nearest]
    assert scores == sorted(scores, reverse=True)
    assert told.nearest[0][0] == teller.predict([p.image for p in pages], [p.text for p in pages], known).nearest
    given = {(tiny_stories()[11].id, page.page) for page in pages}
    assert not given & {(story.id, frame.page) for frame, story, _ in told.nearest}
    figure = plots.your_story(told.pages, told.next, told.nearest)
    assert "She" not in figure.get_label() and pages[0].text in figure.get_label()


@pytest.mark.slow
def test_the_bundled_storyteller_is_small_and_tells():
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 5_000_000
    teller, known = storyteller()
    told = tell(teller, known, your_pages())
    assert len(told.next.text.split()) > 3 and told.next.image.size == (64, 64) and len(told.nearest) == 3
    assert {story.licence for _, story, _ in told.nearest} == {"CC0-1.0"}
    assert teller.record["config"]["source"] == "storyworld" and teller.record["commit"]
    red = [Frame(noise(i), line, i) for i, line in enumerate(LINES.split("|"))]
    assert tell(teller, known, red).next.text  # whatever it is given


def test_pages_are_kept_with_small_pictures_and_found_again(tiny_data, tmp_path):
    places = [(story, frame) for story in tiny_data.stories[:2] for frame in story.frames]
    write_places(places, tmp_path / "known.parquet", size=12)
    for (story, frame), (kept, page) in zip(places, read_places(tmp_path / "known.parquet"), strict=True):
        assert (kept.id, kept.title, kept.licence, page.text, page.page) == (
            story.id, story.title, story.licence, frame.text, frame.page,
        )  # fmt: skip
        assert max(page.image.size) == 12


def test_the_bundle_is_made_by_one_command(tmp_path, monkeypatch, capsys):
    made = []
    monkeypatch.setattr(your_story, "make_bundle", lambda folder, config: made.append((folder, config)) or 1234)
    assert your_story.main(["--folder", str(tmp_path)]) == 0
    assert made[0][0] == tmp_path and made[0][1].data.source == "storyworld"
    assert "1,234 bytes" in capsys.readouterr().err
    assert your_story.main(["--profile", "quik"]) == 2
