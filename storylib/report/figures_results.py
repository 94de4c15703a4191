"""Figures of training and evaluation, drawn from records and per-window scores."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from storylib.experiments.comparison import Comparison
from storylib.experiments.records import Run
from storylib.experiments.studies import Factor
from storylib.metrics.registry import METRICS, ORACLE, VERDICTS
from storylib.report.style import BASELINE_COLOUR, INK, MODEL_COLOUR, OFF, ON, TRUTH, describe, panels

VERDICT_COLOURS = dict(zip(VERDICTS, (TRUTH, "#D55E00", ON, INK), strict=True))
COLOUR_NAMES = dict(zip(VERDICTS, ("green", "red", "blue", "grey"), strict=True))
RIGHT = "Further right is better, so axes on which lower is better run backwards."


def training_curves(run: Run) -> Figure:
    """Every loss that was on, on training and validation windows, with the epoch that was kept."""
    history, best = run.history, run.record["best_epoch"]
    names = [column.removeprefix("train_") for column in map(str, history) if column.startswith("train_")]
    figure, axes = panels(len(names), len(names), (2.15, 2.5))
    for axis, name in zip(axes, names, strict=True):
        for part, colour in (("train", BASELINE_COLOUR), ("validation", MODEL_COLOUR)):
            axis.plot(history["epoch"], history[f"{part}_{name}"], "o-", color=colour, markersize=5, label=part)
        axis.axvline(best, color=INK, linewidth=0.8, linestyle=":")
        axis.set_title(name.replace("_", " "))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(fontsize=9)
    caption = "Each loss on training windows (grey) and validation windows (blue). Dotted: the epoch that was kept."
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
        axis.set_title(textwrap.fill(metrics[name]["title"], 28), fontsize=10)
        axis.margins(x=0.1)
    alt = "; ".join(f"{METRICS[name].title}: model {metrics[name]['value']:.3g}" for name in names)
    caption = "The model (blue, with its 95 % interval) and the baselines (grey)."
    caption += " Hollow: an oracle." if any(ORACLE in metrics[name]["baselines"] for name in names) else ""
    lower = [METRICS[name].title for name in names if not METRICS[name].higher_is_better]
    caption += f" Higher is better, except for {'; '.join(lower)}." if lower else " Higher is better."
    return describe(figure, alt, caption)


def answer(records: Mapping[str, Mapping[str, Any]], factor: Factor) -> Figure:
    """A row per source and a panel per primary endpoint: both arms with 95 % intervals, linear map and best baseline.

    records: published ablations by what their stories are called.
    """
    names = [name for name in factor.endpoints if all(name in r["scores"][factor.arms[0]] for r in records.values())]
    figure, axes = panels(len(records) * len(names), max(1, len(names)), (2.5, 1.7))
    alt = []
    for axis, (source, name) in zip(axes, itertools.product(records, names), strict=True):
        metric, arms = METRICS[name], [records[source]["scores"][arm][name] for arm in factor.arms]
        baselines = arms[0]["baselines"]
        shown = {
            baseline: baselines[baseline]
            for baseline in (arms[0]["best_baseline"], "linear map")
            if baseline in baselines
        }
        levels = [*((label, arm["value"], arm["interval"]) for label, arm in zip(factor.words, arms, strict=True)),
                  *((baseline, value, [value, value]) for baseline, value in shown.items())]  # fmt: skip
        colours = [ON, OFF, *[BASELINE_COLOUR] * len(shown)]
        for y, ((_, value, ends), colour) in enumerate(zip(levels, colours, strict=True)):
            _interval(axis, y, value, ends, colour)
            axis.annotate(metric.text(value), (value, y), (0, 4), textcoords="offset points", ha="center", fontsize=8)
        axis.set(ylim=(len(levels) - 0.5, -0.8), yticks=range(len(levels)))
        axis.set_yticklabels([textwrap.fill(label, 17) for label, *_ in levels], fontsize=9)
        axis.set_title(textwrap.fill(f"{source}: {metric.title}", 28), fontsize=9)
        axis.margins(x=0.2)
        axis.tick_params(axis="x", labelsize=8)
        if not metric.higher_is_better:
            axis.invert_xaxis()
        alt.append(
            f"{source}, {metric.title}: {metric.text(arms[1]['value'])} without, {metric.text(arms[0]['value'])} with"
        )
    first, second = factor.labels
    caption = f"The primary endpoints on held-out stories, {first} (blue) and {second} (orange), with 95 % intervals. "
    caption += f"Grey: the best baseline and, for cross-modal retrieval, the closed-form linear map. {RIGHT}"
    return describe(figure, "; ".join(alt), caption)


def endpoints(comparisons: Mapping[str, Comparison]) -> Figure:
    """The primary endpoints, a panel each: two arms' difference on each source, with its 90 and 95 % intervals.

    comparisons: by source. To the right is better. Shaded: changes too small to matter.
    """
    tables = [comparison.primary.frame.assign(source=source) for source, comparison in comparisons.items()]
    rows = pd.concat(tables)
    endpoints = next(iter(comparisons.values())).factor.endpoints
    names = [name for name in endpoints if name in set(rows["metric"])]
    figure, axes = panels(len(names), 2, (4.5, 1.2 + 0.5 * len(tables)))
    for axis, name in zip(axes, names, strict=True):
        here, metric = rows[rows["metric"] == name].reset_index(drop=True), METRICS[name]
        for y, row in enumerate(here.to_dict("records")):
            colour = VERDICT_COLOURS[row["verdict"]]
            axis.barh(y, 2 * row["matters"], 0.7, -row["matters"], color=BASELINE_COLOUR, alpha=0.25, linewidth=0)
            axis.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=1)
            _interval(axis, y, row["difference"], [row["low90"], row["high90"]], colour)
            values = f"{metric.text(row['b'])} → {metric.text(row['a'])}, {row['verdict']}"
            if metric.task:
                among = metric.label(row["candidates"]).removeprefix(metric.title)
                values += f"; chance {metric.text(row['chance'])}{among}"
            axis.annotate(values, (0, y - 0.4), xycoords=("axes fraction", "data"), fontsize=7, color=colour)
        axis.axvline(0, color=INK, linewidth=0.8)
        labels = [textwrap.fill(source, 14) for source in here["source"]]
        axis.set_ylim(len(here) - 0.4, -0.7)
        axis.set_yticks(range(len(here)), labels, fontsize=9)
        axis.set_title(textwrap.fill(metric.title, 40), fontsize=10)
        if not metric.higher_is_better:
            axis.invert_xaxis()
    a, b = next(iter(comparisons.values())).factor.labels
    alt = "; ".join(f"{METRICS[r['metric']].title}, {r['source']}: {r['verdict']}" for r in rows.to_dict("records"))
    caption = f"{a.capitalize()} minus {b}: the change in each primary endpoint. {RIGHT} Thick bars: 90 % intervals. "
    shown = [f"{verdict} ({colour})" for verdict, colour in COLOUR_NAMES.items() if verdict in set(rows["verdict"])]
    caption += f"Thin bars: 95 %. Shaded: changes too small to matter. Verdicts: {', '.join(shown)}."
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
    fewest, most = chosen["candidates"].min(), chosen["candidates"].max()
    label = METRICS[metric].label(fewest) + (f" to {most:.0f}" if most > fewest else "")  # the splits differ in them
    for axis in axes[::columns]:
        axis.set_ylabel(textwrap.fill(label, 24), fontsize=9)
    axes[0].legend(fontsize=7)
    fields = ", ".join(field.replace("_", " ") for field in tables)
    title = "".join(f"{source}: " for source in chosen.get("source", pd.Series(dtype=str)).unique())
    title += METRICS[metric].title
    on, off = factor.labels
    caption = f"{title}, one setting changed at a time, {on} (blue) and {off} (orange), with 95 % intervals. Dotted: "
    caption += "chance and the best baseline."
    return describe(figure, f"{title}, by {fields}.", caption[0].upper() + caption[1:])
