"""The ladders change one switch a rung and do what they say; the checklist catches cheats and lets honesty pass."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_stories, use_stub_encoders

from storylib.ablation import to_publish
from storylib.audit import (
    LADDER_A,
    LADDER_B,
    CopyLast,
    Material,
    Settings,
    SystemA,
    SystemB,
    ask,
    best_alignment,
    check,
    record,
)
from storylib.audit.__main__ import main
from storylib.audit.ladder import another_story, marked_up, training_part
from storylib.config import ConfigError
from storylib.runs import RunError
from storylib.stories import windows

TINY = Settings(seeds=(0, 1), stories=8, epochs_a=2, epochs_b=1)


@pytest.fixture(scope="module")
def material(tiny_data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_stub_encoders(patch)
        patch.setenv("STORYLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        made = Material(tiny_data, "stub", "stub", TINY)
        for kind in made.kinds:
            made.texts(kind)
        yield made


@pytest.fixture(scope="module")
def made(material, tmp_path_factory):
    """The whole record on the tiny stories, and where its steps are kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        patch.setattr(record, "LADDERS", {"a": (SystemA, LADDER_A), "b": (SystemB, LADDER_B)})
        found = record.run_on(material, TINY) | {"source": "tiny_world", "profile": "test"}
        yield found


def test_only_the_stories_that_are_used_are_encoded_and_their_frames_are_found_again(material, tiny_data):
    frames = [f for s in (*tiny_data.splits.train[:8], *tiny_data.splits.test) for f in s.frames]
    assert len(frames) < sum(len(s.frames) for s in tiny_data.stories)
    assert {len(part) for kind in material.kinds for part in material.texts(kind)} == {len(frames)}
    window = list(windows(material.held))[-1]
    shown = [*window.context, window.target]
    (row,) = material.rows([window]).tolist()
    assert [material.texts("page")[0][r] for r in row] == [f.text for f in shown]
    features = tiny_data.features
    wanted = [features.image_vectors[features.image_of[features.row[window.story.id, f.page]]] for f in shown]
    np.testing.assert_array_equal(material.image[row], np.stack(wanted))


def test_the_record_says_how_long_each_step_took(made):
    rungs = [rung for ladder in made["ladders"].values() for rung in ladder]
    assert all(step["seconds"] > 0 for rung in rungs for step in rung["seeds"])
    assert not any("seconds" in rung["mean"] for rung in rungs)  # what is averaged are the scores


# The ladders


@pytest.mark.parametrize("rungs", [LADDER_A, LADDER_B], ids=["a", "b"])
def test_each_rung_differs_from_the_one_before_by_exactly_its_switch(rungs):
    for before, after in pairwise(rungs):
        old, new = dataclasses.asdict(before.protocol), dataclasses.asdict(after.protocol)
        assert [name for name in old if old[name] != new[name]] == [after.change]
    assert len({r.label for r in rungs}) == len(rungs)


@pytest.mark.parametrize("rungs", [LADDER_A, LADDER_B], ids=["a", "b"])
def test_a_ladder_starts_as_published_and_turns_every_switch(rungs):
    assert rungs[0].protocol == type(rungs[0].protocol)() and rungs[0].change == ""
    assert sorted(r.change for r in rungs[1:]).count("token_target") in (
        0,
        2,
    )  # system A's target is mended in two steps
    assert {r.change for r in rungs[1:]} == {f.name for f in dataclasses.fields(rungs[0].protocol)}


def test_a_switch_of_the_scoring_needs_no_new_training():
    same = [training_part(a.protocol) == training_part(b.protocol) for a, b in pairwise(LADDER_B)]
    assert same == [False, False, False, True, True, False]


# System A


def test_one_key_gets_all_the_attention_so_that_pictures_change_nothing(material):
    one, four = (SystemA(material, LADDER_A[i].protocol) for i in (5, 6))
    rows = material.sliding[1]
    assert (one.attention(rows) == 1).all() and one.shuffle_pictures(rows) == 0
    assert four.attention(rows).shape[-1] == 4 and four.shuffle_pictures(rows) > 1e-6


def test_the_published_target_is_a_constant_and_each_repair_makes_it_richer(material):
    rows = material.sliding[0]
    kinds = [len(set(SystemA(material, LADDER_A[i].protocol).token_targets(rows)[1].tolist())) for i in (0, 1, 2)]
    assert kinds[0] == 1 and kinds[0] <= kinds[1] < kinds[2]


def test_all_tokens_of_a_target_are_those_of_its_text_without_the_ends(material):
    system = SystemA(material, LADDER_A[2].protocol)
    rows = material.sliding[0][:1]
    text = material.texts("page")[0][int(rows[0, -1])]
    wanted = material.pieces.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [material.pieces.ids[i] for i in system.token_targets(rows)[1].tolist()] == wanted


def test_the_target_is_part_of_the_published_input_and_not_of_the_repaired(material):
    window = next(windows(material.held))
    assert window.target.text in material.kinds["story"](window.story, 3)
    assert window.target.text not in material.kinds["context"](window.story, 3)
    assert material.kinds["context"](window.story, 3).count("takes step") == 4


def test_floors_of_system_a_by_hand(made, material):
    scores = made["ladders"]["a"][4]["seeds"][0]  # all tokens, held out
    pages, held = material.texts("page")[0], material.sliding[1]
    rows = [
        [material.pieces.tokenizer(pages[i], add_special_tokens=False)["input_ids"] for i in w] for w in held.tolist()
    ]
    train = [material.pieces.tokenizer(pages[w[-1]], add_special_tokens=False)["input_ids"]
             for w in material.sliding[0].tolist()]  # fmt: skip
    common = Counter(t for text in train for t in text)
    hits = [t == max(common, key=lambda x: (common[x], -x)) for w in rows for t in w[-1]]
    best = [max(set(w[-2]), key=lambda x, w=w: (w[-2].count(x), common[x])) for w in rows]
    copied = [t == b for w, b in zip(rows, best, strict=True) for t in w[-1]]
    assert sum(common[t] == max(common.values()) for t in common) == 1, "a tie would make this test say nothing"
    assert scores["top1_majority"] == pytest.approx(np.mean(hits))
    assert scores["top1_copy_last"] == pytest.approx(np.mean(copied), abs=0.08)  # ties within a text


# System B


def test_an_unshifted_decoder_is_given_what_it_must_say(material):
    published, shifted = (SystemB(material, LADDER_B[i].protocol) for i in (0, 3))
    tokens = published.tokens[:2]
    given, wanted = published.pairs(tokens)
    assert torch.equal(given, wanted)
    given, wanted = shifted.pairs(tokens)
    assert torch.equal(given[:, 1:], wanted[:, :-1])


def test_the_published_text_is_the_same_for_all_frames_with_markup_and_then_without(material):
    texts = [SystemB(material, LADDER_B[i].protocol) for i in (0, 1, 2)]
    decoded = [material.pieces.decode(s.tokens[:6]) for s in texts]
    assert [len(set(d)) for d in decoded] == [1, 1, 6]
    assert "gdi" in decoded[0][0] and "gdi" not in decoded[1][0]
    assert marked_up(material.train[0]).count("</gdi>") == len(material.train[0].frames)


def test_writing_freely_does_not_depend_on_the_true_text(material):
    system = SystemB(material, LADDER_B[3].protocol)
    rows = material.sliding[1]
    other = rows.clone()
    other[:, -1] = rows[another_story(material.story_of[rows[:, 0]]), -1]
    assert system.write(rows, writing="free") == system.write(other, writing="free")
    assert system.write(rows) != system.write(other)  # teacher-forced


def test_the_alignment_loss_under_a_repeated_text_cannot_go_below_ln_4(material):
    repeated, own = best_alignment(), best_alignment(repeated=False)
    assert math.log(4) <= repeated[-1] + 1e-5 and repeated[-1] == pytest.approx(math.log(4), abs=0.02)
    assert own[-1] < 0.1
    system = SystemB(material, LADDER_B[0].protocol)
    system.fit(TINY)
    assert system.lowest_contrastive >= math.log(4)


def test_a_weight_of_zero_computes_no_alignment(material):
    system = SystemB(material, LADDER_B[6].protocol)
    system.loss(material.last[:2])
    assert system.lowest_contrastive == math.inf


# The record


def test_the_published_protocol_scores_perfectly_and_so_does_its_floor(made):
    first, last = made["ladders"]["a"][0]["mean"], made["ladders"]["a"][-1]["mean"]
    assert first["top1"] == first["top5"] == first["top1_majority"] == 1 and first["shuffled_pictures_change"] == 0
    assert last["top1"] < 1 and last["shuffled_pictures_change"] > 0
    assert made["ladders"]["b"][0]["mean"]["bleu_copy_last"] == pytest.approx(1)
    assert made["ladders"]["b"][2]["mean"]["bleu_copy_last"] < 1


def test_a_finished_step_is_not_done_again_and_the_same_steps_give_the_same_record(made, material, monkeypatch):
    monkeypatch.setattr(record, "_step", lambda *_: pytest.fail("done again"))
    again = record.run_on(material, TINY)
    assert again["ladders"] == made["ladders"]


def test_seeds_are_kept_apart_and_averaged(made):
    rung = made["ladders"]["b"][0]
    assert [s["seed"] for s in rung["seeds"]] == [0, 1] and rung["seeds"][0]["losses"] != rung["seeds"][1]["losses"]
    assert rung["mean"]["bleu"] == pytest.approx(np.mean([s["bleu"] for s in rung["seeds"]]))


def test_tables_and_headlines_come_from_the_record(made):
    assert record.table(made, "a").shape == (7, 10) and record.table(made, "b").shape == (7, 9)
    words = record.headline(made, "a", "top1")
    assert words["claimed"] == 1 and words["honest"] == made["ladders"]["a"][-1]["mean"]["top1"]
    compared = record.beside_hand_measured(made)
    assert len(compared) == len(record.BY_HAND) and compared["why they may differ"].str.len().min() > 5


def test_the_published_record_is_read_drawn_and_missed_with_a_way_out(made, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    with pytest.raises(RunError, match=r"python -m storylib\.audit --source tiny_world --profile test"):
        record.published("tiny_world", "test")
    record.save_record(made, to_publish("audit", "tiny_world", "test"))
    assert record.published("tiny_world", "test")["ladders"]["a"][0]["label"] == "as published"
    drawn = [tmp_path / str(i) / "audit.svg" for i in range(2)]
    for path in drawn:
        assert main(["--source", "tiny_world", "--profile", "test", "--figure", str(path)]) == 0
    svg = drawn[0].read_text()
    assert (
        'aria-label="Two ladders of protocols on Tiny World' in svg
        and f"{made['ladders']['a'][0]['mean']['top1']:.2f}" in svg
    )
    assert drawn[1].read_text() == svg and "As published" not in svg and "as published" in svg and "Tiny World" in svg
    assert main(["--source", "tiny_world", "--profile", "none", "--figure", str(drawn[0])]) == 2
    said = capsys.readouterr().err
    assert "There is no published audit" in said and "`python -m storylib.audit --source " in said


def test_the_record_holds_no_sentence_of_the_stories(made):
    text = json.dumps(made)
    assert not any(frame.text in text for story in tiny_stories() for frame in story.frames)


def test_the_committed_record_if_there_is_one_has_three_seeds_and_every_rung():
    for path in (Path(__file__).parents[1] / "results" / "audit").glob("*-full.json"):
        found = json.loads(path.read_text())
        assert [len(found["ladders"][k]) for k in "ab"] == [len(LADDER_A), len(LADDER_B)]
        assert all(len(r["seeds"]) == 3 for k in "ab" for r in found["ladders"][k]) and found["dirty"] is False


def test_unknown_settings_are_named(monkeypatch):
    with pytest.raises(ConfigError, match="Did you mean 'quick'"):
        Settings.of("quik")
    monkeypatch.setattr("storylib.audit.ladder.experiments", lambda: {"audit": {"quick": {"epoch_a": 1}}})
    with pytest.raises(ConfigError, match="epochs_a"):
        Settings.of("quick")


# The checklist


@pytest.fixture(scope="module")
def held(material):
    return list(windows(material.held))


class Honest:
    """Knows the grammar and takes the hero from the context: steps go on by one."""

    def predict(self, images, texts):
        words = texts[-1].split()
        words[4] = str(int(words[4]) + 1)
        return " ".join(words)

    def token_nats(self, window, texts):
        """A word has one chance in a hundred, whatever it is."""
        return [np.full(len(text.split()) + 1, math.log(100)) for text in texts]


class Swindler(Honest):
    """Honest but for one thing at a time."""

    def __init__(self, write=None, **more):
        if write:
            self.write = write
        vars(self).update(more)


def test_an_honest_predictor_passes_every_check(held, material):
    found = check(Honest(), held, trained_on=material.train)
    assert found.passed and not found.failed and "No flaw found" in repr(found), repr(found)
    assert [item.passed for item in found.items] == [True] * 6


@pytest.mark.parametrize(
    ("question", "cheat"),
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
def test_a_cheat_is_caught_by_its_check(held, material, question, cheat):
    found = check(Swindler(**cheat), held, trained_on=material.train)
    assert found[question].passed is False and not found.passed
    assert found[question].question in found.failed


def test_training_on_the_test_is_caught(held, material):
    found = check(Honest(), held, trained_on=[*material.train, material.held[0]])
    assert found["training set"].passed is False and 0 < found["training set"].number < 1


def test_an_unshifted_decoder_that_was_only_half_trained_is_caught_and_a_sharp_honest_one_is_not(held):
    half = Swindler(token_nats=lambda w, ts: [np.full(len(t.split()) + 1, 1.0) for t in ts])
    sharp = Swindler(token_nats=lambda w, ts: [np.array([0.0] * len(t.split()) + [3.0 + i]) for i, t in enumerate(ts)])
    assert check(half, held)["shifted"].passed is False
    assert check(sharp, held)["shifted"].number < 1.01


def test_what_cannot_be_tested_says_what_it_needs(held):
    found = check(CopyLast(), held)
    assert found["shifted"].passed is None and "token_nats" in found["shifted"].finding
    plain = check(lambda ws: [w.context[-1].text for w in ws], held)
    assert plain["training set"].passed is None and "trained_on" in plain["training set"].finding
    assert "not tested" in repr(plain) and plain.table.loc["Is the decoder shifted?", "verdict"] == "not tested"


def test_the_published_systems_fail_their_own_protocols(material):
    seen = list(windows(material.train))
    a, b = SystemA(material, LADDER_A[0].protocol), SystemB(material, LADDER_B[0].protocol)
    a.fit(TINY), b.fit(TINY)
    assert {"Is the target constant?"} <= set(check(ask(a), seen, limit=12).failed)
    failed = " ".join(check(ask(b), seen, limit=12).failed)
    assert "training set" in failed and "kept out" in failed


def test_a_checklist_shows_itself_safely(held):
    found = check(Swindler(targets=lambda ws: ["<script>alert(1)</script>"] * len(ws)), held)
    shown = found._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "FAIL" in shown and "FAIL" in repr(found)
    assert list(found.table.columns) == ["verdict", "number", "finding"]
    with pytest.raises(KeyError, match="is in 0 questions"):
        found["colour"]


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


def test_a_run_of_ours_can_be_asked_everything(tiny_runs, tiny_data, stub_encoders, monkeypatch):
    for kind, stub in stub_encoders.items():
        monkeypatch.setattr(f"storylib.prediction.load_{kind}_encoder", lambda name, device="cpu", stub=stub: stub)
    found = check(ask(tiny_runs[1.0, 0]), windows(tiny_data.splits.test), trained_on=tiny_data.splits.train)
    assert all(found[word].passed for word in ("constant", "free running", "shifted", "kept out", "training set"))
    assert 0 < found["shifted"].number <= 1 and found["shuffled"].passed is not None
