"""The figure of the audit shows both ladders of a record."""

from __future__ import annotations

from storylib.experiments.studies import AUDIT
from storylib.report.figures_audit import ladders
from storylib.report.style import save


def test_the_published_record_is_drawn_with_its_first_and_last_scores(tmp_path):
    record = AUDIT.load("storyworld", "quick")
    save(ladders(record), "audit", tmp_path)
    svg = (tmp_path / "audit.svg").read_text()
    for system, score in (("a", "top1"), ("b", "bleu")):
        steps = record["ladders"][system]
        assert f"{steps[0]['mean'][score]:.2f}" in svg and f"{steps[-1]['mean'][score]:.2f}" in svg
    assert 'aria-label="Two ladders of protocols on Storyworld' in svg
    labels = [" ".join(text.get_text().split()) for text in ladders(record).axes[0].get_yticklabels()]
    assert labels == [step["label"] for step in record["ladders"]["a"]]
