"""The built book in a real browser: no errors, offline, legible on a phone and in dark mode, usable without a mouse.

These tests drive the Chromium of the machine and download none. They look at the small book, or at the one that
STORYLIB_BOOK names: STORYLIB_BOOK=_build/html python -m pytest tests/report/test_browser.py
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from conftest import SMALL_GROUP

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group(SMALL_GROUP),
]

PHONE, LAPTOP = {"width": 390, "height": 844}, {"width": 1366, "height": 768}
WEIGHT = 3_000_000  # bytes of a page with everything that it loads


@pytest.fixture(scope="session")
def book(request):
    named = os.environ.get("STORYLIB_BOOK")
    return Path(named).resolve() if named else request.getfixturevalue("small_book")


@pytest.fixture(scope="session")
def pages(book):
    return [*sorted(book.glob("book/*.html")), *sorted(book.glob("notebooks/*.html")), book / "gallery.html"]


def watched(context):
    """A page, the errors on its console, and every address that it requests."""
    page, errors, requests = context.new_page(), [], []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    return page, errors, requests


@pytest.fixture
def open_page(browser):
    """A fresh window, ``watched``."""
    contexts = []

    def opened(viewport=LAPTOP, scheme="light"):
        contexts.append(browser.new_context(viewport=viewport, color_scheme=scheme))
        return watched(contexts[-1])

    yield opened
    for context in contexts:
        context.close()


def go(page, path):
    page.goto(path.as_uri())
    page.evaluate("window.MathJax?.startup?.promise")  # until its equations are drawn


# What a page shows at one width.
LAYOUT = """() => {
  const page = document.documentElement.clientWidth, all = selector => [...document.querySelectorAll(selector)];
  const at = e => e.getBoundingClientRect(), style = e => getComputedStyle(e);
  const cuts = e => /auto|scroll|hidden|clip/.test(style(e).overflowX);
  const boxed = e => e !== document.body && (cuts(e) || boxed(e.parentElement));
  const show = elements => elements.map(e => e.outerHTML.slice(0, 200));
  const tables = all("main table").filter(t => t.offsetWidth > t.parentElement.clientWidth + 1);
  const drawn = all(".storylib-drawing svg").flatMap(svg => [...svg.querySelectorAll("text")].map(text =>
    [text.textContent, parseFloat(style(text).fontSize) * svg.clientWidth / svg.viewBox.baseVal.width]));
  const words = all("h1, h2, h3, p, li, td, th, figcaption, dt, dd, summary").filter(e => !e.closest("pre"));
  const texts = words.flatMap(e => [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data));
  return {
    wide: show(all("body *").filter(e => at(e).right > page + 1 && !boxed(e))),
    tables: show(tables), drawn,
    cut: show(all("main pre").filter(code => code.scrollWidth > code.clientWidth + 1)),
    figures: all("main img").filter(i => i.currentSrc.endsWith(".svg")).map(i =>
      [i.currentSrc, i.clientWidth, style(i).backgroundColor]),
    heads: all("h1").length, title: document.title,
    left: texts.filter(text => /[$][{]?[a-z]{2}|(^|[\\s(])-\\.?\\d/.test(text)),
  };
}"""
DRAWN = """() => ({
  width: document.documentElement.viewBox.baseVal.width,
  texts: [...document.querySelectorAll("text")].map(text => [text, getComputedStyle(text)]).map(([text, style]) =>
    [text.textContent, parseFloat(style.fontSize), style.fill]),
})"""
ICONS = """() => [...document.querySelectorAll("body *")].flatMap(e => ["::before", "::after"].map(part =>
  getComputedStyle(e, part))).filter(style => /[\\ue000-\\uf8ff]/.test(style.content)).map(style =>
  style.fontFamily.split(",")[0].replaceAll('"', ""))"""


@pytest.fixture(scope="session")
def drawn(browser):
    """The width of a figure's file, and its texts with their sizes and colours; each file is read once."""
    page = browser.new_page()

    @functools.cache
    def read(url):
        page.goto(url)
        return page.evaluate(DRAWN)

    return read


def luminance(colour):
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


WIDTHS, SCHEMES = (390, 768, 1400), ("light", "dark")
REPEATED = {"exclude": [["article:nth-of-type(n+4)"]]}  # windows of the gallery after the third
SETTLED = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => {
  document.getAnimations().forEach(fading => { try { fading.finish() } catch { } });
  return Promise.all([...document.images].map(image => image.decode().catch(() => null)));
})"""


@pytest.fixture(scope="session")
def visits(book, pages, browser):
    """What each page says, asks for and shows: loaded once, then seen at every width and in both schemes."""
    from axe_playwright_python.sync_playwright import Axe

    with browser.new_context(viewport=PHONE, color_scheme="light") as context:
        page, errors, requests = watched(context)
        return {path.relative_to(book): visit(page, path, errors, requests, Axe()) for path in pages}


def visit(page, path, errors, requests, axe):
    errors.clear(), requests.clear()
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=SCHEMES[0])
    go(page, path)
    seen = {"background": {}, "faults": {}, "layout": {}, "figures": {}}
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        page.evaluate(SETTLED)
        options = {"resultTypes": ["violations"], "preload": False}
        if path.name == "api.html":  # thousands of words in the same few styles; every other page has them, too
            options["rules"] = {"color-contrast": {"enabled": False}}
        elif scheme == "dark":  # the one rule that depends on colours
            options["runOnly"] = ["color-contrast"]
        if path.name != "api.html" or scheme == "light":
            seen["faults"][scheme] = axe.run(page, REPEATED, options).response["violations"]
        seen["background"][scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        seen["figures"][scheme] = page.evaluate(LAYOUT)["figures"]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate(SETTLED)
        seen["layout"][width] = page.evaluate(LAYOUT)
    seen["images"] = page.eval_on_selector_all("img", "all => all.map(i => [i.alt, i.src.slice(0, 200)])")
    seen["drawings"] = page.eval_on_selector_all(".storylib-drawing svg", "all => all.map(s => s.textContent.trim())")
    return seen | {"errors": [*errors], "requests": [*requests]}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_page_is_quiet_offline_and_legible(visits, scheme):
    faults = []
    for name, seen in visits.items():
        faults += [f"{name}: {text}" for text in seen["errors"]]
        foreign = [url for url in seen["requests"] if not url.startswith(("file:", "data:", "blob:"))]
        faults += [f"{name} requests {url}" for url in foreign]
        shown = seen["background"][scheme]
        dark = sum(map(int, re.findall(r"\d+", shown)[:3])) < 384 and shown != "rgba(0, 0, 0, 0)"
        if dark != (scheme == "dark"):
            faults.append(f"{name} is not {scheme}: {shown}")
        for fault in seen["faults"].get(scheme, []):
            if fault["impact"] in ("serious", "critical"):
                faults.append(f"{name}: {fault['id']}, {len(fault['nodes'])} times: {fault['nodes'][0]['html'][:200]}")
    assert faults == [] and len(visits) > 10


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_and_is_readable(visits, drawn, width):
    faults, titles, figures = [], {}, set()
    for name, visit in visits.items():
        seen = visit["layout"][width]
        for fault in ("wide", "tables", "cut", "left"):
            faults += [f"{name}, {fault}: {what}" for what in seen[fault]]
        if seen["heads"] != 1:
            faults.append(f"{name} has {seen['heads']} titles of the first level")
        if (other := titles.setdefault(seen["title"], name)) != name:
            faults.append(f"{name} and {other} have the same title")
        sizes = [*seen["drawn"]]
        for url, shown, _ in seen["figures"]:
            figures.add(url)
            figure = drawn(url)
            sizes += [(text, size * shown / figure["width"]) for text, size, _ in figure["texts"]]
        faults += [f"{name}: {text!r} has {size:.1f} pixels" for text, size in sizes if text.strip() and size < 9]
    assert faults == []
    assert len(figures) >= 8


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_in_figures_has_contrast(visits, drawn, scheme):
    faults, texts = [], 0
    for name, seen in visits.items():
        for url, _, own in seen["figures"][scheme]:
            behind = luminance(seen["background"][scheme] if own == "rgba(0, 0, 0, 0)" else own)
            for text, _, colour in drawn(url)["texts"]:
                low, high = sorted((behind, luminance(colour)))
                texts += 1
                if (high + 0.05) / (low + 0.05) < 4.5:
                    faults.append(f"{name}: {text!r} is {colour}")
    assert faults == [] and texts > 50


def test_every_picture_is_described_and_every_page_light(visits):
    figures = 0
    for name, seen in visits.items():
        files = {Path(unquote(urlparse(url).path)) for url in seen["requests"] if url.startswith("file:")}
        weight = sum(file.stat().st_size for file in files)
        assert 10_000 < weight < WEIGHT, f"{name} weighs {weight:,} bytes"
        for alt, source in seen["images"]:
            assert len(re.findall(r"\w+", alt)) >= 2 and not source.endswith(alt), f"{name}: {source}"
            figures += source.endswith(".svg")
        assert all(seen["drawings"])
    assert figures >= 8


def test_every_icon_has_its_glyph_and_leaves_the_query_free(book, open_page):
    page, *_ = open_page({"width": 1400, "height": 900})
    go(page, book / "notebooks" / "03_evaluate.html")
    page.evaluate("document.querySelector('.bd-sidebar-secondary').classList.add('hide')")  # as beside a wide figure
    icons = page.evaluate(ICONS)
    fonts = {name.strip('"') for name in page.evaluate("[...document.fonts].map(font => font.family)")}
    assert len(icons) > 10 and set(icons) <= fonts
    page.goto((book / "search.html").as_uri())
    magnifier = page.locator(".bd-search-container i").bounding_box()
    field = page.locator(".bd-search-container input")
    padding = float(field.evaluate("e => parseFloat(getComputedStyle(e).paddingLeft)"))
    assert magnifier["x"] + magnifier["width"] <= field.bounding_box()["x"] + padding


def test_search_finds_what_is_on_the_pages(book, open_page):
    page, errors, _ = open_page()
    page.goto((book / "search.html").as_uri() + "?q=contrastive")
    for wanted in ("method.html", "04_ablation.html"):  # they are listed one after the other
        page.wait_for_selector(f"#search-results li a[href*='{wanted}']")
    assert errors == []


def test_the_first_figure_is_seen_without_scrolling(book, open_page):
    page, *_ = open_page(LAPTOP)
    go(page, book / "book" / "index.html")
    box = page.locator("main figure img").first.bounding_box()
    assert box["width"] > 300 and box["height"] > 100
    assert box["y"] >= 0 and box["y"] + box["height"] <= LAPTOP["height"]


def test_the_keyboard_alone_reaches_the_gallery_and_uses_it(book, open_page):
    page, *_ = open_page()
    go(page, book / "book" / "index.html")
    for _ in range(60):
        page.keyboard.press("Tab")
        where = page.evaluate("document.activeElement.getAttribute('href') || ''")
        if where.endswith("gallery.html"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/gallery.html")
    if "/book/gallery.html" in page.url:
        page.locator("main a[href='../gallery.html']").focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "location.pathname.endsWith('/gallery.html') && document.querySelector('#windows article')"
        )
    windows = page.locator("#windows article")
    everything = page.inner_text("#count")
    page.keyboard.press("Tab")
    for _ in range(3):
        if page.evaluate("document.activeElement.id") == "story":
            break
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "story"
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#count") != everything and windows.count() >= 1
    assert page.get_attribute("#count", "aria-live") == "polite"
    titles = {text.rsplit(",", 1)[0] for text in page.locator("article h2").all_text_contents()}
    assert len(titles) == 1  # of one story only


def test_the_gallery_sorts_and_compares(book, open_page):
    page, errors, _ = open_page()
    go(page, book / "gallery.html")

    def ranks():
        texts = page.locator("article section:first-child dd:first-of-type").all_text_contents()
        return [float(text.split(" of ")[0]) for text in texts]

    page.select_option("#order", "best")
    assert ranks() == sorted(ranks()) and len(ranks()) > 5
    page.select_option("#order", "worst")
    assert ranks() == sorted(ranks(), reverse=True)
    assert page.locator("article").first.locator("section h3").all_text_contents() == [
        "contrastive-off",
        "contrastive-on",
    ]
    page.select_option("#right", "")
    assert page.locator("article").first.locator("section h3").all_text_contents() == ["contrastive-off"]
    assert errors == []


def test_the_gallery_shows_where_the_arms_disagree_and_marks_wrong_words(book, open_page):
    page, errors, _ = open_page()
    go(page, book / "gallery.html")
    ranks = page.evaluate("facts.windows.map(window => window.arms.map(arm => arm.ranks[facts.ranks[0]][0]))")
    page.goto((book / "gallery.html").as_uri() + "?order=gap")
    assert page.input_value("#order") == "gap"
    assert page.inner_text("#count").startswith(f"{sum(off != on for off, on in ranks)} of {len(ranks)} ")
    page.select_option("#order", "story")
    checked = 0
    for section in page.locator("article section").all()[:10]:
        target, predicted, retrieved = section.locator("figure").all()
        assert target.get_attribute("class") == "target" and "retrieved" in retrieved.text_content()
        texts = "e => [...e.childNodes].slice(1).map(node => node.textContent).join('')"  # without the label
        right, written = (f.locator("figcaption").evaluate(texts).lower() for f in (target, predicted))
        wrong = [word for word in re.findall(r"\w+", written) if word not in re.findall(r"\w+", right)]
        marks = " ".join(predicted.locator("mark").all_text_contents()).lower()
        assert written == "(no text)" or wrong == re.findall(r"\w+", marks)
        checked += len(wrong)
    assert checked and errors == []


def test_what_is_planted_in_a_story_stays_text(open_page, tiny_runs, tiny_data, tmp_path):
    import dataclasses

    from test_gallery import ODD

    from storylib.report.gallery import write_gallery

    def planted(story):
        frames = tuple(dataclasses.replace(f, text=ODD) for f in story.frames)
        return dataclasses.replace(story, title=ODD, credit=ODD, frames=frames)

    data = dataclasses.replace(tiny_data, stories=[planted(s) for s in tiny_data.stories])
    write_gallery({"a": tiny_runs[1.0, 0]}, data, tmp_path / "gallery.html")
    page, errors, _ = open_page()
    go(page, tmp_path / "gallery.html")
    assert "planted" not in page.title() and errors == []
    assert page.locator("article b").count() == 0 and page.locator("article script").count() == 0
    assert " ".join(page.locator("figcaption").first.inner_text().split()).endswith(ODD)
    assert page.locator("article img").first.get_attribute("alt").endswith(ODD)
