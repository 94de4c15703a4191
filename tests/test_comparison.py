"""Arms and runs compared: paired or refused, and never called different without interval and test."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from storylib import comparison as module
from storylib.comparison import Comparison, compare
from storylib.protocol import METRICS
from storylib.runs import RunError


@pytest.fixture
def arms(tiny_runs):
    return [tiny_runs[1.0, s] for s in (0, 1)], [tiny_runs[0.0, s] for s in (0, 1)]


@pytest.fixture(scope="module")
def found(tiny_runs):
    arms = [[tiny_runs[w, s] for s in (0, 1)] for w in (1.0, 0.0)]
    return compare(*arms, names=("with", "without"), draws=200)


def test_arms_are_compared_on_every_metric_that_they_have(found, arms):
    assert found.frame["metric"].tolist() == [m for m in METRICS if m in arms[0][0].metrics]
    for row in found.frame.to_dict("records"):
        assert row["low"] <= row["difference"] <= row["high"]
        assert row["difference"] == pytest.approx(row["a"] - row["b"], abs=1e-9)
        assert row["effect_low"] <= row["effect"] <= row["effect_high"]
        assert 0 < row["p"] <= row["p_holm"] <= 1 and row["detectable"] >= 0
        assert row["verdict"] in ("better", "worse", "no difference")
        if row["group"] != "alignment":  # where chance is that of the model's own vectors, and so of the seed
            floors = arms[1][0].metrics[row["metric"]]["floors"]
            assert row["floor_value"] == pytest.approx(floors[row["floor"]], abs=1e-5)
    on = [r.metrics["image_l1"]["value"] for r in arms[0]]
    assert found.row("image_l1")["a"] == pytest.approx(np.mean(on), abs=1e-5)


def test_any_two_runs_can_be_compared(tiny_runs):
    one, other = tiny_runs[1.0, 0], tiny_runs[0.0, 1]  # of other seeds: paired by window
    found = compare(one, other, draws=50)
    assert found.row("image_l1")["a"] == pytest.approx(one.metrics["image_l1"]["value"], abs=1e-5)
    assert found.row("image_l1")["b"] == pytest.approx(other.metrics["image_l1"]["value"], abs=1e-5)
    text = str(found)
    for title in found.frame["title"]:
        assert title in text
    assert found.table.columns[:2].tolist() == ["b", "a"] and "<table" in found._repr_html_()


def test_an_arm_compared_with_itself_is_no_difference(arms):
    found = compare(arms[0], arms[0], draws=50)
    assert (found.frame[["difference", "low", "high", "effect"]].to_numpy() == 0).all()
    assert set(found.frame["verdict"]) == {"no difference"}


def test_the_verdict_knows_which_way_is_better(arms, monkeypatch):
    """Make one arm's errors smaller: better where less is better, worse the other way round."""
    better = [dataclasses.replace(r) for r in arms[0]]
    for run in better:
        run.__dict__["per_window"] = run.per_window.assign(image_l1=lambda t: t["image_l1"] / 2)
    monkeypatch.setattr(module, "holm", lambda p: p * 0)  # four stories cannot be significant
    forth, back = compare(better, arms[0], draws=50), compare(arms[0], better, draws=50)
    verdicts = [c.frame.set_index("metric")["verdict"].to_dict() for c in (forth, back)]
    assert (verdicts[0].pop("image_l1"), verdicts[1].pop("image_l1")) == ("better", "worse")
    assert set(verdicts[0].values()) == set(verdicts[1].values()) == {"no difference"}


def test_unpaired_arms_are_refused(arms):
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0], arms[1][:1])
    odd = dataclasses.replace(arms[1][0])
    odd.__dict__["per_window"] = arms[1][0].per_window[lambda t: t["story"] != "s10"]
    with pytest.raises(RunError, match="cannot be paired"):
        compare(arms[0][:1], [odd])


def test_the_order_of_the_runs_does_not_matter(arms, found):
    again = compare(arms[0][::-1], arms[1], draws=200)
    pd.testing.assert_frame_equal(again.frame, found.frame)


# ---- what is said


def rows(*verdicts: tuple[str, str, str]) -> Comparison:
    """Of (metric, verdict, size of the difference)."""
    table = []
    for name, verdict, size in verdicts:
        metric = METRICS[name]
        difference = float(size)
        table.append(
            {"metric": name, "title": metric.title, "group": metric.group, "a": 10 + difference, "b": 10.0,
             "difference": difference, "low": difference - 1, "high": difference + 1, "p": 0.5, "p_holm": 0.5,
             "effect": 0.1, "effect_low": 0.0, "effect_high": 0.2, "detectable": 2.0, "floor": "recency",
             "floor_value": 11.0, "verdict": verdict}
        )  # fmt: skip
    return Comparison(pd.DataFrame(table))


def test_the_answer_in_words():
    found = rows(("cross_entropy", "better", "-3"), ("top1", "no difference", "0"), ("top5", "worse", "-4"),
                 ("image_ssim", "no difference", "0.5"))  # fmt: skip
    assert found.answer() == (
        "With the contrastive loss, all else equal, 1 of 3 text metrics get better; 1 of 3 text metrics get worse. "
        "No difference is seen in: picture (1)."
    )
    assert "no metric changes measurably" in rows(("top1", "no difference", "0")).answer()


def test_sentences_are_chosen_by_the_numbers():
    found = rows(("image_recall@1", "no difference", "0.1"), ("image_recall@5", "better", "3"),
                 ("image_recall@10", "better", "2.5"), ("image_story_recall@1", "no difference", "-0.7"))  # fmt: skip
    first, second = found.sentences()
    assert first == (
        "Next frame: 2 of 3 metrics differ; clearest is next picture, recall@5, better by +3.0 (95 % interval +2.0 to "
        "+4.0). At 13.0 it is better than its best floor (11.0, recency)."
    )
    assert second == (
        "In story: no difference seen in any metric; next picture within its story, recall@1 comes nearest, with -0.7 "
        "(95 % interval -1.7 to +0.3), where 2.0 would have been seen four times in five. At 9.3 it is not better than "
        "its best floor (11.0, recency)."
    )


def test_some_groups_alone(found):
    part = found.of("text", "picture")
    assert set(part.frame["group"]) == {"text", "picture"} and 0 < len(part.frame) < len(found.frame)
    assert part.sentences() == [s for s in found.sentences() if s.startswith(("Text: ", "Picture: "))]
    assert part.row("top1") == found.row("top1") and part.names == found.names


def test_what_is_said_of_real_rows_names_their_numbers(found):
    said = found.sentences()
    assert len(said) == found.frame["group"].nunique()
    assert all(re.search(r"95 % interval .* to |exactly the same", sentence) for sentence in said)


def test_arms_that_cannot_differ_are_called_identical(arms):
    found = compare(arms[0], arms[0], draws=50)
    assert set(found.table["could be seen from"]) == {"identical"}
    assert all("both arms score exactly the same in every story" in sentence for sentence in found.sentences())
