"""The checklist catches each flaw, and an honest predictor passes it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from storylib.audit.checks import check
from storylib.audit.predictors import CopyLast, as_predictor
from storylib.data.types import windows


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

    def token_nats(self, window, texts):
        """Every word has probability 0.01."""
        return [np.full(len(text.split()) + 1, math.log(100)) for text in texts]


class Cheat(Honest):
    """Honest but for one thing at a time."""

    def __init__(self, write=None, **more):
        if write:
            self.write = write
        vars(self).update(more)


def check_of(checklist, word):
    """The check whose question contains a word."""
    (found,) = [c for c in checklist.checks if word in c.question]
    return found


def test_an_honest_predictor_passes_every_check(held, train):
    checklist = check(Honest(), held, trained_on=train)
    assert not checklist.failed and [c.passed for c in checklist.checks] == [True] * 6, repr(checklist)
    assert checklist.verdict.startswith("0 of 6 checks failed, 0 not tested")


@pytest.mark.parametrize(
    ("word", "cheat"),
    [
        ("constant", {"targets": lambda ws: ["[CLS]"] * len(ws)}),
        ("shuffled", {"write": lambda ws: ["The fox takes step 5 to the owl."] * len(ws)}),
        ("free running", {"write": lambda ws: [w.target.text for w in ws]}),
        ("free running", {"write_freely": lambda ws: [""] * len(ws), "write": lambda ws: [w.target.text for w in ws]}),
        ("shifted", {"token_nats": lambda w, ts: [np.full(len(t.split()) + 1, 0.01) for t in ts]}),
        ("kept out", {"write": lambda ws: [w.target.text for w in ws]}),
        ("kept out", {"inputs": lambda ws: [[f.text for f in w.story.frames] for w in ws]}),
    ],
)
def test_a_cheat_is_caught_by_its_check(held, train, word, cheat):
    checklist = check(Cheat(**cheat), held, trained_on=train)
    found = check_of(checklist, word)
    assert found.passed is False and found.question in checklist.failed


def test_training_on_the_test_set_is_caught(held, train):
    found = check_of(check(Honest(), held, trained_on=[*train, held[0].story]), "training set")
    assert found.passed is False and 0 < found.number < 1


def test_a_half_trained_unshifted_decoder_is_caught_and_a_sharp_shifted_one_is_not(held):
    half = Cheat(token_nats=lambda w, ts: [np.full(len(t.split()) + 1, 1.0) for t in ts])
    sharp = Cheat(token_nats=lambda w, ts: [np.array([0.0] * len(t.split()) + [3.0 + i]) for i, t in enumerate(ts)])
    assert check_of(check(half, held), "shifted").passed is False
    assert check_of(check(sharp, held), "shifted").number < 1.01


def test_what_cannot_be_tested_says_what_it_needs(held):
    shifted = check_of(check(CopyLast(), held), "shifted")
    assert shifted.passed is None and "token_nats" in shifted.finding
    function = check(lambda ws: [w.context[-1].text for w in ws], held)
    assert "trained_on" in check_of(function, "training set").finding
    assert "not tested" in repr(function) and function.table.loc["Is the decoder shifted?", "verdict"] == "not tested"


def test_a_checklist_escapes_what_it_shows(held):
    checklist = check(Cheat(targets=lambda ws: ["<script>alert(1)</script>"] * len(ws)), held)
    shown = checklist._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "FAIL" in shown
    assert list(checklist.table.columns) == ["verdict", "number", "finding"]


@pytest.mark.parametrize(
    ("predictor", "count", "error", "message"),
    [
        (object(), 9, TypeError, "predict"),
        (lambda ws: ["one"], 9, ValueError, "as many texts"),
        (Honest(), 1, ValueError, "two stories"),
    ],
)
def test_bad_input_gets_a_clear_error(held, predictor, count, error, message):
    with pytest.raises(error, match=message):
        check(predictor, held[:count])


def test_a_run_can_be_checked_completely(tiny_runs, tiny_data, stub_encoders, monkeypatch):
    for kind, stub in stub_encoders.items():
        monkeypatch.setattr(
            f"storylib.experiments.storyteller.load_{kind}_encoder", lambda name, device="cpu", stub=stub: stub
        )
    checklist = check(as_predictor(tiny_runs[1.0, 0]), windows(tiny_data.splits.test), tiny_data.splits.train)
    for word in ("constant", "free running", "shifted", "kept out", "training set"):
        assert check_of(checklist, word).passed, repr(checklist)
    assert 0 < check_of(checklist, "shifted").number <= 1 and check_of(checklist, "shuffled").passed is not None
