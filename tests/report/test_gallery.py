"""The gallery shows every test window of every run, takes no text of a story for HTML, and keeps to its size."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest
from PIL import Image

from storylib.report.gallery import write_gallery
from storylib.report.style import OFF, ON

ODD = """</script><script>document.title = 'planted'</script> "double" 'single' <!-- <b>bold</b> & {facts} — été"""


@pytest.fixture
def runs(tiny_runs):
    return {"contrastive-on": tiny_runs[1.0, 0], "contrastive-off": tiny_runs[0.0, 0]}


def facts(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script id="facts" type="application/json">(.*?)</script>', text, flags=re.DOTALL)[1])


def test_every_test_window_is_there_with_the_prediction_of_each_arm(runs, tiny_data, tmp_path):
    page = facts(write_gallery(runs, tiny_data, tmp_path / "gallery.html"))
    assert len(page["windows"]) == sum(len(s.frames) - 4 for s in tiny_data.splits.test)
    frames = {(s.title, f.number): f.text for s in tiny_data.stories for f in s.frames}
    rows = runs["contrastive-on"].model_rows.set_index(["story", "frame"])
    for window in page["windows"]:
        *context, target = (page["frames"][n] for n in [*window["context"], window["target"]])
        title = page["stories"][target["story"]]["title"]
        assert [frame["number"] for frame in context] == list(range(target["number"] - 4, target["number"]))
        assert all(frame["text"] == frames[title, frame["number"]] for frame in [*context, target])
        story = next(s.id for s in tiny_data.stories if s.title == title)
        row, prediction = rows.loc[(story, target["number"])], window["arms"][0]
        assert prediction["ranks"]["frame"] == [row["frame_rank"], row["frame_candidates"]]
        assert prediction["text"] == (row["generation"] or "")
        assert page["frames"][prediction["retrieved"]]["number"] == row["retrieved_frame"]
        assert all(arm["picture"].startswith("data:image/") for arm in window["arms"])
    assert [(arm["name"], arm["colour"]) for arm in page["arms"]] == list(zip(runs, (ON, OFF), strict=True))


def test_nothing_of_a_story_is_read_as_html(runs, tiny_data, tmp_path):
    def planted(story):
        return dataclasses.replace(
            story, title=ODD, credit=ODD, frames=tuple(dataclasses.replace(f, text=ODD) for f in story.frames)
        )

    data = dataclasses.replace(tiny_data, stories=[planted(s) for s in tiny_data.stories])
    path = write_gallery(runs, data, tmp_path / "gallery.html")
    text = path.read_text()
    assert text.count("<script") == 2  # the data and the page's own
    assert "`retrieved: ${title}, frame" in text  # only the page's title is filled in, not the script's
    page = facts(path)
    assert {frame["text"] for frame in page["frames"]} == {story["title"] for story in page["stories"]} == {ODD}


def test_pictures_shrink_until_the_page_fits_and_the_page_says_so(runs, tiny_data, tmp_path, monkeypatch):
    board = Image.effect_noise((400, 300), 90)
    noisy = [
        dataclasses.replace(s, frames=tuple(dataclasses.replace(f, image=board) for f in s.frames))
        for s in tiny_data.stories
    ]
    data = dataclasses.replace(tiny_data, stories=noisy)
    whole = facts(write_gallery(runs, data, tmp_path / "whole.html"))
    assert (whole["size"], whole["smaller"]) == (160, False)
    limit = (tmp_path / "whole.html").stat().st_size // 2
    monkeypatch.setattr("storylib.report.gallery.LIMIT", limit)
    page = write_gallery(runs, data, tmp_path / "small.html")
    assert page.stat().st_size <= limit and facts(page)["smaller"]
    monkeypatch.setattr("storylib.report.gallery.LIMIT", 5000)
    assert facts(write_gallery(runs, data, tmp_path / "least.html"))["size"] == 32
