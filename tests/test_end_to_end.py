"""The whole path, small: pictures drawn, encoded and trained on, every notebook executed, the book built from them."""

from __future__ import annotations

import json

import pytest
from conftest import SMALL_GROUP

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group(SMALL_GROUP)]


def test_the_notebooks_make_runs_and_the_book_shows_them(small_home, small_book):
    records = [json.loads(p.read_text()) for p in (small_home / "runs").glob("*/run.json")]
    arms = sorted((r["config"]["contrastive_weight"], r["config"]["seed"]) for r in records)
    assert arms == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]  # 02 and 03 trained those with the loss, none twice
    assert len(list((small_home / "runs").glob("*/metrics.json"))) == 4
    landing = (small_book / "book" / "index.html").read_text()
    assert "With the contrastive loss, all else equal" in landing
    ablation = (small_book / "notebooks" / "04_ablation.html").read_text()
    assert records[0]["id"] in ablation
