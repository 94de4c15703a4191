"""Figures of training and evaluation, drawn from records and per-window scores."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from storylib.experiments.comparison import Comparison
from storylib.experiments.records import Run, pooled_rows
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS, MODEL, ORACLE
from storylib.report.style import (
    BASELINE_COLOUR,
    INK,
    MODEL_COLOUR,
    OFF,
    ON,
    VERDICT_COLOURS,
    describe,
    panels,
    subplots,
)


def training_curves(run: Run) -> Figure:
    """Every loss that was on, on training and validation windows, with the epoch that was kept."""
    history, best = run.history, run.record["best_epoch"]
    names = [column.removeprefix("train_") for column in map(str, history) if column.startswith("train_")]
    figure, axes = panels(len(names), len(names), (2.2, 2.5))
    for axis, name in zip(axes, names, strict=True):
        for part, colour in (("train", BASELINE_COLOUR), ("validation", MODEL_COLOUR)):
            y = history[f"{part}_{name}"]
            sns.lineplot(x=history["epoch"], y=y, ax=axis, color=colour, marker="o", label=part, legend=False)
        axis.axvline(best, color=INK, linewidth=0.8, linestyle=":")
        axis.set(title=name.replace("_", " "), ylabel="")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, fontsize=9)
    caption = (
        "Each loss on training windows (grey) and validation windows (blue). Where blue rises while grey still falls, "
        "the model overfits; the dotted line marks the epoch that was kept."
    )
    return describe(figure, f"A curve for each of {', '.join(names)}, by epoch; epoch {best} was kept.", caption)


def beside_baselines(metrics: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """The model with its interval, and every baseline as a grey mark with its name; the oracle is hollow."""
    figure, axes = panels(len(names), 3, (3, 3.3))
    for axis, name in zip(axes, names, strict=True):
        value, (low, high) = metrics[name]["value"], metrics[name]["interval"]
        axis.errorbar(0, value, [[value - low], [high - value]], fmt="o", color=MODEL_COLOUR, capsize=4)
        axis.annotate("model", (0, value), (7, 0), textcoords="offset points", color=MODEL_COLOUR, va="center")
        baselines = sorted(metrics[name]["baselines"].items(), key=lambda item: item[1])
        for baseline, level in baselines:
            face = "none" if baseline == ORACLE else BASELINE_COLOUR
            axis.scatter(1, level, color=BASELINE_COLOUR, facecolor=face, zorder=3)
        _spread_labels(axis, 1, baselines)
        axis.set(xlim=(-0.5, 2.9), xticks=[], title=textwrap.fill(METRICS[name].title, 20))
        axis.spines["bottom"].set_visible(False)
    alt = "; ".join(
        f"{METRICS[name].title}: model {metrics[name]['value']:.3g}, best baseline {metrics[name]['best_baseline']}"
        for name in names
    )
    caption = (
        "The model (blue, with its 95 % interval) beside the baselines (grey), which learned nothing from stories. "
        "Hollow: an oracle that knows the target."
    )
    return describe(figure, alt, caption)


def _spread_labels(axis: Axes, x: float, labels: Sequence[tuple[str, float]]) -> None:
    """Names beside marks, pushed apart where marks nearly coincide. labels: sorted by value."""
    low, high = axis.get_ylim()
    step, height = (high - low) * 0.075, -np.inf
    line = {"arrowstyle": "-", "color": BASELINE_COLOUR, "linewidth": 0.5}
    for name, value in labels:
        height = max(value, height + step)
        axis.annotate(name, (x, value), (x + 0.18, height), va="center", fontsize=8, color=INK, arrowprops=line)


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
        axis.plot([sign * row["effect_low"], sign * row["effect_high"]], [y, y], color=colour, linewidth=2)
        axis.scatter(sign * row["effect"], y, color=colour, zorder=3)
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
    caption = (
        f"Each metric {a} minus {b}, with its 95 % interval. Green: better; red: worse; grey: not significant after "
        f"correction. On the right, the value {b} and the value {a}."
    )
    return describe(figure, alt, caption)


def sweeps(rows: pd.DataFrame, metric: str, factor: Factor, columns: int = 4) -> Figure:
    """Small multiples: a metric along each swept field, in both arms of a factor, with chance and the best baselines.

    rows: as by ``storylib.experiments.sweeps.sweep_frame``.
    """
    chosen = rows[rows["metric"] == metric]
    tables = {str(field): table for field, table in chosen.groupby("sweep", sort=False)}
    figure, axes = panels(len(tables), columns, (2.4, 2.4), sharey=True)
    arms = (("off", OFF, factor.words[1], -0.06), ("on", ON, factor.words[0], 0.06))
    for axis, (field, table) in zip(axes, tables.items(), strict=True):
        values, x = table["value"].tolist(), np.arange(len(table))
        levels = {"chance": table["chance"].astype(float)}
        levels |= {name: table["baseline_value"].where(table["baseline"] == name) for name in table["baseline"]}
        for baseline, level in levels.items():
            axis.plot(x, level, color=BASELINE_COLOUR, linestyle=":", linewidth=1)
            if axis is axes[0] and level.notna().any():
                place = (0, level.iloc[0])
                axis.annotate(baseline, place, (0, 2), textcoords="offset points", fontsize=7, color=INK)
        for arm, colour, label, shift in arms:
            bars = [table[arm] - table[f"{arm}_low"], table[f"{arm}_high"] - table[arm]]
            axis.errorbar(x + shift, table[arm], bars, fmt="o-", color=colour, markersize=4, linewidth=1, label=label)
        axis.set_title(field.replace("_", " "), fontsize=10)
        axis.set_xticks(x, values, fontsize=7, rotation=30 if len(values) > 3 else 0)
    for axis in axes[::columns]:
        axis.set_ylabel(textwrap.fill(METRICS[metric].title, 24), fontsize=9)
    axes[0].legend(frameon=False, fontsize=7)
    fields = ", ".join(field.replace("_", " ") for field in tables)
    on, off = factor.labels
    caption = f"One setting changed at a time, {on} (blue) and {off} (orange); dotted lines are baselines."
    return describe(figure, f"{METRICS[metric].title} by {fields}", caption)


def gains(record: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Small multiples: the gain of each preset of a record over the best baseline of a metric; right is better."""
    presets = record["presets"]
    figure, axes = panels(len(names), 4, (2.5, 0.7 + 0.35 * len(presets)), sharey=True)
    descriptions = []
    for axis, name in zip(axes, names, strict=True):
        axis.axvline(0, color=INK, linewidth=0.8)
        for y, (preset, scores) in enumerate(presets.items()):
            entry = scores["metrics"].get(name)
            if entry is None:
                axis.annotate("not predicted", (0, y), (3, 0), textcoords="offset points", fontsize=7, va="center")
                continue
            sign, colour = 1 if METRICS[name].higher_is_better else -1, VERDICT_COLOURS[entry["verdict"]]
            axis.plot([sign * end for end in entry["gain_interval"]], [y, y], color=colour, linewidth=2)
            axis.scatter(sign * entry["gain"], y, color=colour, zorder=3)
            descriptions.append(f"{METRICS[name].title}, {preset} against the best baseline: {entry['verdict']}")
        axis.set_title(textwrap.fill(METRICS[name].title, 26), fontsize=9)
        axis.set(yticks=range(len(presets)), yticklabels=list(presets), ylim=(len(presets) - 0.5, -0.5))
        axis.tick_params(axis="both", length=0, labelsize=8)
    caption = (
        "The gain of each system over the best baseline (the line at zero), with 95 % intervals. Right is better. "
        "Green: better than that baseline; red: worse; grey: no significant difference."
    )
    return describe(figure, "; ".join(descriptions), caption)


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
            rank = table.loc[table["predictor"] == predictor, f"{kind}_rank"].dropna()
            weights = np.full(len(rank), 100 / len(rank))
            axis.hist(
                rank, bins=bins.tolist(), weights=weights, histtype="step", linewidth=1.6, color=colour, label=predictor
            )
        expected = []  # of a uniform rank, per bin
        for low, high in pairwise(bins):
            share = np.clip(np.minimum(high, candidates + 1) - low, 0, None) / candidates
            expected.append(100 * share.mean())
        axis.stairs(expected, bins, color=INK, linestyle=":", label="chance")
        axis.set(title=title, xlabel="rank of the true frame", ylabel="% of windows")
        if kind == "frame":
            axis.set_xscale("log")
            axis.set_xticks([1, 10, 100], ["1", "10", "100"])
            axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=9)
    alt = "Histograms of the rank of the true frame, among all frames and in-story: model, recency baseline, chance."
    return describe(
        figure, alt, "The rank of the true frame. Mass to the left of the dotted line is better than chance."
    )


def similarities(runs: Sequence[Run]) -> Figure:
    """The similarity of a prediction to the target and to a random frame, beside that of the last frame."""
    table = pooled_rows(runs)
    model, last = (table[table["predictor"] == predictor] for predictor in (MODEL, "copy-last"))
    figure, axes = panels(2, 2, (4.5, 2.8), sharex=True, sharey=True)
    for axis, (kind, title) in zip(axes, {"image": "next picture", "text": "next text"}.items(), strict=True):
        curves = {
            "model, to a random frame": (model[f"{kind}_cosine_other"], INK, ":"),
            "last frame, to the target": (last[f"{kind}_cosine"], BASELINE_COLOUR, "-"),
            "model, to the target": (model[f"{kind}_cosine"], MODEL_COLOUR, "-"),
        }
        for label, (values, colour, line) in curves.items():
            sns.kdeplot(x=values.dropna(), ax=axis, color=colour, linestyle=line, label=label, clip=(-1, 1), cut=0)
        axis.set(title=title, xlabel="centred cosine similarity", ylabel="density", yticks=[])
    axes[0].legend(frameon=False, fontsize=8)
    alt = "Densities of centred cosine similarity: model to target, last frame to target, model to a random frame."
    return describe(
        figure, alt, "Similarity of the prediction to the target, beside a random frame and the last frame."
    )


def influence(records: Sequence[Mapping[str, Any]]) -> Figure:
    """How far each prediction moves when one input is swapped; see ``storylib.analysis.influence``."""
    moved = np.mean([record["influence"] for record in records], axis=0)  # (prediction, input, K)
    figure, (axes,) = subplots(1, 3, (9, 2.6), gridspec_kw={"width_ratios": [3, 3, 2.4]})
    frames = [f"frame {i + 1}" for i in range(moved.shape[-1])]
    style = {"annot": True, "fmt": ".2f", "cmap": sns.light_palette(ON, as_cmap=True), "cbar": False}
    style |= {"vmin": 0, "vmax": moved.max(), "annot_kws": {"fontsize": 8}}
    for axis, block, title in zip(axes, moved, ("next picture", "next text"), strict=False):
        sns.heatmap(block, ax=axis, xticklabels=frames, yticklabels=["picture", "text"], **style)
        axis.set(title=f"change of the {title}", ylabel="swapped input")
        axis.tick_params(length=0, labelsize=8)
    for name, colour in (("image", ON), ("text", OFF)):
        mixtures = np.array([record["mixture"][name] for record in records if record["mixture"]])
        if len(mixtures):
            axes[2].plot(range(1, mixtures.shape[1] + 1), mixtures.mean(0), "o-", color=colour, label=f"next {name}")
    axes[2].axhline(0, color=INK, linewidth=0.6)
    axes[2].set(title="weights of the mixture", xlabel="frame", xticks=range(1, moved.shape[-1] + 1))
    if axes[2].get_legend_handles_labels()[0]:
        axes[2].legend(frameon=False, fontsize=8)
    alt = "Heat maps: how far each prediction moves when a frame's picture or text is swapped; weights of the mixture."
    caption = "The influence of each input on the predictions. An input with influence 0 is not used."
    return describe(figure, alt, caption)


def easy_and_hard(stories: pd.DataFrame, reasons: pd.DataFrame) -> Figure:
    """Held-out stories by how well their frames are retrieved, and the correlates; see ``analysis.difficulty``."""
    figure, ((left, right),) = subplots(1, 2, (9, 3.4), gridspec_kw={"width_ratios": [3, 2]})
    ordered = stories.sort_values("model", ignore_index=True)
    left.plot(ordered["baseline"], ".", color=BASELINE_COLOUR, label=f"best baseline ({stories.attrs['baseline']})")
    left.plot(ordered["model"], ".", color=MODEL_COLOUR, label="model")
    left.set(xlabel="held-out stories, hardest first", ylabel="mean reciprocal rank", xticks=[])
    left.legend(frameon=False, fontsize=9)
    places = np.arange(len(reasons))[::-1]
    for y, row in zip(places, reasons.to_dict("records"), strict=True):
        colour = BASELINE_COLOUR if row["low"] <= 0 <= row["high"] else MODEL_COLOUR
        right.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        right.scatter(row["correlation"], y, color=colour, zorder=3)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set(yticks=places, yticklabels=[textwrap.fill(t, 26) for t in reasons["reason"]], xlim=(-1, 1))
    right.set_xlabel("rank correlation with ease", fontsize=9)
    right.tick_params(axis="y", length=0, labelsize=8)
    right.spines["left"].set_visible(False)
    alt = "Held-out stories from hard to easy, the model beside the best baseline; correlates of ease with intervals."
    return describe(figure, alt, "Difficulty of held-out stories and its correlates; grey intervals include zero.")
