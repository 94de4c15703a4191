"""The figure that travels: both ladders, from the number as claimed to the honest one, beside their floors."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from storylib.audit.record import answer
from storylib.plots import INK, OFF, ON, style, tell

# Per system: the title, the lines (score, name, colour), and the floors (score, name, marker).
SHOWN: dict[str, Any] = {
    "a": (
        "System A: “top-1 {top1:.2f}, cosine {cosine:.2f}”",
        [("top1", "top-1", ON), ("cosine", "picture cosine", OFF)],
        [
            ("top1_majority", "top-1, always the commonest token", "s"),
            ("cosine_copy_last", "cosine, last picture again", "d"),
        ],
    ),
    "b": (
        "System B: “BLEU {bleu:.2f}, ROUGE-L {rouge_l:.2f}”",
        [("bleu", "BLEU", ON), ("rouge_l", "ROUGE-L", OFF)],
        [
            ("bleu_shuffled", "BLEU, story swapped for another", "o"),
            ("rouge_l_copy_last", "ROUGE-L, last text again", "d"),
        ],
    ),
}


def slopes(record: dict[str, Any]) -> Figure:
    """Slope charts of both ladders: the first row is the protocol as published, each row below repairs one thing."""
    from storylib.audit.system_a import CLAIMED as CLAIMED_A
    from storylib.audit.system_b import CLAIMED as CLAIMED_B

    style()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2))
    for axis, system, claimed in zip(axes, ("a", "b"), (CLAIMED_A, CLAIMED_B), strict=True):
        _ladder(axis, record["ladders"][system], system, claimed)
    where, stories = record["source"].replace("_", " ").title(), record["stories"]
    seeds = len(record["settings"]["seeds"])
    figure.suptitle("What two published scores become as their protocols are repaired, one change at a time",
                    color=INK, fontsize=14)  # fmt: skip
    figure.supxlabel(
        f"Score, 0 to 1. Bottom row: the honest protocol. {where}, {stories['train']} stories to train, "
        f"{stories['test']} held out, mean of {seeds} {'seed' if seeds == 1 else 'seeds'}. "
        "Hollow: what needs no learning, or no story.",
        color=INK, fontsize=9,
    )  # fmt: skip
    alt = f"Two ladders of protocols on {where}, from the numbers as claimed to the honest ones. {answer(record)}"
    caption = (
        f"What becomes of the claims on {where}: each row mends one thing and keeps the rows above. Triangles: as "
        "claimed. Hollow: what needs no learning, or keeps its value without the story."
    )
    return tell(figure, alt, caption)


def _ladder(axis: Axes, rungs: list[dict[str, Any]], system: str, claimed: dict[str, float]) -> None:
    title, lines, floors = SHOWN[system]
    rows = range(len(rungs))
    for score, name, marker in floors:
        values = [r["mean"][score] for r in rungs]
        axis.scatter(values, rows, marker=marker, s=170, facecolors="none", edgecolors=INK, label=name, zorder=2)
    for score, name, colour in lines:
        values = [r["mean"][score] for r in rungs]
        axis.plot(values, rows, color=colour, marker="o", linewidth=2.5, markersize=7, label=name, zorder=3)
        axis.scatter([claimed[score]], [-0.8], marker="v", color=colour, s=60, zorder=3, clip_on=False)
        for row in (0, len(rungs) - 1):
            ends = [rungs[row]["mean"][name] for name, *_ in lines]
            side = 0 if abs(ends[0] - ends[1]) > 0.12 else 16 if values[row] == max(ends) else -16  # no overlap
            axis.annotate(f"{values[row]:.2f}", (values[row], row), (side, 11 if row == 0 else -18), ha="center",
                          textcoords="offset points", color=colour, fontsize=10, weight="bold")  # fmt: skip
    axis.scatter([], [], marker="v", color=INK, label="as claimed")
    axis.set_yticks(rows, [r["label"] for r in rungs], fontsize=10)
    axis.set(ylim=(len(rungs) - 0.4, -1.0), xlim=(min(-0.06, axis.get_xlim()[0]), 1.08))
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axis.set_title(title.format(**claimed), color=INK, loc="left", fontsize=12)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.axvline(0, color=INK, linewidth=0.8)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.35, -0.07),
        ncol=3,
        fontsize=9,
        labelcolor=INK,
        markerscale=0.7,
        columnspacing=1,
    )
