"""Figures of stories, of their splits, and of what a model predicts for them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from storylib.data.pictures import PictureLike
from storylib.data.types import Frame, Story
from storylib.experiments.records import Run
from storylib.report.style import INK, OFF, ON, TRUTH, beside_samples, describe, show_frame, subplots

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
            show_frame(axis, cell.image, cell.text)
            axis.set_title(cell.title, fontsize=9, color=INK)
            if cell.colour:
                axis.spines[:].set(visible=True, color=cell.colour, linewidth=2)
    return figure, axes


def story_strip(stories: Sequence[Story], frames: int = 5) -> Figure:
    """The first frames of some stories, each picture above its text."""
    rows = [[Cell(frame.image, frame.text) for frame in story.frames[:frames]] for story in stories]
    figure, axes = _board(rows, frames, 2.0, 2.9)
    for line, story in zip(axes, stories, strict=True):
        line[0].set_title(shorten(story.title, 40, placeholder=" …"), loc="left", color=INK)
    alt = "; ".join(f"{s.title}: {' '.join(f.text for f in s.frames[:frames])}" for s in stories)
    return describe(figure, alt, "One story per row: each picture above its text.")


def twins(pairs: Sequence[Twin]) -> Figure:
    """Test frames, each above the training frame whose picture or text is nearly the same."""
    above, below = [], []
    for pair in pairs:
        titles = [shorten(story.title, 22, placeholder=" …") for story in (pair.test_story, pair.train_story)]
        above.append(Cell(pair.test_frame.image, pair.test_frame.text, f"same {pair.kind}\n{titles[0]}"))
        below.append(Cell(pair.train_frame.image, pair.train_frame.text, titles[1]))
    figure, axes = _board([above, below], max(5, len(pairs)), 1.75, 3.1)
    for line, name in zip(axes, ("test", "training"), strict=True):
        line[0].set_ylabel(name, color=INK)
    alt = "; ".join(f"{p.test_story.title} has the {p.kind} of {p.train_story.title}" for p in pairs)
    return describe(figure, alt, "Test frames, each above a training frame that is nearly the same.")


def storyboard(run: Run, stories: Sequence[Story], order: str = "best", n: int = 3) -> Figure:
    """Held-out windows: the context, the target, and what the model drew, wrote and retrieved; one window per story.

    order: "best", "median" or "worst", by the rank of the true frame.
    """
    frames = {(story.id, frame.number): frame for story in stories for frame in story.frames}
    windows = run.model_rows.dropna(subset=["frame_rank"]).reset_index(drop=True)
    drawn = run.pictures
    rank = windows["frame_rank"]
    keys = {"best": rank, "worst": -rank, "median": (rank - rank.median()).abs()}
    selected = windows.iloc[keys[order].argsort(kind="stable")].drop_duplicates("story").head(n)
    k = run.config.data.context
    rows, descriptions = [], []
    for window in selected.itertuples():
        context = [frames[window.story, window.frame - k + i] for i in range(k)]
        cells = [Cell(frame.image, frame.text, f"context {i}") for i, frame in enumerate(context, 1)]
        target = frames[window.story, window.frame]
        picture = beside_samples(drawn[int(window.picture)]) if window.picture >= 0 else None
        text = window.generation if isinstance(window.generation, str) else ""
        retrieved = frames[window.retrieved_story, int(window.retrieved_frame)]
        found = f"rank of the true frame: {window.frame_rank:g} of {window.frame_candidates:.0f}. {retrieved.text}"
        cells.append(Cell(target.image, target.text, "target", TRUTH))
        cells.append(Cell(picture, text or "(nothing)", "drawn and written", ON))
        rows.append([*cells, Cell(retrieved.image, found, "retrieved", OFF)])
        descriptions.append(f"{window.story}, frame {window.frame:g}: the model wrote “{text}”. {found}")
    figure, _ = _board(rows, k + 3, 1.75, 2.9)
    caption = "The context, the target (green), what the model drew, with two samples, and wrote (blue) and retrieved."
    return describe(figure, "; ".join(descriptions), caption)


def your_story(context: Sequence[Frame], predicted: NextFrame) -> Figure:
    """A reader's own frames with the predicted next frame, and below, the known frames nearest to the prediction."""
    text = predicted.text or "(no text)"
    above = [Cell(frame.image, frame.text, f"picture {i}") for i, frame in enumerate(context, 1)]
    above.append(Cell(predicted.image, text, "predicted", ON))
    below = []
    for known in predicted.nearest:
        known_text = f"{known.story.title}, frame {known.frame.number}: {known.frame.text}"
        below.append(Cell(known.frame.image, known_text, f"{known.similarity:.2f}", OFF))
    figure, _ = _board([above, below], max(len(above), len(below)), 1.9, 3.1)
    alt = f"Context: {' '.join(frame.text for frame in context)} Predicted: {text} Nearest known frames: "
    alt += "; ".join(cell.text for cell in below)
    caption = "Above, the context and the predicted frame (blue); below, the nearest known pictures, with similarity."
    return describe(figure, alt, caption)
