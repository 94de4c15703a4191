"""Sentences of the findings: chosen by the verdicts of a record, and never more than the record says."""

from __future__ import annotations

from storylib.findings import Records, loss_in_words, presets_in_words
from storylib.runs import origin

ENTRY = {
    "off": {"value": 2.6, "interval": [2, 3]}, "on": {"value": 9.4, "interval": [7, 12]}, "difference": 6.8, "low": 4.0,
    "high": 9.7, "detectable": 3.0, "verdict": "better", "floors": {"chance": 2.3, "linear map": 9.9},
}  # fmt: skip


def told(**changes):
    entry = {"image_to_text_recall@10": ENTRY | changes}
    return loss_in_words({"points": [{"sweep": "weight", "value": "1", "metrics": entry}]}, "image_to_text_recall@10")


def test_a_sentence_holds_both_arms_the_interval_the_verdict_and_the_floor():
    said = told()
    assert "2.6 without the loss and 9.4 with it: +6.8 (95 % interval +4.0 to +9.7), that is a gain." in said
    assert said.endswith("*linear map* reaches 9.9.")
    assert "no difference can be told" in told(verdict="no difference") and "a loss" in told(verdict="worse")


def test_arms_that_are_the_same_are_called_the_same():
    assert "in every story alike" in told(difference=0, low=0, high=0, detectable=0)


def test_what_was_not_measured_is_said():
    assert loss_in_words({"points": []}, "page_mrr").endswith("not measured.")


def test_presets_are_counted_by_verdict():
    verdicts = {"page_mrr": "no difference", "image_l1": "better", "cross_entropy": "better", "chrf": "worse"}
    preset = {"metrics": {name: {"verdict": verdict} for name, verdict in verdicts.items()}}
    said = presets_in_words({"presets": {"storyteller": preset}}, [*verdicts, "meteor"])["storyteller"]
    assert said.startswith("Of 4 metrics it is above its floors in 2 (") and "below them in 1 (*chrF*)" in said
    assert "not told from them in 1" in said


def test_the_mark_tells_a_record_from_what_was_executed():
    record = {"source": "storyworld", "profile": "full", "seeds": [0, 1], "commit": "0123456789"}
    assert origin().startswith("●")
    assert origin(record) == "○ *Published record, not executed here: storyworld, full, 2 seeds, commit `01234567`.*"


def test_records_that_there_are_not_are_named_with_the_way_to_make_them():
    def load(source, profile):
        return {"source": source, "profile": profile, "commit": "0123456789"}

    records = Records.of(["folder"], "full", audit=load)
    assert set(records.found) == {("audit", "folder")} and records.losses(["page_mrr"]) == records.presets([]) == ""
    assert "python -m storylib.sweeps --source folder --profile full" in records.origins()
    assert "audit: ○" in records.origins()


def test_settings_are_counted_for_each_source():
    def record(verdict):
        entry = {"image_to_text_recall@10": ENTRY | {"verdict": verdict}}
        return {"points": [{"sweep": "weight", "value": value, "metrics": entry} for value in ("1", "2")]}

    records = Records({("sweeps", "real_ones"): record("no difference"), ("sweeps", "drawn"): record("better")})
    real, drawn = records.settings("image_to_text_recall@10").splitlines()
    assert "of 2 settings the loss makes 0 better" in real and real.endswith("*(real ones)*")
    assert "of 2 settings the loss makes 2 better" in drawn and drawn.endswith("*(drawn)*")
