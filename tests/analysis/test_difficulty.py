"""Easy and hard stories: ease and traits by hand, and correlations whose verdict needs a clear interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from storylib.analysis.difficulty import REASONS, _recurring, reasons, story_ease


def test_ease_is_the_mean_reciprocal_rank_of_a_storys_frames(tiny_runs, tiny_data):
    runs = [tiny_runs[1.0, s] for s in (0, 1)]
    stories = story_ease(runs, tiny_data)
    rows = pd.concat([r.model_rows for r in runs])
    for story in tiny_data.splits.test:
        ranks = rows.loc[rows["story"] == story.id, "frame_rank"].dropna()
        assert stories.loc[story.id, "model"] == pytest.approx((1 / ranks).mean())
        assert stories.loc[story.id, "frames"] == 6
        assert stories.loc[story.id, "length"] == np.mean([len(f.text.split()) for f in story.frames[4:]])
    baselines = {f: v for f, v in runs[0].metrics["frame_mrr"]["baselines"].items() if f != "best of context"}
    assert baselines[stories.attrs["baseline"]] == max(v for f, v in baselines.items() if f != "chance")


def test_recurring_words_by_hand():
    texts = ["a fox", "the hill", "a fox ran", "an owl slept"]
    assert _recurring(texts, 2) == pytest.approx((2 / 3 + 0) / 2)
    assert np.isnan(_recurring(["a", "..."], 1))


@pytest.fixture
def table():
    rng, n = np.random.default_rng(0), 40
    ease = rng.normal(size=n)
    known = {
        "picture_similarity": ease + rng.normal(0, 0.3, n),
        "frames": rng.integers(5, 20, n),
        "recurring": rng.normal(size=n),
    }
    return pd.DataFrame(
        {"model": ease, "length": -(ease**3), "spread": np.ones(n), "text_similarity": np.full(n, np.nan), **known}
    )


def test_reasons_are_spearmans_correlations_strongest_first(table):
    found = reasons(table)
    by = found.set_index("reason")["correlation"]
    for column in ("picture_similarity", "frames"):
        reason = REASONS[column]
        assert by[reason] == pytest.approx(spearmanr(table["model"], table[column]).statistic)
    assert by.iloc[0] == pytest.approx(-1) and found["correlation"].abs().is_monotonic_decreasing
    assert len(found) == 4  # what is the same for all stories, or unknown, explains nothing
    assert (found["low"] <= found["correlation"] + 1e-9).all() and (found["correlation"] <= found["high"] + 1e-9).all()
    for row in found.to_dict("records"):
        excludes_zero = row["low"] > 0 or row["high"] < 0
        assert (row["verdict"] != "no relation") == excludes_zero
        assert row["verdict"] != ("harder" if row["correlation"] > 0 else "easier")
    assert {"easier", "harder"} <= set(found["verdict"])
