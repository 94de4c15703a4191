"""The trials of ideas: every one is a setting that there is, and the table of the page comes from the numbers."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_config

from benchmarks import decoder_ideas, storyteller_ideas, training_ideas
from storylib.config import project_root


@pytest.mark.parametrize("idea", storyteller_ideas.IDEAS)
def test_every_idea_is_a_setting_and_changes_something(idea):
    change = storyteller_ideas.IDEAS[idea]
    tiny_config(**change)  # a field that there is not is an error
    assert change or idea == "default"


def test_an_idea_is_scored_on_validation_stories_beside_floors_and_the_default(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(storyteller_ideas, "configure", lambda *_, **changes: tiny_config(**changes | {"seed": 0}))
    default, linear = (
        storyteller_ideas.scored(idea, "storyworld", 0, tiny_data)
        for idea in ("default", "embedding read off the story state")
    )
    assert set(default["story"]) == {s.id for s in tiny_data.splits.validation}
    same, other = (storyteller_ideas.summary(scores, default) for scores in (default, linear))
    assert same["text_mrr"]["minus default"] == [0, 0, 0] and any(other["text_mrr"]["minus default"])
    for entry in other.values():
        assert entry["minus floor"][0] == pytest.approx(entry["value"] - entry["at"], abs=2e-4)
    table = storyteller_ideas.rows({"storyworld": {"default": same, "linear": other}})
    assert [row["idea"] for row in table] == ["default", "linear"] and not table[0]["next text, MRR − default"]


@pytest.mark.parametrize("idea", training_ideas.IDEAS)
def test_every_idea_that_is_no_setting_trains_and_changes_something(idea, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(training_ideas, "configure", lambda *_, **changes: tiny_config(**changes | {"seed": 0}))
    plain, found = (training_ideas.scored(i, "storyworld", 0, tiny_data) for i in ("default", idea))
    assert set(found["story"]) == {s.id for s in tiny_data.splits.validation}
    assert found.equals(plain) == (idea == "default")
    assert found.equals(training_ideas.scored(idea, "storyworld", 0, tiny_data))  # read again, not trained


def test_an_order_that_spreads_stories_repeats_none_before_all_have_come(monkeypatch):
    monkeypatch.setattr(training_ideas.Spread, "stories", "aaabbc")
    order = list(training_ideas.Spread(6, seed=0))
    assert sorted(order) == list(range(6))
    assert ["".join(sorted("aaabbc"[i] for i in part)) for part in (order[:3], order[3:5], order[5:])] == [
        "abc",
        "ab",
        "a",
    ]


@pytest.mark.parametrize("module", [decoder_ideas, storyteller_ideas])
def test_the_record_shows_the_table_of_its_numbers(module):
    name = "decoder" if module is decoder_ideas else "retrieval"
    path = project_root() / "results" / "ideas" / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{path.name} has not been published")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["rows"] == module.rows(record if module is decoder_ideas else record["validation"])
