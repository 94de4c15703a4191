"""The checklist catches each flaw, and an honest predictor passes it."""

from __future__ import annotations

import pytest

from storylib.audit.checks import check, check_reported
from storylib.data.types import windows
from storylib.experiments.storyteller import Storyteller

CONSTANT, CONTEXT, COPY, REVERSE, SAME, POSSIBLE, HIDDEN, INPUT, NEW = range(9)  # the order of the questions


@pytest.fixture(scope="module")
def held(tiny_data):
    return list(windows(tiny_data.splits.test))


@pytest.fixture(scope="module")
def train(tiny_data):
    return tiny_data.splits.train


class Honest:
    """Knows the grammar and takes the hero from the context: steps increase by one."""

    def predict(self, images, texts):
        words = texts[-1].split()
        words[4] = str(int(words[4]) + 1)
        return " ".join(words)


class Cheat(Honest):
    """Honest but for one thing at a time."""

    def __init__(self, **more):
        vars(self).update(more)


def test_an_honest_predictor_passes_every_check(held, train):
    table = check(Honest(), held, train, ceiling=1.0)
    assert table["verdict"].tolist() == ["pass"] * 9, table.to_string()
    assert (table["low"] <= table["number"]).all() and (table["number"] <= table["high"]).all()
    assert (table["to_test"] == "").all()


def test_what_cannot_be_tested_says_what_to_pass(held):
    table = check(Honest(), held)
    missing = table[table["verdict"] == "not tested"]["to_test"]
    assert list(missing.index) == ["Is the score possible?", "Are the frames new?"]
    assert missing.str.split(",").str[0].tolist() == ["ceiling", "trained_on"]
    function = check(lambda ws: [w.context[-1].text for w in ws], held)
    assert "inputs(windows)" in function["to_test"].iloc[INPUT] and function["verdict"].iloc[INPUT] == "not tested"


@pytest.mark.parametrize(
    ("place", "cheat"),
    [
        (CONSTANT, Cheat(targets=lambda ws: ["[CLS]"] * len(ws))),
        (CONTEXT, lambda ws: ["The fox takes step 5 to the owl."] * len(ws)),
        (HIDDEN, lambda ws: [w.target.text for w in ws]),
        (INPUT, Cheat(inputs=lambda ws: [[f.text for f in w.story.frames] for w in ws])),
    ],
)
def test_a_cheat_is_caught_by_its_check(held, place, cheat):
    assert check(cheat, held)["verdict"].iloc[place] == "FAIL"


def test_training_on_the_test_set_is_caught(held, train):
    found = check(Honest(), held, [*train, held[0].story]).iloc[NEW]
    assert found["verdict"] == "FAIL" and 0 < found["number"] < 1


@pytest.mark.parametrize(
    ("copies", "question"),
    [
        (lambda texts: texts[-1], COPY),
        (lambda texts: " ".join(reversed(texts[-1].split())), REVERSE),
        (lambda texts: "The crow takes step 4 to the owl.", CONTEXT),
    ],
)
def test_a_simple_baseline_does_not_beat_itself(held, train, copies, question):
    table = check(Cheat(predict=lambda images, texts: copies(texts)), held, train)
    assert table["verdict"].iloc[[question, COPY]].tolist() == ["FAIL", "FAIL"], table.to_string()


def test_baselines_are_scored_in_the_form_of_the_targets(held):
    marked = Cheat(targets=lambda ws: [f"<gdi image{w.target.number}> same </gdi>" for w in ws])
    marked.predict = lambda images, texts: "same"
    assert check(marked, held)["number"].iloc[COPY] < 0  # the last text has the same markup, and so more of it


def test_a_score_above_the_ceiling_and_a_nearly_perfect_one_are_flagged(held):
    for predictor, ceiling in ((Honest(), 0.5), (lambda ws: [w.target.text for w in ws], None)):
        assert check(predictor, held, ceiling=ceiling)["verdict"].iloc[POSSIBLE] == "FAIL"


def test_what_compares_stories_is_not_tested_on_one_story(held):
    table = check(Honest(), held[:1])
    untested = table[table["to_test"] == "windows of two or more stories"]
    assert len(untested) == 5 and (untested["verdict"] == "not tested").all() and untested["number"].isna().all()


def test_a_context_is_continued_once(held):
    class Counting(Honest):
        calls = 0

        def predict(self, images, texts):
            self.calls += 1
            return super().predict(images, texts)

    counting = Counting()
    table = check(counting, held)
    assert counting.calls == len(held)
    by_function = check(lambda ws: [Honest().predict([], [f.text for f in w.context]) for w in ws], held)
    asked = table.index != table.index[INPUT]  # what a function reads is not known
    assert table[asked].equals(by_function[asked])


def test_reported_scores_that_cannot_be_true_are_flagged():
    third = check_reported({"bleu": 0.3328, "rouge_l": 0.8889, "meteor": 1.0})
    assert third["verdict"].tolist() == ["FAIL", "FAIL"] and "at least 0.71" in third["measures"].iloc[1]
    identical = check_reported({"bleu": 1.0, "rouge_l": 1.0, "meteor": 1.0})
    assert identical["verdict"].tolist() == ["FAIL", "pass"]
    plausible = check_reported({"bleu": 0.57, "rouge_l": 0.68, "meteor": 0.74})
    assert plausible["verdict"].tolist() == ["pass", "not tested"] and plausible["to_test"].iloc[1]
    assert check_reported({"top1": 1.0, "cosine": 0.783})["verdict"].iloc[0] == "FAIL"


def test_bad_input_gets_a_clear_error(held):
    with pytest.raises(ValueError, match="as many texts"):
        check(lambda ws: ["one"], held)


def test_a_run_can_be_checked(tiny_runs, held, train, stub_encoders, monkeypatch):
    for kind, stub in stub_encoders.items():
        monkeypatch.setattr(
            f"storylib.experiments.storyteller.load_{kind}_encoder", lambda name, device="cpu", stub=stub: stub
        )
    table = check(Storyteller.of_run(tiny_runs[1.0, 0]), held, train)
    assert set(table["verdict"].iloc[[CONSTANT, HIDDEN, INPUT, NEW]]) == {"pass"}, table.to_string()
