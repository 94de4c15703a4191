"""The figure of the audit: both ladders, from the protocol as published to the fully repaired one, with baselines."""

from __future__ import annotations

import textwrap
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
    figure, (axes,) = subplots(1, 2, (9.8, 4.8))
    for axis, system in zip(axes, SCORES, strict=True):
        _ladder(axis, record["ladders"][system], system)
    source, stories = record["source"].replace("_", " ").title(), record["stories"]
    parts = []
    for system, (metric, title, _) in ((system, scores[0]) for system, scores in SCORES.items()):
        found = headline(record, system, metric)
        parts.append(f"System {system.upper()}, {title}: {found['published']:.2f} to {found['repaired']:.3f}")
    alt = f"Two ladders of protocols on {source}, from as published to repaired. {'; '.join(parts)}."
    caption = f"Our re-implementations of Systems A and B on {source} ({stories['train']} training stories, "
    caption += f"{stories['test']} held out; {len(record['settings']['seeds'])} seeds; encoders "
    caption += f"{' and '.join(record['encoders'])}). Each row repairs one more flaw; System B's last one "
    caption += "switches the contrastive loss off. Scores from 0 to 1. "
    caption += "Triangles: claimed scores. Hollow: baselines, or the same model with the context of another story."
    return describe(figure, alt, caption)


def _ladder(axis: Axes, steps: list[dict[str, Any]], system: str) -> None:
    rows = range(len(steps))
    for score, name, marker in BASELINES[system]:
        values = [step["mean"][score] for step in steps]
        axis.scatter(values, rows, marker=marker, s=150, facecolors="none", edgecolors=INK, label=name, zorder=2)
    for score, name, colour in SCORES[system]:
        values = [step["mean"][score] for step in steps]
        axis.plot(values, rows, color=colour, marker="o", linewidth=2.5, markersize=7, label=name, zorder=3)
        axis.scatter([CLAIMED[system][score]], [-0.8], marker="v", color=colour, s=60, zorder=3, clip_on=False)
        for row in (rows[0], rows[-1]):
            highest = max(steps[row]["mean"][other] for other, *_ in SCORES[system])
            place = (17 if values[row] == highest else -17, 11 if row == 0 else -19)
            axis.annotate(f"{values[row]:.2f}", (values[row], row), place, textcoords="offset points", ha="center",
                          fontsize=10, weight="bold")  # fmt: skip
    axis.scatter([], [], marker="v", color=INK, label="as claimed")
    axis.set_yticks(rows, [textwrap.fill(step["label"], 22) for step in steps], fontsize=9)
    axis.set(ylim=(len(steps) - 0.2, -1.0), xlim=(min(-0.06, axis.get_xlim()[0]), 1.08))
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"], fontsize=9)
    claims = ", ".join(f"{name} {CLAIMED[system][score]:.2f}" for score, name, _ in SCORES[system])
    axis.set_title(f"System {system.upper()}, claimed:\n{claims}", loc="left", fontsize=11)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.legend(loc="upper center", bbox_to_anchor=(0.3, -0.08), ncol=2, fontsize=9, markerscale=0.7)
