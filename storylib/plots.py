"""Seaborn figures and storyboards, drawn from records and data; readable on a white and on a dark page."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image

from storylib.comparison import Comparison
from storylib.config import project_root
from storylib.evaluation import MODEL, ORACLE
from storylib.leaks import Twin
from storylib.pictures import PictureLike, open_picture, write_atomically
from storylib.prediction import NextFrame
from storylib.protocol import METRICS
from storylib.runs import Data, Run
from storylib.stories import Frame, Story

INK = "#767676"  # contrast of at least 4 on white and on near-black, so one file serves both themes
ON, OFF, TRUTH = "#0072B2", "#E69F00", "#009E73"  # Okabe and Ito (2008): safe for colour-blind readers
MODEL_COLOUR, FLOOR_COLOUR = ON, "#A0A0A0"
MAP = sns.light_palette(ON, as_cmap=True)
VERDICT_COLOURS = {"better": TRUTH, "worse": "#D55E00", "no difference": FLOOR_COLOUR}

# Okabe and Ito's colours, for arms beyond the two of the ablation.
MORE = ("#CC79A7", "#56B4E9", "#D55E00", "#009E73", "#F0E442")


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """One colour an arm, the same on every page: blue with the contrastive loss, orange without it."""
    known = {"contrastive-on": ON, "contrastive-off": OFF}
    others = iter(MORE * len(arms))
    return {arm: known[arm] if arm in known else next(others) for arm in arms}


def style() -> None:
    """One look for every figure: transparent, mid-grey ink, text kept as text, the same bytes every time."""
    sns.set_theme(context="notebook", style="ticks")
    if "IPython" in sys.modules:
        set_matplotlib_formats("svg")
    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: dict[Any, Any] = dict.fromkeys(colours, INK) | {
        "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": False, "axes.titlesize": 12,
        "svg.fonttype": "none", "svg.hashsalt": "storylib", "text.parse_math": False,
        "figure.constrained_layout.use": True,
    }  # fmt: skip
    mpl.rcParams.update(settings)


@dataclass(frozen=True)
class Drawing:
    """A saved figure as a notebook shows it: the SVG, with its description for readers who cannot see it."""

    svg: str
    alt: str
    caption: str
    name: str = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        told = {"alt": self.alt, "caption": self.caption, "name": self.name}  # storylib.book gives them to the page
        return {"image/svg+xml": self.svg, "text/plain": self.alt}, {"image/svg+xml": told}


def tell(figure: Figure, alt: str, caption: str = "") -> Figure:
    """Give a figure its description, and a caption that says what to see in it."""
    figure.set_label(" ".join(alt.split()))
    figure.set_gid(" ".join(caption.split()))
    return figure


def save(figure: Figure, name: str, folder: Path | None = None) -> Drawing:
    """Write ``<name>.svg`` where the book's other pages look for figures (STORYLIB_FIGURES), and return it to be shown.

    A figure that nobody has described (``tell``) is described by its own words: titles and names of axes.
    """
    folder = folder or Path(os.environ.get("STORYLIB_FIGURES") or project_root() / "_build" / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    alt, caption = str(figure.get_label() or _own_words(figure)), str(figure.get_gid() or "")
    figure.set_gid(None)  # else the caption would become an id in the file
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Title": name, "Description": alt})
    plt.close(figure)
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    svg = re.sub(r"data:image/png;base64,\s*([A-Za-z0-9+/=\s]+)", _lighter, svg)
    # Browsers that show the file itself, as Jupyter and Colab do, read the description from its root.
    said = alt.translate({ord(c): f"&#{ord(c)};" for c in "<>&\"'"})
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1)
    write_atomically(folder / f"{name}.svg", svg)
    return Drawing(svg, alt, caption, name)


def _lighter(png: re.Match[str]) -> str:
    """An embedded picture as JPEG where that is smaller: a page of photographs would weigh many megabytes."""
    data = base64.b64decode(png[1])
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(jpeg, "JPEG", quality=85, optimize=True)
    if len(jpeg.getvalue()) >= len(data):
        return png[0]
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"


def _own_words(figure: Figure) -> str:
    words = [w for a in figure.axes for w in (a.get_title(), a.get_xlabel(), a.get_ylabel()) if w.strip()]
    return " ".join(f"Figure with {len(figure.axes)} panels: {'; '.join(dict.fromkeys(words))}.".split())


def story_strip(stories: Sequence[Story], pages: int = 5) -> Figure:
    """The first pages of some stories, picture above text."""
    style()
    figure, axes = plt.subplots(len(stories), pages, figsize=(2.0 * pages, 2.9 * len(stories)), squeeze=False)
    for row, story in zip(axes, stories, strict=True):
        for axis, frame in zip(row, story.frames, strict=False):
            _page(axis, frame.image, frame.text)
        for axis in row[len(story.frames) :]:
            axis.axis("off")
        row[0].set_title(_shortened(story.title, 40), loc="left", color=INK)
    alt = "; ".join(f"{s.title}: {' '.join(f.text for f in s.frames[:pages])}" for s in stories)
    return tell(figure, alt, "One story a row: each picture above its text.")


def contact_sheet(stories: Sequence[Story], columns: int = 10, rows: int = 4) -> Figure:
    """Pictures from all over the stories, without their texts."""
    style()
    frames = [frame for story in stories for frame in story.frames]
    step = max(1, len(frames) // (columns * rows))
    figure, axes = plt.subplots(rows, columns, figsize=(1.05 * columns, 1.05 * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, frame in zip(axes.flat, frames[::step], strict=False):
        picture = open_picture(frame.image)
        picture.thumbnail((96, 96))
        axis.imshow(picture, interpolation="none")  # embedded as it is, not drawn anew at four times the size
    alt = f"{columns * rows} pictures from all over the {len(stories)} stories, without their texts."
    return tell(figure, alt, "Pictures from all over the stories.")


def lengths(stories: Sequence[Story]) -> Figure:
    """How long stories and texts are."""
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    sns.histplot([len(s.frames) for s in stories], discrete=True, ax=left, color=MODEL_COLOUR, edgecolor="none")
    left.set(xlabel="pages in a story", ylabel="stories")
    words = [len(f.text.split()) for s in stories for f in s.frames]
    sns.histplot(words, ax=right, color=MODEL_COLOUR, edgecolor="none", binrange=(0, float(np.percentile(words, 99))))
    right.set(xlabel="words in a text", ylabel="pages")
    alt = (
        f"Two histograms: a story has {min(map(len, (s.frames for s in stories)))} to "
        f"{max(len(s.frames) for s in stories)} pages, a text {np.median(words):.0f} words in the middle."
    )
    return tell(figure, alt, "How many pages a story has, and how many words a text.")


def training_curves(run: Run) -> Figure:
    """Every loss that was on, on training and validation windows, with the epoch that was kept."""
    style()
    history = run.history
    names = [c.removeprefix("train_") for c in map(str, history) if c.startswith("train_")]
    figure, axes = plt.subplots(1, len(names), figsize=(2.2 * len(names), 2.5), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        for part, colour in (("train", FLOOR_COLOUR), ("validation", MODEL_COLOUR)):
            sns.lineplot(x=history["epoch"], y=history[f"{part}_{name}"], ax=axis, color=colour, marker="o", label=part)
        axis.axvline(run.record["best_epoch"], color=INK, linewidth=0.8, linestyle=":")
        axis.set(title=name.replace("_", " "), ylabel="")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.get_legend().remove()
    axes[0][0].legend(frameon=False, fontsize=9)
    alt = f"A curve for each of {', '.join(names)}, by epoch; epoch {run.record['best_epoch']} was kept."
    return tell(
        figure,
        alt,
        "Each loss on training windows (grey) and validation windows (blue). Where blue rises while grey still falls, "
        "the model learns by heart; the dotted line is the epoch that was kept.",
    )


def beside_floors(metrics: dict[str, dict[str, Any]], names: Sequence[str]) -> Figure:
    """The model with its interval, and every floor as a grey mark with its name; the oracle is hollow."""
    style()
    figure, axes = plt.subplots(-(-len(names) // 3), 3, figsize=(9, 3.3 * -(-len(names) // 3)), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        entry = metrics[name]
        low, high = entry["interval"]
        axis.errorbar(
            0, entry["value"], [[entry["value"] - low], [high - entry["value"]]], fmt="o", color=MODEL_COLOUR, capsize=4
        )
        axis.annotate("model", (0, entry["value"]), (7, 0), textcoords="offset points", color=MODEL_COLOUR, va="center")
        floors = sorted(entry["floors"].items(), key=lambda item: item[1])
        for floor, value in floors:
            face = "none" if floor == ORACLE else FLOOR_COLOUR
            axis.scatter(1, value, color=FLOOR_COLOUR, facecolor=face, zorder=3)
        _spread_labels(axis, 1, floors)
        axis.set(xlim=(-0.5, 2.9), xticks=[], title=textwrap.fill(METRICS[name].title, 20))
        axis.spines["bottom"].set_visible(False)
    alt = "; ".join(
        f"{METRICS[n].title}: model {metrics[n]['value']:.3g}, best floor {metrics[n]['best_floor']}" for n in names
    )
    return tell(
        figure,
        alt,
        "The model (blue, with its interval) beside predictors that learned nothing (grey). Where they overlap, "
        "training bought nothing; hollow is an oracle that knows the answer.",
    )


def ablation(comparison: Comparison) -> Figure:
    """Paired differences of two arms with their intervals, as effect sizes so that all metrics share one axis.

    An effect of 1 is one standard deviation of the stories' differences. To the right is better, whatever the metric.
    """
    style()
    table = comparison.frame.replace([np.inf, -np.inf], np.nan).dropna(subset=["effect", "effect_low", "effect_high"])
    groups = table["group"].ne(table["group"].shift()).cumsum().to_numpy() - 1
    places = -(np.arange(len(table)) + groups)  # a free line between groups
    a_merit, b_merit = ([METRICS[m].merit(v) for m, v in zip(table["metric"], table[c], strict=True)] for c in "ab")
    gain = np.array(a_merit) - np.array(b_merit)
    sign = np.where(gain * table["difference"] >= 0, 1, -1)
    figure, axis = plt.subplots(figsize=(8, 0.24 * (len(table) + groups[-1]) + 1))
    axis.axvline(0, color=INK, linewidth=0.8)
    for y, way, row in zip(places, sign, table.to_dict("records"), strict=True):
        colour, digits = VERDICT_COLOURS[row["verdict"]], METRICS[row["metric"]].digits
        axis.plot([way * row["effect_low"], way * row["effect_high"]], [y, y], color=colour, linewidth=2)
        axis.scatter(way * row["effect"], y, color=colour, zorder=3)
        values = f"{row['b']:.{digits}f} → {row['a']:.{digits}f}"
        axis.annotate(values, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour)
    axis.set_xscale("symlog", linthresh=1)
    axis.set(yticks=places, yticklabels=table["title"], ylim=(places.min() - 0.8, 0.8))
    low, high = axis.get_xlim()
    ticks = [t for t in (-10, -3, -1, -0.5, 0, 0.5, 1, 3, 10) if low <= t <= high]
    axis.set_xticks(ticks, [f"{t:+g}" if t else "0" for t in ticks])
    axis.minorticks_off()
    a, b = comparison.names
    axis.set_xlabel(f"{a} minus {b}, in standard deviations between stories\nright: better")
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines["left"].set_visible(False)
    alt = (
        f"{len(table)} metrics, each with its change and 95 percent interval: "
        + "; ".join(f"{n} {v}" for v, n in table["verdict"].value_counts().items())
        + "."
    )
    return tell(
        figure,
        alt,
        "Each metric with the contrastive loss minus without it. A grey line crosses zero: no difference can be told.",
    )


def sweeps(results: Mapping[str, pd.DataFrame], metric: str, columns: int = 4) -> Figure:
    """Small multiples: a metric along each swept field, with the loss and without it, and the floors drawn in.

    results: by field, rows with columns value, arm ("on" or "off"), low, mean, high, and one a floor ("floor: name").
    """
    style()
    rows = -(-len(results) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.4 * columns, 2.4 * rows), squeeze=False, sharey=True)
    for axis in axes.flat[len(results) :]:
        axis.remove()
    for axis, (name, table) in zip(axes.flat, results.items(), strict=False):
        values = list(dict.fromkeys(table["value"]))
        for floor in (c for c in map(str, table) if c.startswith("floor: ")):
            level = [table[floor][table["value"] == v].mean() for v in values]
            axis.plot(range(len(values)), level, color=FLOOR_COLOUR, linestyle=":", linewidth=1)
            if axis is axes[0][0]:
                axis.annotate(floor.removeprefix("floor: "), (0, level[0]), (0, 2), textcoords="offset points",
                              fontsize=7, color=INK)  # fmt: skip
        for shift, (arm, colour, title) in enumerate((("off", OFF, "without the loss"), ("on", ON, "with it"))):
            part = table[table["arm"] == arm]
            x = np.array([values.index(v) for v in part["value"]]) + 0.12 * (shift - 0.5)
            bars = [part["mean"] - part["low"], part["high"] - part["mean"]]
            axis.errorbar(x, part["mean"], bars, fmt="o-", color=colour, markersize=4, linewidth=1, label=title)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xticks(range(len(values)), [str(v) for v in values], fontsize=7, rotation=30 if len(values) > 3 else 0)
    for line in axes:
        line[0].set_ylabel(textwrap.fill(METRICS[metric].title, 24), fontsize=9)
    axes[0][0].legend(frameon=False, fontsize=7)
    return tell(
        figure,
        f"{METRICS[metric].title} along " + ", ".join(n.replace("_", " ") for n in results),
        "One thing changed at a time, with the loss (blue) and without it (orange); dotted lines are floors.",
    )


def gains(record: Mapping[str, Any], names: Sequence[str]) -> Figure:
    """Small multiples: what each preset of a record gains over the best floor of a metric; right is better."""
    style()
    presets = list(record["presets"])
    rows = -(-len(names) // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(10, (0.7 + 0.35 * len(presets)) * rows), squeeze=False, sharey=True)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        axis.axvline(0, color=INK, linewidth=0.8)
        for place, preset in enumerate(presets):
            entry = record["presets"][preset]["metrics"].get(name)
            if entry is None:
                axis.annotate("none made", (0, place), (3, 0), textcoords="offset points", fontsize=7, va="center")
                continue
            way, colour = 1 if METRICS[name].higher_is_better else -1, VERDICT_COLOURS[entry["verdict"]]
            axis.plot([way * v for v in entry["gain_interval"]], [place, place], color=colour, linewidth=2)
            axis.scatter(way * entry["gain"], place, color=colour, zorder=3)
        axis.set_title(textwrap.fill(METRICS[name].title, 26), fontsize=9)
        axis.set(yticks=range(len(presets)), yticklabels=presets, ylim=(len(presets) - 0.5, -0.5))
        axis.tick_params(axis="both", length=0, labelsize=8)
    return tell(
        figure,
        "; ".join(f"{METRICS[n].title}, {p}: {told['metrics'][n]['verdict']} than the best floor"
                  for p, told in record["presets"].items() for n in names if n in told["metrics"]),
        "What each system gains over the best predictor that learned nothing (the line at zero), with 95 % intervals: "
        "green is better than that floor, red is worse, grey cannot be told from it.",
    )  # fmt: skip


def rank_histograms(runs: Sequence[Run]) -> Figure:
    """Where the true page stands among all pages and within its own story, beside the best floor and chance."""
    style()
    table = pd.concat([r.per_window for r in runs])
    kinds = {"page": "next page, of all pages", "page_story": "next page, within its story"}
    figure, axes = plt.subplots(1, len(kinds), figsize=(9, 2.8))
    for axis, (kind, title) in zip(axes, kinds.items(), strict=True):
        for who, colour in (("recency", FLOOR_COLOUR), (MODEL, MODEL_COLOUR)):
            rank = table.loc[table["predictor"] == who, f"{kind}_rank"].dropna()
            most = table.loc[table["predictor"] == who, f"{kind}_candidates"].max()
            bins = np.geomspace(1, most + 1, 16) if kind == "page" else np.arange(1, most + 2)
            weights = np.full(len(rank), 100 / len(rank))
            axis.hist(rank, bins=bins, weights=weights, histtype="step", linewidth=1.6, color=colour, label=who)
        chance = table.loc[table["predictor"] == MODEL, f"{kind}_candidates"].dropna().to_numpy()
        expected = [100 * np.mean(np.clip(np.minimum(high, chance + 1) - low, 0, None) / chance)
                    for low, high in pairwise(bins)]  # fmt: skip
        axis.stairs(expected, bins, color=INK, linestyle=":", label="chance")
        axis.set(title=title, xlabel="rank of the true page", ylabel="% of windows")
        if kind == "page":
            axis.set_xscale("log")
            axis.set_xticks([1, 10, 100], ["1", "10", "100"])
            axis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=9)
    return tell(
        figure,
        "Histograms of the rank of the true page, among all pages and within its story: model, best floor, chance.",
        "Where the true page stands. What lies left of the dotted line is better than guessing.",
    )


def similarities(runs: Sequence[Run]) -> Figure:
    """How similar a prediction is to the truth and to a page at random; the last frame's similarity as the floor.

    The published figure, done properly: centred, on held-out stories, and beside what no learning gives.
    """
    style()
    table = pd.concat([r.per_window for r in runs])
    ours, last = (table[table["predictor"] == who] for who in (MODEL, "copy-last"))
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharex=True, sharey=True)
    for axis, (kind, title) in zip(axes, {"image": "next picture", "text": "next text"}.items(), strict=True):
        curves = {
            "to a page at random": (ours[f"{kind}_cosine_other"], INK, ":"),
            "last frame, to the true page": (last[f"{kind}_cosine"], FLOOR_COLOUR, "-"),
            "model, to the true page": (ours[f"{kind}_cosine"], MODEL_COLOUR, "-"),
        }
        for label, (values, colour, line) in curves.items():
            sns.kdeplot(x=values.dropna(), ax=axis, color=colour, linestyle=line, label=label, clip=(-1, 1), cut=0)
        axis.set(title=title, xlabel="centred cosine similarity", ylabel="windows", yticks=[])
    axes[0].legend(frameon=False, fontsize=8)
    return tell(
        figure,
        "Curves of centred cosine similarity: the model to the true page, the last frame to it, the model to any page.",
        "How near a prediction comes to the truth: further right than a page at random, but than the last frame?",
    )


def attention(runs: Sequence[Run]) -> Figure:
    """What of the context a prediction rests on: how far it moves when a frame's picture or text is another story's."""
    style()
    records = [r.attention for r in runs]
    weights = np.mean([record["influence"] for record in records], axis=0)  # (what moves, what is swapped, K)
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), gridspec_kw={"width_ratios": [3, 3, 2.4]})
    frames = [f"frame {i + 1}" for i in range(weights.shape[-1])]
    for axis, block, title in zip(axes, weights, ("next picture", "next text"), strict=False):
        sns.heatmap(block, ax=axis, annot=True, fmt=".2f", cmap=MAP, cbar=False, vmin=0, vmax=weights.max(),
                    xticklabels=frames, yticklabels=["picture", "text"], annot_kws={"fontsize": 8})  # fmt: skip
        axis.set(title=f"{title} moves by", ylabel="swapped")
        axis.tick_params(length=0, labelsize=8)
    for name, colour in (("image", ON), ("text", OFF)):
        mixtures = np.array([record["mixture"][name] for record in records if record["mixture"]])
        if len(mixtures):
            axes[2].plot(range(1, mixtures.shape[1] + 1), mixtures.mean(0), "o-", color=colour, label=f"next {name}")
    axes[2].axhline(0, color=INK, linewidth=0.6)
    axes[2].set(title="weights of the mixture", xlabel="frame", xticks=range(1, weights.shape[-1] + 1))
    if axes[2].get_legend_handles_labels()[0]:
        axes[2].legend(frameon=False, fontsize=8)
    return tell(
        figure,
        "Heat maps: how far each prediction moves when a frame's picture or text is swapped; weights of the mixture.",
        "What of the four frames a prediction rests on. A frame that could be swapped without a change was not used.",
    )


def easy_and_hard(stories: pd.DataFrame, reasons: pd.DataFrame) -> Figure:
    """Each held-out story by how well its pages are found, and what goes with it. See ``storylib.difficulty``."""
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), gridspec_kw={"width_ratios": [3, 2]})
    ordered = stories.sort_values("model", ignore_index=True)
    left.plot(ordered["floor"], ".", color=FLOOR_COLOUR, label=f"best floor ({stories.attrs['floor']})")
    left.plot(ordered["model"], ".", color=MODEL_COLOUR, label="model")
    left.set(xlabel="held-out stories, hardest first", ylabel="mean reciprocal rank", xticks=[])
    left.legend(frameon=False, fontsize=9)
    places = np.arange(len(reasons))[::-1]
    for y, row in zip(places, reasons.to_dict("records"), strict=True):
        clear = not row["low"] <= 0 <= row["high"]
        colour = MODEL_COLOUR if clear else FLOOR_COLOUR
        right.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        right.scatter(row["correlation"], y, color=colour, zorder=3)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set(yticks=places, yticklabels=[textwrap.fill(t, 26) for t in reasons["reason"]], xlim=(-1, 1))
    right.set_xlabel("rank correlation with ease", fontsize=9)
    right.tick_params(axis="y", length=0, labelsize=8)
    right.spines["left"].set_visible(False)
    return tell(
        figure,
        "Held-out stories from hard to easy, the model beside the best floor, and what goes with ease.",
        "Which stories are hard, and what goes with it; grey intervals cross zero.",
    )


def leakage(counts: pd.DataFrame) -> Figure:
    """How many test pages were seen in training, by kind of split. counts: columns split, what, share (percent)."""
    style()
    figure, axis = plt.subplots(figsize=(7, 2.6))
    sns.barplot(counts, x="share", y="what", hue="split", palette=[OFF, ON], ax=axis)
    axis.set(xlabel="percent of the test set that a training story shows or tells almost the same", ylabel="")
    for bars in axis.containers:
        axis.bar_label(bars, fmt="%.0f", padding=3, color=INK)  # type: ignore[arg-type]
    axis.legend(title="", loc="lower right")
    alt = "; ".join(f"{r.split}, {r.what}: {r.share:.0f} percent" for r in counts.itertuples())
    return tell(
        figure,
        alt,
        "What a random split gives away of the test set, and what is left when connected stories stay together.",
    )


def twins(pairs: Sequence[Twin]) -> Figure:
    """Pages of the test set, and below each the page of a training story that shows or says nearly the same."""
    style()
    figure, axes = plt.subplots(2, max(1, len(pairs)), figsize=(1.75 * max(5, len(pairs)), 6.2), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for (test, train), pair in zip(axes.T, pairs, strict=False):
        sides = ((test, pair.test_story, pair.test_frame), (train, pair.train_story, pair.train_frame))
        for axis, story, frame in sides:
            axis.axis("on")
            _page(axis, frame.image, frame.text)
            axis.set_title(_shortened(story.title, 22), fontsize=8, color=INK)
        test.set_title(f"same {pair.kind}\n{test.get_title()}", fontsize=8, color=INK)
    for axis, name in zip(axes[:, 0], ("test", "training"), strict=True):
        axis.set_ylabel(name, color=INK)
    if not pairs:
        axes[0][0].text(0.5, 0, "no page of the test set is in a training story", ha="center", color=INK)
    alt = "; ".join(f"{p.test_story.title} has the {p.kind} of {p.train_story.title}" for p in pairs)
    return tell(
        figure, alt or "No page of the test set is in a training story.", "Test pages above those that give them away."
    )


def storyboard(run: Run, data: Data, order: str = "best", n: int = 3) -> Figure:
    """Held-out windows: the four frames that were given, what came next, what the model drew, found and wrote.

    order: "best", "median" or "worst" by the rank of the true page, or "first" as they come.
    """
    style()
    frames = {(s.id, f.page): f for s in data.stories for f in s.frames}
    rows = run.model_rows.dropna(subset=["page_rank"]).reset_index(drop=True)
    drawn = np.load(run.path / "pictures.npy", mmap_mode="r")
    keys = {"best": rows["page_rank"], "worst": -rows["page_rank"], "first": 0 * rows["page_rank"],
            "median": (rows["page_rank"] - rows["page_rank"].median()).abs()}  # fmt: skip
    picked = rows.iloc[keys[order].argsort(kind="stable")]
    # One window a story: neighbouring windows tell the same.
    picked = picked.drop_duplicates("story").head(n)
    k = run.config.data.context
    titles = [*(f"frame {i + 1}" for i in range(k)), "what came next", "drawn and written", "retrieved"]
    figure, axes = plt.subplots(len(picked), k + 3, figsize=(1.75 * (k + 3), 2.9 * len(picked)), squeeze=False)
    for line, row in zip(axes, picked.itertuples(), strict=True):
        given = [frames[row.story, row.page - k + i] for i in range(k + 1)]
        for axis, frame in zip(line, given, strict=False):
            _page(axis, frame.image, frame.text)
        picture = Image.fromarray(drawn[int(row.picture)]) if row.picture >= 0 else None
        written = row.generation if isinstance(row.generation, str) else ""
        _page(line[k + 1], picture, written or "(nothing)")
        found = frames[row.retrieved_story, int(row.retrieved_page)]
        _page(
            line[k + 2], found.image, f"rank of the truth: {row.page_rank:g} of {row.page_candidates:.0f}. {found.text}"
        )
        for axis, colour in zip(line[k:], (TRUTH, ON, OFF), strict=True):
            for spine in axis.spines.values():
                spine.set(visible=True, color=colour, linewidth=2)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11, color=INK)
    alt = "; ".join(
        f"{r.story}, page {r.page:g}: the model wrote “{r.generation}”, the true page has rank {r.page_rank:g}"
        for r in picked.itertuples()
    )
    return tell(
        figure,
        alt,
        "Four frames that were given, what came next (green), what the model drew and wrote (blue), and the page it "
        "would turn to (orange).",
    )


def your_story(pages: Sequence[Frame], following: NextFrame, nearest: Sequence[tuple[Frame, Story, float]]) -> Figure:
    """A reader's own pages, how the storyteller goes on, and below, the known pages nearest to what it expects."""
    style()
    columns = max(len(pages) + 1, len(nearest))
    figure, axes = plt.subplots(2, columns, figsize=(1.9 * columns, 6.2), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    shown: list[Any] = [(f.image, f.text, f"picture {i}", FLOOR_COLOUR) for i, f in enumerate(pages, 1)]
    shown.append((following.image, following.text or "(no text)", "and then", ON))
    found: list[Any] = [(f.image, f"{s.title}, page {f.page}: {f.text}", f"{c:.2f}", OFF) for f, s, c in nearest]
    for line, row in zip(axes, (shown, found), strict=True):
        for axis, (image, text, title, colour) in zip(line, row, strict=False):
            axis.axis("on")
            _page(axis, image, text)
            axis.set_title(title, fontsize=11, color=INK)
            for spine in axis.spines.values():
                spine.set(visible=colour != FLOOR_COLOUR, color=colour, linewidth=2)
    told = " ".join(page.text for page in pages)
    alt = f"Given: {told} The storyteller goes on: {following.text or '(no text)'} Nearest known pages: " + "; ".join(
        text for _, text, *_ in found
    )
    return tell(
        figure,
        alt,
        "Above, four pictures and what the storyteller draws and writes next (blue); below, the known pages nearest to "
        "the picture that it expects (orange), with their similarity.",
    )


def _page(axis: Axes, image: PictureLike | None, text: str, size: int = 160) -> None:
    if image is not None:
        picture = open_picture(image)
        picture.thumbnail((size, size))
        axis.imshow(picture, interpolation="none")  # embedded as it is, not drawn anew at four times the size
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel(textwrap.fill(_shortened(text, 120), 22), fontsize=8, color=INK)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def _spread_labels(axis: Axes, x: float, labels: Sequence[tuple[str, float]]) -> None:
    """Names beside marks, pushed apart where marks nearly coincide. labels: sorted by value."""
    low, high = axis.get_ylim()
    step, last = (high - low) * 0.075, -np.inf
    for name, value in labels:
        last = max(value, last + step)
        axis.annotate(name, (x, value), (x + 0.18, last), textcoords="data", va="center", fontsize=8, color=INK,
                      arrowprops={"arrowstyle": "-", "color": FLOOR_COLOUR, "linewidth": 0.5})  # fmt: skip
