"""Easy and hard stories: ease by hand, traits by hand, and reasons that only clear intervals give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from storylib.difficulty import _recurring, reasons, story_ease, why


def test_ease_is_the_mean_reciprocal_rank_of_a_storys_pages(tiny_runs, tiny_data):
    runs = [tiny_runs[1.0, s] for s in (0, 1)]
    stories = story_ease(runs, tiny_data)
    rows = pd.concat([r.model_rows for r in runs])
    for story in tiny_data.splits.test:
        ranks = rows.loc[rows["story"] == story.id, "page_rank"].dropna()
        assert stories.loc[story.id, "model"] == pytest.approx((1 / ranks).mean())
        assert stories.loc[story.id, "pages"] == 6
        assert stories.loc[story.id, "length"] == np.mean([len(f.text.split()) for f in story.frames[4:]])
    floors = {f: v for f, v in runs[0].metrics["page_mrr"]["floors"].items() if f != "best of context"}
    assert floors[stories.attrs["floor"]] == max(v for f, v in floors.items() if f != "chance")


def test_recurring_words_by_hand():
    texts = ["a fox", "the hill", "a fox ran", "an owl slept"]
    assert _recurring(texts, 2) == pytest.approx((2 / 3 + 0) / 2)
    assert np.isnan(_recurring(["a", "..."], 1))


@pytest.fixture
def table():
    rng, n = np.random.default_rng(0), 40
    ease = rng.normal(size=n)
    known = {"likeness": ease + rng.normal(0, 0.3, n), "pages": rng.integers(5, 20, n), "recurring": rng.normal(size=n)}
    return pd.DataFrame(
        {"model": ease, "length": -(ease**3), "spread": np.ones(n), "words_likeness": np.full(n, np.nan), **known}
    )


def test_reasons_are_spearmans_correlations_strongest_first(table):
    found = reasons(table, draws=500)
    by = found.set_index("reason")["correlation"]
    for column, reason in (("likeness", "the next picture is like the last one"), ("pages", "pages in the story")):
        assert by[reason] == pytest.approx(spearmanr(table["model"], table[column]).statistic)
    assert by.iloc[0] == pytest.approx(-1) and found["correlation"].abs().is_monotonic_decreasing
    assert len(found) == 4  # what is the same for all stories, or unknown, explains nothing
    assert (found["low"] <= found["correlation"] + 1e-9).all() and (found["correlation"] <= found["high"] + 1e-9).all()


def test_why_names_only_what_is_clear(table):
    found = reasons(table, draws=500)
    said = why(table, found)
    assert "Of 40 held-out stories" in said and "the next picture is like the last one (easier, +" in said
    clear = set(found[(found["low"] > 0) | (found["high"] < 0)]["reason"])
    assert all((reason in said) == (reason in clear) for reason in found["reason"])
    assert "None of the traits" in why(table, found.iloc[:0])
