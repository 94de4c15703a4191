"""Seaborn figures and storyboards, drawn from records and data; readable on a white and on a dark page."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
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

from storylib.config import project_root
from storylib.evaluation import METRICS, ORACLE
from storylib.leaks import Twin
from storylib.pictures import PictureLike, open_picture
from storylib.runs import Data, Run
from storylib.stories import Story

INK = "#767676"  # contrast of at least 4 on white and on near-black, so one file serves both themes
ON, OFF, TRUTH = "#0072B2", "#E69F00", "#009E73"  # Okabe and Ito (2008): safe for colour-blind readers
MODEL_COLOUR, FLOOR_COLOUR = ON, "#A0A0A0"
VERDICT_COLOURS = {"better": TRUTH, "worse": "#D55E00", "no difference": FLOOR_COLOUR}


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


def save(figure: Figure, name: str) -> Figure:
    """Write ``<name>.svg`` where the book's other pages look for figures (STORYLIB_FIGURES), and hand the figure on.

    It is closed, so that a notebook shows it once: as the value of its cell.
    """
    folder = Path(os.environ.get("STORYLIB_FIGURES") or project_root() / "_build" / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)
    return figure


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
    return figure


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
        axis.imshow(picture)
    return figure


def lengths(stories: Sequence[Story]) -> Figure:
    """How long stories and texts are."""
    style()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    sns.histplot([len(s.frames) for s in stories], discrete=True, ax=left, color=MODEL_COLOUR, edgecolor="none")
    left.set(xlabel="pages in a story", ylabel="stories")
    words = [len(f.text.split()) for s in stories for f in s.frames]
    sns.histplot(words, ax=right, color=MODEL_COLOUR, edgecolor="none", binrange=(0, float(np.percentile(words, 99))))
    right.set(xlabel="words in a text", ylabel="pages")
    return figure


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
    return figure


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
    return figure


def ablation(table: pd.DataFrame) -> Figure:
    """Paired differences of two arms as a share of the second arm's value; to the right is better."""
    style()
    table = table[table["off"].abs() > 1e-9].iloc[::-1].reset_index(drop=True)
    sign = np.where(table["higher_is_better"], 1, -1) * 100 / table["off"].abs().to_numpy(float)
    ends = np.sort(np.stack([table["low"] * sign, table["high"] * sign]).astype(float), axis=0)
    centre = (table["difference"] * sign).to_numpy(float)
    figure, axis = plt.subplots(figsize=(8, 0.3 * len(table) + 1))
    axis.axvline(0, color=INK, linewidth=0.8)
    for i, row in enumerate(table.to_dict("records")):
        colour = VERDICT_COLOURS[row["verdict"]]
        axis.plot(ends[:, i], [i, i], color=colour, linewidth=2)
        axis.scatter(centre[i], i, color=colour, zorder=3)
        digits = METRICS[row["metric"]].digits
        values = f"{row['off']:.{digits}f} → {row['on']:.{digits}f}"
        place = ("axes fraction", "data")
        axis.annotate(values, (1.01, i), xycoords=place, va="center", fontsize=9, color=colour)
    axis.set(yticks=range(len(table)), yticklabels=table["title"], ylim=(-0.7, len(table) - 0.3))
    axis.set_xscale("symlog", linthresh=20)
    ticks = [t for t in (-100, -20, 0, 20, 100, 1000) if ends.min() * 1.1 <= t <= ends.max() * 1.1]
    axis.set_xticks(ticks, [f"{t:+d} %" if t else "0" for t in ticks])
    axis.set_xlabel("change with the loss, in percent of the value without it; to the right is better")
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.spines["left"].set_visible(False)
    return figure


def leakage(counts: pd.DataFrame) -> Figure:
    """How many test pages were seen in training, by kind of split. counts: columns split, what, share (percent)."""
    style()
    figure, axis = plt.subplots(figsize=(7, 2.6))
    sns.barplot(counts, x="share", y="what", hue="split", palette=[OFF, ON], ax=axis)
    axis.set(xlabel="percent of the test set that a training story shows or tells almost the same", ylabel="")
    for bars in axis.containers:
        axis.bar_label(bars, fmt="%.0f", padding=3, color=INK)  # type: ignore[arg-type]
    axis.legend(title="", loc="lower right")
    return figure


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
    return figure


def storyboard(run: Run, data: Data, order: str = "best", n: int = 3) -> Figure:
    """Held-out windows: the four frames that were given, what came next, what the model drew, found and wrote.

    order: "best" or "worst" by the rank of the true page, or "first" as they come.
    """
    style()
    frames = {(s.id, f.page): f for s in data.stories for f in s.frames}
    rows = run.model_rows.dropna(subset=["page_rank"]).reset_index(drop=True)
    drawn = np.load(run.path / "pictures.npy", mmap_mode="r")
    picked = rows if order == "first" else rows.sort_values("page_rank", ascending=order == "best", kind="stable")
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
    return figure


def _page(axis: Axes, image: PictureLike | None, text: str, size: int = 160) -> None:
    if image is not None:
        picture = open_picture(image)
        picture.thumbnail((size, size))
        axis.imshow(picture)
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
