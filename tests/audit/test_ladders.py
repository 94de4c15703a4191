"""The ladders turn one switch per step and repair what they name; their record is complete and kept step by step."""

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

from storylib.audit import ladders
from storylib.audit.checks import check
from storylib.audit.data import AuditData, with_markup
from storylib.audit.protocols import LADDER_A, LADDER_B, SCORING_ONLY, AuditSettings
from storylib.audit.record import claims, headline
from storylib.audit.system_a import SystemA
from storylib.audit.system_b import SystemB, alignment_loss
from storylib.config import ConfigError
from storylib.data.types import windows
from storylib.data.windows import other_story

TINY = AuditSettings(seeds=(0,), stories=4, epochs_a=1, epochs_b=1)


@pytest.fixture(scope="module")
def data(tiny_data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_stub_encoders(patch)
        patch.setenv("STORYLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        data = AuditData(tiny_data, "stub", "stub", TINY)
        for form in data.text_forms:
            data.texts(form)
        yield data


@pytest.fixture(scope="module")
def record(data, tmp_path_factory):
    """The whole record on the tiny stories; its steps stay in a folder of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORYLIB_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield ladders.run_on(data) | {"source": "tiny_world", "profile": "test"}


def test_the_data_hold_only_the_stories_used_and_find_their_frames(data, tiny_data):
    frames = [f for s in (*tiny_data.splits.train[:4], *tiny_data.splits.test) for f in s.frames]
    assert len(frames) < sum(len(s.frames) for s in tiny_data.stories)
    assert {len(part) for form in data.text_forms for part in data.texts(form)} == {len(frames)}
    window = list(windows(data.held))[-1]
    expected = [*window.context, window.target]
    (row,) = data.frames_of([window]).tolist()
    assert [data.texts("frame")[0][frame] for frame in row] == [f.text for f in expected]
    features = tiny_data.features
    rows = [features.keys.index((window.story.id, f.number)) for f in expected]
    np.testing.assert_array_equal(data.image[row], features.image_vectors[features.image_of[rows]])


# The ladders


@pytest.mark.parametrize("steps", [LADDER_A, LADDER_B], ids=["a", "b"])
def test_each_step_turns_exactly_its_switch_and_the_ladder_turns_all(steps):
    for before, after in pairwise(steps):
        old, new = dataclasses.asdict(before.protocol), dataclasses.asdict(after.protocol)
        assert [name for name in old if old[name] != new[name]] == [after.change]
    assert steps[0].protocol == type(steps[0].protocol)() and steps[0].change == ""
    assert {step.change for step in steps[1:]} == {f.name for f in dataclasses.fields(steps[0].protocol)}


def test_a_switch_of_the_scoring_needs_no_new_training():
    assert [step.change in SCORING_ONLY for step in LADDER_B] == [False, False, False, False, True, True, False]


def test_no_system_is_trained_twice(data, monkeypatch, tmp_path):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(ladders, "SYSTEMS", {"b": (SystemB, LADDER_B[2:6])})
    monkeypatch.setattr(SystemB, "fit", lambda self, fit=SystemB.fit: fitted.append(self.protocol) or fit(self))
    fitted = []
    ladders.trained.cache_clear()
    ladders.run_on(data)
    systems = [ladders.trained("b", data, LADDER_B[i].protocol, 0) for i in (2, 3)]
    assert fitted == [system.protocol for system in systems] == [LADDER_B[i].protocol for i in (2, 3)]
    ladders.trained("b", data, LADDER_B[2].protocol, 1)
    assert len(fitted) == 3


def test_an_unknown_profile_is_named():
    with pytest.raises(ConfigError, match="Did you mean 'quick'"):
        AuditSettings.from_profile("quik")


# System A


def test_one_key_gets_all_the_attention_so_that_pictures_change_nothing(data):
    one, four = (SystemA(data, LADDER_A[i].protocol) for i in (5, 6))
    held = data.held_windows
    one_key, four_keys = (system.model(*system.model_inputs(held))["attention"] for system in (one, four))
    assert (one_key == 1).all() and one.shuffle_pictures(held) == 0
    assert four_keys.shape[-1] == 4 and four.shuffle_pictures(held) > 1e-6


def test_the_published_target_is_a_constant_and_the_repaired_ones_are_the_tokens_of_the_text(data):
    systems = [SystemA(data, LADDER_A[i].protocol) for i in (0, 1, 2)]
    kinds = [len(set(system.token_targets(data.train_windows)[1].tolist())) for system in systems]
    assert kinds[0] == 1 and kinds[0] <= kinds[1] < kinds[2]
    first = data.train_windows[:1]
    text = data.texts("frame")[0][int(first[0, -1])]
    expected = data.pieces.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [data.pieces.ids[i] for i in systems[2].token_targets(first)[1].tolist()] == expected


def test_the_target_is_in_the_published_input_and_not_in_the_repaired_one(data):
    window = next(windows(data.held))
    assert window.target.text in data.text_forms["story"](window.story, 3)
    context = data.text_forms["context"](window.story, 3)
    assert window.target.text not in context and context.count("takes step") == 4
    assert data.text_forms["context"](window.story, 2) == ""  # no window's context ends there


def test_baselines_of_system_a_by_hand(record, data):
    scores = record["ladders"]["a"][4]["seeds"][0]  # all tokens, held out
    texts = [data.pieces.tokenizer(t, add_special_tokens=False)["input_ids"] for t in data.texts("frame")[0]]
    common = Counter(token for w in data.train_windows.tolist() for token in texts[w[-1]])
    assert sum(count == max(common.values()) for count in common.values()) == 1, "a tie would make this test void"
    majority, copied = [], []
    for *_, last, target in data.held_windows.tolist():
        best = max(set(texts[last]), key=lambda token: (texts[last].count(token), common[token]))
        majority += [token == common.most_common(1)[0][0] for token in texts[target]]
        copied += [token == best for token in texts[target]]
    assert scores["top1_majority"] == pytest.approx(np.mean(majority))
    assert scores["top1_copy_last"] == pytest.approx(np.mean(copied), abs=0.08)  # ties within a text


# System B


def test_an_unshifted_decoder_reads_what_it_predicts(data):
    published, shifted = (SystemB(data, LADDER_B[i].protocol) for i in (0, 3))
    tokens = published.tokens[:2]
    inputs, targets = published.inputs_and_targets(tokens)
    assert torch.equal(inputs, targets)
    inputs, targets = shifted.inputs_and_targets(tokens)
    assert torch.equal(inputs[:, 1:], targets[:, :-1])


def test_the_published_text_is_the_same_for_all_frames_with_markup_and_then_without(data):
    systems = [SystemB(data, LADDER_B[i].protocol) for i in (0, 1, 2)]
    decoded = [data.pieces.decode(system.tokens[:6]) for system in systems]
    assert [len(set(texts)) for texts in decoded] == [1, 1, 6]
    assert "gdi" in decoded[0][0] and "gdi" not in decoded[1][0]
    assert with_markup(data.train[0]).count("</gdi>") == len(data.train[0].frames)


def test_free_running_does_not_depend_on_the_true_text(data):
    teacher_forced, free = (SystemB(data, LADDER_B[i].protocol) for i in (3, 4))
    held = data.held_windows
    other = held.clone()
    other[:, -1] = held[other_story(data.story_of[held[:, 0]]), -1]
    assert free.write(held) == free.write(other)
    assert teacher_forced.write(held) != teacher_forced.write(other)


def test_the_alignment_loss_under_a_repeated_text_cannot_go_below_ln_4(data):
    image, text = torch.nn.functional.normalize(torch.randn(2, 8, 64), dim=-1).view(2, 2, 4, 64)
    assert alignment_loss(image, text[:, :1].expand(-1, 4, -1)) >= math.log(4)
    assert alignment_loss(text, text) < 0.1  # each frame its own text
    published, repaired = (SystemB(data, LADDER_B[i].protocol) for i in (0, 6))
    published.loss(data.last_windows[:2])
    repaired.loss(data.last_windows[:2])
    assert published.lowest_contrastive >= math.log(4) and repaired.lowest_contrastive == math.inf


# The record


def test_the_published_protocol_scores_perfectly_and_so_does_its_baseline(record):
    first, last = record["ladders"]["a"][0]["mean"], record["ladders"]["a"][-1]["mean"]
    assert first["top1"] == first["top5"] == first["top1_majority"] == 1 and first["shuffled_pictures_change"] == 0
    assert last["top1"] < 1 and last["shuffled_pictures_change"] > 0
    assert record["ladders"]["b"][0]["mean"]["bleu_copy_last"] == pytest.approx(1)
    assert record["ladders"]["b"][2]["mean"]["bleu_copy_last"] < 1


def test_a_finished_step_is_not_repeated_and_the_same_steps_give_the_same_record(record, data, monkeypatch):
    monkeypatch.setattr(SystemA, "score", lambda self: pytest.fail("repeated"))
    assert ladders.run_on(data)["ladders"] == record["ladders"]


def test_seeds_are_kept_apart_and_averaged(data, monkeypatch, tmp_path):
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path))
    monkeypatch.setattr(ladders, "SYSTEMS", {"b": (SystemB, LADDER_B[:1])})
    ladders.trained.cache_clear()
    monkeypatch.setattr(data, "settings", dataclasses.replace(TINY, seeds=(0, 1)))
    (step,) = ladders.run_on(data)["ladders"]["b"]
    assert [scores["seed"] for scores in step["seeds"]] == [0, 1]
    assert step["seeds"][0]["losses"] != step["seeds"][1]["losses"]
    assert step["mean"]["bleu"] == pytest.approx(np.mean([scores["bleu"] for scores in step["seeds"]]))


def test_a_headline_comes_from_the_record(record):
    scores = headline(record, "a", "top1")
    assert scores["published"] == 1 and scores["repaired"] == record["ladders"]["a"][-1]["mean"]["top1"]


def test_each_claim_stands_beside_what_the_imitation_finds():
    def step(**scores):
        return {"mean": {f"{name}{end}": value for name, value in scores.items() for end in ENDS} | {"cosine": 0.69}}

    ENDS = ("", "_majority", "_constant", "_copy_last", "_shuffled", "_pictures_change")
    a = [step(top1=1.0, top5=1.0, cosine=0.3, shuffled=0.0), step(top1=0.2, top5=0.2, cosine=0.3, shuffled=0.4)]
    b = [step(bleu=0.68, rouge_l=0.68, meteor=0.74), step(bleu=0.1, rouge_l=0.1, meteor=0.1)]
    judged = [{"verdict": verdict} for verdict in ("better", "equivalent", "equivalent", "")]
    found = claims({"ladders": {"a": a, "b": b}}, {"metrics": judged, "seeds": [0, 1]})
    assert found["claimed"].tolist()[:3] == ["1.00", "1.00", "0.78"]  # theirs, never the imitation's
    assert found["reproduced?"].tolist() == [
        *("yes, 1.00", "yes, 1.00", "yes, 0.69", "no"),
        *("higher, 0.68", "yes, 0.68", "yes, 0.74", "better on 1 of 3 endpoints"),
    ]
    assert found.loc["A: top-1"].tolist()[2:] == [
        "1.00 with constant tokens",
        "0.20 when repaired; baseline 0.20",
    ]
    assert found.iloc[-1, 2:].tolist() == ["1 better, 2 equivalent", "both arms, held-out stories, 2 seeds"]
    assert claims({"ladders": {"a": a, "b": b}})["reproduced?"].iloc[-1] == "not measured"


def test_the_record_holds_no_sentence_of_the_stories(record):
    text = json.dumps(record)
    assert not any(frame.text in text for story in tiny_stories() for frame in story.frames)


def test_a_published_record_has_every_step_and_the_seeds_of_its_profile():
    paths = list((Path(__file__).parents[2] / "results" / "audit").glob("*-full.json"))
    for path in paths:
        found = json.loads(path.read_text())
        assert [[step["label"] for step in found["ladders"][name]] for name in "ab"] == [
            [step.label for step in steps] for steps in (LADDER_A, LADDER_B)
        ]
        seeds = AuditSettings.from_profile("full").seeds
        assert all(len(step["seeds"]) == len(seeds) for name in "ab" for step in found["ladders"][name])
        assert found["dirty"] is False
    assert paths


def test_the_published_systems_fail_the_checks_of_their_flaws(data):
    train = list(windows(data.train))
    failed = [check(system(data, steps[0].protocol), train, data.train)["verdict"] == "FAIL"
              for system, steps in ((SystemA, LADDER_A), (SystemB, LADDER_B))]  # fmt: skip
    assert failed[0]["Is the target more than a constant?"] and failed[1]["Is the next frame hidden?"]
    assert failed[1]["Is the target kept out of the input?"] and failed[1]["Are the frames new?"]
