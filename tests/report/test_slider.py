"""The slider shows the points of a sweep, and needs neither a mouse nor, for its figure, a script."""

from __future__ import annotations

import html
import json
import re

import pandas as pd
import pytest
from conftest import SMALL_GROUP

from storylib.experiments.studies import Factor
from storylib.report.slider import slider

FACTOR = Factor("dropout", ("on", "off"))
PLANTED = "</div><script>document.title = 'planted'</script><b>$x ${y}"


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The slider over three values, one of them hostile, of two metrics."""
    monkeypatch.setenv("STORYLIB_FIGURES", str(tmp_path))
    rows = []
    for name, digits in (("cross_modal_recall@10", 10.0), ("frame_in_story_mrr", 0.1)):
        for i, value in enumerate(("0.5", "1", PLANTED), 2):
            row = {"value": value, "metric": name, "candidates": 40.0, "chance": digits / 2, "verdict": "better"}
            row |= {"baseline": PLANTED, "baseline_value": 6 * digits}
            for arm, factor in (("off", 1), ("on", i)):
                levels = {"": factor, "_low": factor - 0.5, "_high": factor + 0.5}
                row |= {f"{arm}{end}": digits * level for end, level in levels.items()}
            rows.append(row | {"difference": digits * (i - 1), "low": digits * (i - 2), "high": digits * i})
    return slider(pd.DataFrame(rows), FACTOR, PLANTED).data


def test_each_point_is_drawn_and_told_with_its_interval_and_change(page):
    points = [json.loads(html.unescape(data)) for data in re.findall(r'data-points="([^"]*)"', page)]
    assert [len(panel) for panel in points] == [4, 4]  # without the factor, then the three values
    assert points[0][:2] == [
        ["0", "10.0 (5.0 to 15.0); without"],
        ["0.5", "20.0 (15.0 to 25.0); change +10.0 (+0.0 to +20.0), better"],
    ]
    assert points[1][2] == ["1", "0.300 (0.250 to 0.350); change +0.200 (+0.100 to +0.300), better"]
    for name in ("cross_modal_recall@10", "frame_in_story_mrr"):
        assert re.findall(rf'id="{name}-(\w+)"', page) == ["0", "1", "2", "3", "cursor"]
    assert page.count("<svg ") == page.count('role="img"') == 2  # in the page itself, also without a script
    assert "among 40" in page and "60.0" in page and "chance" in page


def test_what_a_record_says_stays_text(page):
    assert "planted" in page and page.count("<script>") == 1 and "<b>$x" not in page


@pytest.mark.slow
@pytest.mark.xdist_group(SMALL_GROUP)  # it shares their browser
def test_the_keyboard_moves_it_and_without_a_script_the_figure_stays(page, browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><title>Book</title>{page}", encoding="utf-8")
    opened, errors = browser.new_page(viewport={"width": 390, "height": 844}), []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(path.as_uri())
    opened.keyboard.press("Tab")
    opened.keyboard.press("ArrowRight")
    assert opened.locator("output").first.inner_text().startswith("20.0 (15.0 to 25.0)")
    assert opened.get_attribute("input", "aria-valuetext") == "0.5"
    opened.keyboard.press("End")
    assert opened.locator("label b").inner_text() == PLANTED and opened.title() == "Book"
    moved = opened.locator("g[id$='-cursor']").first.evaluate("g => g.style.transform")
    assert re.fullmatch(r"translate\([1-9][\d.]*px, ?-[\d.]+px\)", moved)  # to the right, and up
    assert opened.evaluate("document.documentElement.scrollWidth") == 390 and errors == []
    with browser.new_context(java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto(path.as_uri())
        assert plain.locator("svg").count() == 2 and not plain.locator("input").is_visible()
    opened.close()
