"""The checklist catches each flaw, and an honest predictor passes it."""

from __future__ import annotations

import pytest

from storylib.audit.checks import check
from storylib.data.types import windows
from storylib.experiments.storyteller import Storyteller

CONSTANT, CONTEXT, HIDDEN, INPUT, NEW = range(5)  # the order of the questions


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
    table = check(Honest(), held, train)
    assert table["verdict"].tolist() == ["pass"] * 5, table.to_string()
    assert list(check(Honest(), held).index) == list(table.index[:NEW])  # nothing is known of the training


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


def test_copying_the_last_text_is_honest(held, train):
    table = check(lambda ws: [w.context[-1].text for w in ws], held, train)
    assert (table["verdict"] == "pass").all(), table.to_string()


def test_what_swaps_stories_is_not_tested_on_one_story(held):
    table = check(Honest(), held[:1])
    untested = table["verdict"].str.startswith("not tested")
    assert list(untested[untested].index) == ["Does the score need the context?", "Is the next frame hidden?"]


def test_a_context_is_continued_once(held):
    class Counting(Honest):
        calls = 0

        def predict(self, images, texts):
            self.calls += 1
            return super().predict(images, texts)

    counting = Counting()
    table = check(counting, held)
    assert counting.calls == len(held)
    assert table.equals(check(lambda ws: [Honest().predict([], [f.text for f in w.context]) for w in ws], held))


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
