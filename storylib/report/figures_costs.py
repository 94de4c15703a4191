"""Figures of what things cost, drawn from the records of ``benchmarks``; see ``storylib.report.costs``."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from storylib.report.costs import STEPS, by_frames
from storylib.report.style import BASELINE_COLOUR, INK, MODEL_COLOUR, MORE, OFF, describe, subplots


def plain_number(value: float, _: float = 0) -> str:
    """The label of a tick."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def window(record: dict[str, Any]) -> Figure:
    """Milliseconds per training window of system B's loop as written and of storylib's, on a logarithmic axis."""
    figure, ((axis,),) = subplots(1, 1, (7, 1.7))
    medians = [record["median"][loop] for loop in ("system B", "ours")]
    bars = axis.barh(["system B", "storylib"], medians, color=[BASELINE_COLOUR, MODEL_COLOUR], height=0.6)
    for y, loop in enumerate(("system B", "ours")):
        rounds = record["milliseconds_per_window"][loop]
        axis.plot(rounds, [y] * len(rounds), "|", color=INK, markersize=8)
    axis.bar_label(bars, fmt="%.1f ms", padding=6, color=INK)
    axis.set(xscale="log", xlabel="milliseconds per window (log scale)", xlim=(1, max(medians) * 4))
    axis.xaxis.set_major_formatter(plain_number)
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    alt = f"Two bars: system B {medians[0]:.0f} milliseconds per window, storylib {medians[1]:.1f}."
    caption = "The cost of a training window, both loops taking turns in one process; each tick is a round."
    return describe(figure, alt, caption)


def frames(record: dict[str, Any]) -> Figure:
    """The cost per frame of each step and the peak memory, by the number of frames."""
    table = by_frames(record)
    figure, ((left, right),) = subplots(1, 2, (9, 3.2), gridspec_kw={"width_ratios": [3, 2]})
    for step, colour in zip(STEPS.values(), (*MORE[:4], MODEL_COLOUR, OFF), strict=True):
        left.plot(table[step], "o-", color=colour, markersize=4, label=step)
    left.set(xscale="log", yscale="log", xlabel="frames", ylabel="milliseconds per frame")
    left.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    peak = table["peak memory, GB"]
    right.plot(peak, "o-", color=MODEL_COLOUR, markersize=4)
    right.axhline(2, color=INK, linewidth=0.8, linestyle=":")
    right.set(xlabel="frames", ylabel="peak memory, GB", ylim=(0, None))
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter(plain_number)
    left.minorticks_off()
    right.set_xticks(range(0, int(peak.index[-1]) + 1, 20_000))
    alt = f"Cost per frame of each step from {peak.index[0]:,} to {peak.index[-1]:,} frames; "
    alt += f"peak memory {peak.iloc[-1]:.1f} GB with the most."
    caption = "A level line on the left: the cost per frame does not depend on their number. Dotted on the right: 2 GB."
    return describe(figure, alt, caption)
