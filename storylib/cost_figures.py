"""Figures of what things cost, drawn from the records of ``benchmarks``; see ``storylib.costs``."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from storylib.costs import STEPS, by_frames, growth
from storylib.plots import FLOOR_COLOUR, INK, MODEL_COLOUR, MORE, OFF, TRUTH, style, tell


def plain(value: float, _: float = 0) -> str:
    """A number beside a mark of an axis."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def window(record: dict[str, Any]) -> Figure:
    """Milliseconds a window, of system B's loop as written and of ours, on one logarithmic axis."""
    style()
    figure, axis = plt.subplots(figsize=(7, 1.7))
    names = ["system B", "ours"]
    medians = [record["median"][name] for name in names]
    bars = axis.barh(names, medians, color=[FLOOR_COLOUR, MODEL_COLOUR], height=0.6)
    for name, y in zip(names, range(len(names)), strict=True):
        axis.plot(record["milliseconds_a_window"][name], [y] * len(record["milliseconds_a_window"][name]), "|",
                  color=INK, markersize=8)  # fmt: skip
    axis.bar_label(bars, fmt="%.1f ms", padding=6, color=INK)
    axis.set(xscale="log", xlabel="milliseconds a window, logarithmic", xlim=(1, max(medians) * 4))
    axis.xaxis.set_major_formatter(plain)
    axis.minorticks_off()
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    return tell(
        figure,
        f"Two bars: system B {medians[0]:.0f} milliseconds a window, ours {medians[1]:.1f}.",
        "What a training window costs, both loops taking turns in one process; each tick is a round.",
    )


def profile(record: dict[str, Any]) -> Figure:
    """Where the time of a training step goes."""
    style()
    shares = pd.Series(record["shares"]).sort_values(ascending=False)
    figure, axis = plt.subplots(figsize=(7, 0.32 * len(shares) + 0.7))
    sns.barplot(x=shares, y=shares.index, ax=axis, color=MODEL_COLOUR)
    axis.bar_label(axis.containers[0], fmt="%.1f %%", padding=4, color=INK, fontsize=9)  # type: ignore[arg-type]
    axis.set(xlabel="% of a step, forward and backward", ylabel="", xlim=(0, 1.15 * shares.max()))
    axis.tick_params(axis="y", length=0, labelsize=9)
    return tell(
        figure,
        "Bars: " + "; ".join(f"{name} {share:.0f} percent" for name, share in shares.items()),
        "Where the time of a training step goes; a backward pass counts with the part whose forward pass made it.",
    )


def frames(record: dict[str, Any]) -> Figure:
    """Cost a frame, each step beside what it was with the fewest frames; and memory, against the number of frames."""
    style()
    table = by_frames(record)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), gridspec_kw={"width_ratios": [3, 2]})
    for step, colour in zip(STEPS, (*MORE[:4], MODEL_COLOUR, OFF), strict=True):
        part = table[table["step"] == step]
        left.plot(part["frames"], part["milliseconds"], "o-", color=colour, markersize=4, label=STEPS[step])
    left.set(xscale="log", yscale="log", xlabel="frames", ylabel="milliseconds a frame")
    left.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    peak = table.groupby("frames")["memory"].max()
    right.plot(peak.index, peak / 1024, "o-", color=MODEL_COLOUR, markersize=4)
    right.axhline(2, color=INK, linewidth=0.8, linestyle=":")
    right.set(xlabel="frames", ylabel="peak memory, GB", ylim=(0, None))
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter(plain)
    left.minorticks_off()
    right.set_xticks(range(0, int(peak.index[-1]) + 1, 20_000))
    steps = "; ".join(f"{STEPS[s.step]} {s.least:.2g} to {s.most:.2g} milliseconds a frame" for s in growth(record))
    return tell(
        figure,
        f"From {peak.index[0]:,} to {peak.index[-1]:,} frames: {steps}; peak memory {peak.iloc[-1]:,.0f} megabytes.",
        "Where a line on the left is level, a frame costs the same however many there are. On the "
        "right the peak of memory; dotted, 2 GB.",
    )


def batch(record: dict[str, Any]) -> Figure:
    """Milliseconds a window and peak memory by the size of the batch."""
    style()
    sizes = pd.DataFrame(record["sizes"])
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.6))
    for axis, column, unit, colour in zip(
        axes, ("milliseconds_a_window", "peak_memory_mb"), ("milliseconds a window", "peak memory, MB"),
        (MODEL_COLOUR, TRUTH), strict=True,
    ):  # fmt: skip
        axis.plot(sizes["batch"], sizes[column], "o-", color=colour, markersize=5)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes["batch"], [f"{b:g}" for b in sizes["batch"]])
        axis.set(xlabel="windows in a batch", ylabel=unit, ylim=(0, 1.1 * sizes[column].max()))
        axis.minorticks_off()
    return tell(
        figure,
        "; ".join(f"batches of {s.batch}: {s.milliseconds_a_window:.1f} ms a window, {s.peak_memory_mb:,} megabytes"
                  for s in sizes.itertuples()),
        "What a window costs, and the most memory that was held, by the size of the batch.",
    )  # fmt: skip
