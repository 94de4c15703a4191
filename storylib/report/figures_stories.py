"""Figures of stories, of their splits, and of what a model predicts for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill, shorten
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from storylib.data.pictures import PictureLike
from storylib.data.types import Frame, Story
from storylib.experiments.records import Run
from storylib.metrics.registry import METRICS
from storylib.report.style import INK, OFF, ON, TRUTH, describe, show_frame, subplots

if TYPE_CHECKING:
    from storylib.analysis.leaks import Twin
    from storylib.experiments.storyteller import NextFrame


class Cell(NamedTuple):
    """A picture above its text, with a title and a coloured border if it has one."""

    image: PictureLike | None
    text: str
    title: str = ""
    colour: str | None = None


def _board(rows: Sequence[Sequence[Cell]], columns: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """A figure of rows of cells. width, height: of a cell in inches."""
    figure, axes = subplots(len(rows), columns, (width * columns, height * len(rows)))
    for axis in axes.flat:
        axis.axis("off")
    for line, cells in zip(axes, rows, strict=True):
        for axis, cell in zip(line, cells, strict=False):
            axis.axis("on")
            show_frame(axis, cell.image, "")
            axis.set(anchor="N", xlabel=fill(cell.text, round(13 * width), max_lines=7, placeholder=" …"))
            axis.set_title(cell.title, fontsize=9, color=INK)
            if cell.colour:
                axis.spines[:].set(visible=True, color=cell.colour, linewidth=2)
    return figure, axes


def story_strip(stories: Sequence[Story], frames: int = 5) -> Figure:
    """The first frames of some stories, each picture above its text."""
    rows = [[Cell(frame.image, frame.text) for frame in story.frames[:frames]] for story in stories]
    figure, axes = _board(rows, frames, 2.1, 3.6)
    for line, story in zip(axes, stories, strict=True):
        line[0].set_title(shorten(story.title, 40, placeholder=" …"), loc="left", color=INK)
    alt = f"The first frames of {'; '.join(story.title for story in stories)}."
    return describe(figure, alt, "The first frames of some stories, one story per row: each picture above its text.")


def twins(pairs: Sequence[Twin]) -> Figure:
    """Test frames, each above the training frame whose picture or text is nearly the same."""
    above, below = [], []
    for pair in pairs:
        titles = [shorten(story.title, 22, placeholder=" …") for story in (pair.test_story, pair.train_story)]
        above.append(Cell(pair.test_frame.image, pair.test_frame.text, f"same {pair.kind}\n{titles[0]}"))
        below.append(Cell(pair.train_frame.image, pair.train_frame.text, titles[1]))
    figure, axes = _board([above, below], max(5, len(pairs)), 2.1, 3.8)
    for line, name in zip(axes, ("test", "training"), strict=True):
        line[0].set_ylabel(name, color=INK)
    alt = "; ".join(f"{p.test_story.title} has the {p.kind} of {p.train_story.title}" for p in pairs) + "."
    caption = "Test frames under a random split, each above a training frame with nearly the same picture or text."
    return describe(figure, alt, caption)


def storyboard(run: Run, stories: Sequence[Story], windows: Mapping[str, Any], score: str = "chrf") -> Figure:
    """Held-out windows in two rows each: the context and the target, and what the model wrote, drew and retrieved.

    windows: rows of ``run.model_rows`` by what they are called. score: of what the model wrote, and of the last text.
    """
    frames = {(story.id, frame.number): frame for story in stories for frame in story.frames}
    copied = run.per_window[run.per_window["predictor"] == "copy-last"].set_index(["story", "frame"])[score]
    metric, k, rows = METRICS[score], run.config.data.context, []
    for window in windows.values():
        story, number = window["story"], int(window["frame"])
        last = f"context {k}: {metric.title} {metric.text(copied[story, number])}"
        titles = {number - k + i: f"context {i + 1}" for i in range(k)} | {number - 1: last, number: "target"}
        above = [Cell(frames[story, i].image, frames[story, i].text, title) for i, title in titles.items()]
        above[-1] = above[-1]._replace(colour=TRUTH)
        drawn = map(Image.fromarray, run.pictures[int(window["picture"])]) if window["picture"] >= 0 else [None]
        below = [Cell(picture, "", f"sample {i}", ON) for i, picture in enumerate(drawn)]
        own = f"predicted: {metric.title} {metric.text(window[score])}"
        below[0] = below[0]._replace(text=window["generation"], title=own)
        retrieved = frames[window["retrieved_story"], int(window["retrieved_frame"])]
        rows += [above, [*below, Cell(retrieved.image, retrieved.text, "retrieved", OFF)]]
    figure, axes = _board(rows, k + 1, 2.1, 3.6)
    for axis, name in zip(axes[::2, 0], windows, strict=True):
        axis.set_ylabel(name, color=INK)
    caption = f"Held-out windows ({', '.join(windows)}), with the {metric.title} of the predicted and the last text. "
    caption += "Above: context and target (green). Below: prediction and samples (blue), and retrieved frame (orange)."
    return describe(figure, f"Held-out windows and what the model predicts: {', '.join(windows)}.", caption)


def your_story(context: Sequence[Frame], predicted: NextFrame) -> Figure:
    """A reader's own frames with the predicted next frame, and below, the known frames nearest to the prediction."""
    text = predicted.text or "(no text)"
    above = [Cell(frame.image, frame.text, f"picture {i}") for i, frame in enumerate(context, 1)]
    above.append(Cell(predicted.image, text, "predicted", ON))
    below = []
    for known in predicted.nearest:
        known_text = f"{known.story.title}, frame {known.frame.number}: {known.frame.text}"
        below.append(Cell(known.frame.image, known_text, f"{known.similarity:.2f}", OFF))
    figure, _ = _board([above, below], max(len(above), len(below)), 2.1, 3.6)
    alt = f"Context: {' '.join(frame.text for frame in context)} Predicted: {text} Nearest known frames: "
    alt += "; ".join(f"{known.story.title}, frame {known.frame.number}" for known in predicted.nearest) + "."
    caption = "Above: the context and the predicted frame (blue). Below: the most similar held-out pictures, with "
    caption += "their centred cosine similarity to the prediction."
    return describe(figure, alt, caption)
