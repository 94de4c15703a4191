"""Figures of training and evaluation, drawn from records and per-window scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from storylib.experiments.comparison import Comparison
from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS, MODEL, ORACLE
from storylib.report.style import BASELINE_COLOUR, INK, MODEL_COLOUR, OFF, ON, TRUTH, describe, panels, subplots

VERDICT_COLOURS = {"better": TRUTH, "worse": "#D55E00", "no difference": BASELINE_COLOUR}


def training_curves(run: Run) -> Figure:
    """Every loss that was on, on training and validation windows, with the epoch that was kept."""
    history, best = run.history, run.record["best_epoch"]
    names = [column.removeprefix("train_") for column in map(str, history) if column.startswith("train_")]
    figure, axes = panels(len(names), len(names), (2.2, 2.5))
    for axis, name in zip(axes, names, strict=True):
        for part, colour in (("train", BASELINE_COLOUR), ("validation", MODEL_COLOUR)):
            axis.plot(history["epoch"], history[f"{part}_{name}"], "o-", color=colour, markersize=5, label=part)
        axis.axvline(best, color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(name.replace("_", " "))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=9)
    caption = "Each loss on training (grey) and validation windows (blue). Dotted: the epoch that was kept."
    return describe(figure, f"A curve for each of {', '.join(names)}, by epoch; epoch {best} was kept.", caption)


def _interval(axis: Axes, y: float, value: float, ends: Sequence[float], colour: str) -> None:
    """A value and its interval on a line of their own."""
    axis.plot(ends, [y, y], color=colour, linewidth=2)
    axis.scatter(value, y, color=colour, zorder=3)


def beside_baselines(metrics: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """The model with its interval above every baseline by name; the oracle is hollow."""
    figure, axes = panels(len(names), 3, (3.2, 2.4))
    for axis, name in zip(axes, names, strict=True):
        baselines = sorted(metrics[name]["baselines"].items(), key=lambda item: item[1])
        _interval(axis, len(baselines), metrics[name]["value"], metrics[name]["interval"], MODEL_COLOUR)
        for y, (baseline, level) in enumerate(baselines):
            axis.scatter(level, y, color=BASELINE_COLOUR, facecolor="none" if baseline == ORACLE else BASELINE_COLOUR)
        labels = [*(baseline for baseline, _ in baselines), "model"]
        axis.set_yticks(range(len(labels)), labels, fontsize=8)
        axis.set_title(textwrap.fill(METRICS[name].title, 28), fontsize=10)
        axis.margins(x=0.1)
    alt = "; ".join(f"{METRICS[name].title}: model {metrics[name]['value']:.3g}" for name in names)
    caption = "The model (blue, with its 95 % interval) and the baselines (grey). Hollow: an oracle."
    return describe(figure, alt, caption)


def ablation(comparison: Comparison) -> Figure:
    """Paired differences of two arms with their intervals, as effect sizes so that all metrics share one axis.

    An effect of 1 is one standard deviation of the stories' differences. To the right is better for every metric.
    """
    table = comparison.frame.replace([np.inf, -np.inf], np.nan).dropna(subset=["effect", "effect_low", "effect_high"])
    groups = table["group"].ne(table["group"].shift()).cumsum().to_numpy() - 1
    places = -(np.arange(len(table)) + groups)  # an empty line between groups
    figure, ((axis,),) = subplots(1, 1, (8, 0.24 * (len(table) + groups[-1]) + 1))
    axis.axvline(0, color=INK, linewidth=0.8)
    for y, row in zip(places, table.to_dict("records"), strict=True):
        metric, colour = METRICS[row["metric"]], VERDICT_COLOURS[row["verdict"]]
        gain = metric.merit(row["a"]) - metric.merit(row["b"])
        sign = 1 if gain * row["difference"] >= 0 else -1
        _interval(axis, y, sign * row["effect"], [sign * row["effect_low"], sign * row["effect_high"]], colour)
        values = f"{row['b']:.{metric.digits}f} → {row['a']:.{metric.digits}f}"
        axis.annotate(values, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour)
    axis.set_xscale("symlog", linthresh=1)
    axis.set(yticks=places, yticklabels=table["title"], ylim=(places.min() - 0.8, 0.8))
    low, high = axis.get_xlim()
    ticks = [tick for tick in (-10, -3, -1, -0.5, 0, 0.5, 1, 3, 10) if low <= tick <= high]
    axis.set_xticks(ticks, [f"{tick:+g}" if tick else "0" for tick in ticks])
    axis.minorticks_off()
    a, b = comparison.factor.labels
    axis.set_xlabel(f"{a} minus {b},\nin standard deviations between stories; right: better")
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines["left"].set_visible(False)
    verdicts = "; ".join(f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items())
    alt = f"{len(table)} metrics, each with its change and 95 percent interval: {verdicts}."
    caption = f"Each metric {a} minus {b}. Green: better; red: worse; grey: no difference. Right: both values."
    return describe(figure, alt, caption)


def sweeps(rows: pd.DataFrame, metric: str, factor: Factor, columns: int = 4) -> Figure:
    """Small multiples: a metric along each swept field, in both arms of a factor, with chance and the best baselines.

    rows: as by ``storylib.experiments.sweeps.sweep_frame``.
    """
    chosen = rows[rows["metric"] == metric]
    tables = {str(field): table for field, table in chosen.groupby("sweep", sort=False)}
    figure, axes = panels(len(tables), columns, (2.4, 2.4), sharey=True)
    for axis, (field, table) in zip(axes, tables.items(), strict=True):
        values, x = table["value"].tolist(), np.arange(len(table))
        levels = {"chance": table["chance"].astype(float)}
        levels |= {name: table["baseline_value"].where(table["baseline"] == name) for name in table["baseline"]}
        for baseline, level in levels.items():
            axis.plot(x, level, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
            if axis is axes[0] and level.notna().any():
                axis.annotate(baseline, (0, level.iloc[0]), (0, 2), textcoords="offset points", fontsize=7, color=INK)
        for arm, colour, label, shift in (("off", OFF, factor.words[1], -0.06), ("on", ON, factor.words[0], 0.06)):
            bars = [table[arm] - table[f"{arm}_low"], table[f"{arm}_high"] - table[arm]]
            axis.errorbar(x + shift, table[arm], bars, fmt="o-", color=colour, markersize=4, linewidth=1, label=label)
        axis.set_title(field.replace("_", " "), fontsize=10)
        axis.set_xticks(x, values, fontsize=7, rotation=30 if len(values) > 3 else 0)
    for axis in axes[::columns]:
        axis.set_ylabel(textwrap.fill(METRICS[metric].title, 24), fontsize=9)
    axes[0].legend(fontsize=7)
    fields = ", ".join(field.replace("_", " ") for field in tables)
    on, off = factor.labels
    caption = f"One setting changed at a time, {on} (blue) and {off} (orange); dotted lines are baselines."
    return describe(figure, f"{METRICS[metric].title} by {fields}", caption)


def rank_histograms(runs: Sequence[Run]) -> Figure:
    """The rank of the true frame among all frames and in-story, beside a baseline and chance."""
    table = pooled_rows(runs)
    kinds = {"frame": "next frame, among all frames", "frame_in_story": "next frame, in-story"}
    figure, axes = panels(len(kinds), len(kinds), (4.5, 2.8))
    for axis, (kind, title) in zip(axes, kinds.items(), strict=True):
        candidates = table.loc[table["predictor"] == MODEL, f"{kind}_candidates"].dropna().to_numpy()
        most = candidates.max()
        bins = np.geomspace(1, most + 1, 16) if kind == "frame" else np.arange(1, most + 2)
        for predictor, colour in (("recency", BASELINE_COLOUR), (MODEL, MODEL_COLOUR)):
            counts, _ = np.histogram(table.loc[table["predictor"] == predictor, f"{kind}_rank"].dropna(), bins)
            axis.stairs(100 * counts / counts.sum(), bins, color=colour, linewidth=1.6, label=predictor)
        below = np.clip((bins[:, None] - 1) / candidates, 0, 1).mean(1)  # share of uniform ranks below each edge
        axis.stairs(100 * np.diff(below), bins, color=INK, linestyle=":", label="chance")
        axis.set(title=title, xlabel="rank of the true frame", ylabel="% of windows")
    axes[0].set_xscale("log")
    axes[0].set_xticks([1, 10, 100], ["1", "10", "100"])
    axes[0].minorticks_off()
    axes[0].legend(fontsize=9)
    alt = "Histograms of the rank of the true frame, among all frames and in-story: model, recency baseline, chance."
    caption = "The rank of the true frame. Mass to the left of the dotted line is better than chance."
    return describe(figure, alt, caption)
