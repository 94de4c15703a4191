"""The figure of the audit: both ladders, from the protocol as published to the fully repaired one, with baselines."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from storylib.audit.protocols import CLAIMED
from storylib.audit.record import headline
from storylib.report.style import INK, OFF, ON, describe, subplots

SCORES = {
    "a": [("top1", "top-1", ON), ("cosine", "picture cosine", OFF)],
    "b": [("bleu", "BLEU", ON), ("rouge_l", "ROUGE-L", OFF)],
}
BASELINES = {
    "a": [("top1_majority", "top-1, majority token", "s"), ("cosine_copy_last", "cosine, copy-last", "d")],
    "b": [("bleu_shuffled", "BLEU, context of another story", "o"), ("rouge_l_copy_last", "ROUGE-L, copy-last", "d")],
}


def ladders(record: dict[str, Any]) -> Figure:
    """Slope charts of both ladders: the first row is the protocol as published, each row below repairs one flaw."""
    figure, (axes,) = subplots(1, 2, (12, 5.2))
    for axis, system in zip(axes, ("a", "b"), strict=True):
        _ladder(axis, record["ladders"][system], system)
    source, stories = record["source"].replace("_", " ").title(), record["stories"]
    figure.suptitle("Two published protocols, re-implemented and repaired one flaw at a time", color=INK, fontsize=14)
    note = f"Score, 0 to 1. Bottom row: the protocol repaired. Hollow: baselines. {source}, {stories['train']} "
    note += f"training stories, {stories['test']} held out; seeds: {len(record['settings']['seeds'])}."
    figure.supxlabel(note, color=INK, fontsize=9)
    alt = f"Two ladders of protocols on {source}."
    for system, metric, title in (("a", "top1", "System A, top-1"), ("b", "bleu", "System B, BLEU")):
        scores = headline(record, system, metric)
        alt += f" {title}: {scores['published']:.2f} as published, {scores['repaired']:.3f} repaired."
    caption = f"Two published protocols, re-implemented on {source}: each row repairs one flaw and keeps those above."
    return describe(figure, alt, caption)


def _ladder(axis: Axes, steps: list[dict[str, Any]], system: str) -> None:
    rows = range(len(steps))
    for score, name, marker in BASELINES[system]:
        values = [step["mean"][score] for step in steps]
        axis.scatter(values, rows, marker=marker, s=170, facecolors="none", edgecolors=INK, label=name, zorder=2)
    for score, name, colour in SCORES[system]:
        values = [step["mean"][score] for step in steps]
        axis.plot(values, rows, color=colour, marker="o", linewidth=2.5, markersize=7, label=name, zorder=3)
        axis.scatter([CLAIMED[system][score]], [-0.8], marker="v", color=colour, s=60, zorder=3, clip_on=False)
        for row in (rows[0], rows[-1]):
            highest = max(steps[row]["mean"][other] for other, *_ in SCORES[system])
            place = (16 if values[row] == highest else -16, 11 if row == 0 else -18)
            axis.annotate(f"{values[row]:.2f}", (values[row], row), place, textcoords="offset points", ha="center",
                          color=colour, fontsize=10, weight="bold")  # fmt: skip
    axis.scatter([], [], marker="v", color=INK, label="as claimed")
    axis.set_yticks(rows, [step["label"] for step in steps], fontsize=10)
    axis.set(ylim=(len(steps) - 0.4, -1.0), xlim=(min(-0.06, axis.get_xlim()[0]), 1.08))
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    claims = ", ".join(f"{name} {CLAIMED[system][score]:.2f}" for score, name, _ in SCORES[system])
    axis.set_title(f"System {system.upper()}: “{claims}”", color=INK, loc="left", fontsize=12)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.axvline(0, color=INK, linewidth=0.8)
    style = {"fontsize": 9, "labelcolor": INK, "markerscale": 0.7, "columnspacing": 1}
    axis.legend(loc="upper center", bbox_to_anchor=(0.35, -0.07), ncol=3, **style)
