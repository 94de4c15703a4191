"""The whole path, small: pictures drawn, encoded and trained on, every notebook executed, the book built from them."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest
from bs4 import BeautifulSoup
from conftest import SMALL_GROUP

from storylib.config import experiments, project_root
from storylib.experiments.ablation import comparison_of
from storylib.experiments.studies import ABLATION
from storylib.metrics.registry import VERDICTS
from storylib.report.book import toc_pages
from storylib.report.tables import load_records, sentence

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group(SMALL_GROUP)]


def test_the_notebooks_make_runs_and_the_book_shows_them(small_home, small_book):
    records = [json.loads(p.read_text()) for p in (small_home / "runs").glob("*/run.json")]
    arms = sorted((r["config"]["contrastive_weight"], r["config"]["seed"]) for r in records)
    assert arms == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]  # none was trained twice
    assert len(list((small_home / "runs").glob("*/metrics.json"))) == 4
    ablation = (small_book / "notebooks" / "04_ablation.html").read_text()
    assert records[0]["id"] in ablation


def test_every_page_of_the_book_is_there_with_what_is_generated(small_book):
    pages = {page: (small_book / f"{page}.html").read_text() for page in toc_pages(project_root())}
    answer = BeautifulSoup(pages["book/index"], "html.parser").select_one(".admonition.tip")
    claimed = re.findall("|".join(VERDICTS), answer.select_one("p:not(.admonition-title)").get_text())
    sources = ["picture_books", "storyworld"]
    records = load_records([ABLATION], sources, "full", "quick")[0]["ablation"]
    verdicts = [{row["metric"]: row["verdict"] for row in records[source]["metrics"]} for source in sources]
    endpoints = experiments()["ablation"]["endpoints"]
    assert claimed == [found[name] for found in verdicts for name in endpoints]
    sizes = [sentence(comparison_of(records[source]), name)["difference"] for name in endpoints for source in sources]
    shown = [cell.get_text(strip=True) for row in answer.select("tbody tr") for cell in row.select("td")[2:]]
    assert shown == [size.replace("-", "\N{MINUS SIGN}") for size in sizes]
    assert '<svg id="architecture"' in pages["book/method"]
    assert "contrastive_weight" in pages["book/parameters"]
    assert 'id="storylib.model.StoryModel"' in pages["book/api"]
    assert "CC0-1.0" in pages["book/credits"]


def test_no_link_within_the_book_is_dead(small_book):
    paths = sorted(small_book.resolve().rglob("*.html"))
    pages = {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in paths}
    places = {}
    for path, page in pages.items():
        places[path] = {"", "top", *(tag.get(name) for tag in page.find_all(True) for name in ("id", "name"))}
    dead = []
    for path, page in pages.items():
        for link in page.find_all("a", href=re.compile(r"^(?!#?$|[a-z]+:|//)")):
            file, _, anchor = link["href"].partition("#")
            target = (path.parent / unquote(file.partition("?")[0])).resolve() if file else path
            if not target.exists() or (target in pages and unquote(anchor) not in places[target]):
                dead.append(f"{path.name}: {link['href']}")
    assert dead == []
