"""Figures of stories, of their splits, and of what a model predicts for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

from storylib.data.pictures import open_picture
from storylib.data.types import Frame, Story
from storylib.experiments.records import Run
from storylib.report.style import INK, MODEL_COLOUR, OFF, ON, TRUTH, describe, outline, shorten, show_frame, subplots

if TYPE_CHECKING:
    from storylib.analysis.leaks import Twin
    from storylib.experiments.storyteller import NextFrame


def story_strip(stories: Sequence[Story], frames: int = 5) -> Figure:
    """The first frames of some stories, each picture above its text."""
    figure, axes = subplots(len(stories), frames, (2.0 * frames, 2.9 * len(stories)))
    for row, story in zip(axes, stories, strict=True):
        for axis, frame in zip(row, story.frames, strict=False):
            show_frame(axis, frame.image, frame.text)
        for axis in row[len(story.frames) :]:
            axis.axis("off")
        row[0].set_title(shorten(story.title, 40), loc="left", color=INK)
    alt = "; ".join(f"{s.title}: {' '.join(f.text for f in s.frames[:frames])}" for s in stories)
    return describe(figure, alt, "One story per row: each picture above its text.")


def contact_sheet(stories: Sequence[Story], columns: int = 10, rows: int = 4) -> Figure:
    """Pictures sampled evenly from the stories, without their texts."""
    figure, axes = subplots(rows, columns, (1.05 * columns, 1.05 * rows))
    frames = [frame for story in stories for frame in story.frames]
    step = max(1, len(frames) // (columns * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, frame in zip(axes.flat, frames[::step], strict=False):
        picture = open_picture(frame.image)
        picture.thumbnail((96, 96))
        axis.imshow(picture, interpolation="none")
    alt = f"{columns * rows} pictures sampled evenly from {len(stories)} stories, without their texts."
    return describe(figure, alt, "Pictures sampled evenly from the stories.")


def lengths(stories: Sequence[Story]) -> Figure:
    """Histograms of the length of stories and texts."""
    figure, ((left, right),) = subplots(1, 2, (9, 3))
    counts = [len(story.frames) for story in stories]
    words = [len(frame.text.split()) for story in stories for frame in story.frames]
    sns.histplot(counts, discrete=True, ax=left, color=MODEL_COLOUR, edgecolor="none")
    left.set(xlabel="frames per story", ylabel="stories")
    sns.histplot(words, ax=right, color=MODEL_COLOUR, edgecolor="none", binrange=(0, float(np.percentile(words, 99))))
    right.set(xlabel="words per text", ylabel="frames")
    alt = (
        f"Two histograms: stories have {min(counts)} to {max(counts)} frames; "
        f"the median text has {np.median(words):.0f} words."
    )
    return describe(figure, alt, "Frames per story, and words per text.")


def leakage(counts: pd.DataFrame) -> Figure:
    """The share of the test set that was seen in training, by split. counts: columns split, what, share (percent)."""
    figure, ((axis,),) = subplots(1, 1, (7, 2.6))
    sns.barplot(counts, x="share", y="what", hue="split", palette=[OFF, ON], ax=axis)
    axis.set(xlabel="% of the test set with a near-duplicate in the training set", ylabel="")
    for bars in axis.containers:
        axis.bar_label(bars, fmt="%.0f", padding=3, color=INK)
    axis.legend(title="", loc="lower right")
    alt = "; ".join(f"{r.split}, {r.what}: {r.share:.0f} percent" for r in counts.itertuples())
    caption = "The share of the test set that leaks under a random split, and when connected stories stay together."
    return describe(figure, alt, caption)


def twins(pairs: Sequence[Twin]) -> Figure:
    """Test frames, each above the training frame whose picture or text is nearly the same."""
    figure, axes = subplots(2, max(1, len(pairs)), (1.75 * max(5, len(pairs)), 6.2))
    for axis in axes.flat:
        axis.axis("off")
    for (test, train), pair in zip(axes.T, pairs, strict=False):
        sides = ((test, pair.test_story, pair.test_frame), (train, pair.train_story, pair.train_frame))
        for axis, story, frame in sides:
            axis.axis("on")
            show_frame(axis, frame.image, frame.text)
            axis.set_title(shorten(story.title, 22), fontsize=8, color=INK)
        test.set_title(f"same {pair.kind}\n{test.get_title()}", fontsize=8, color=INK)
    for axis, name in zip(axes[:, 0], ("test", "training"), strict=True):
        axis.set_ylabel(name, color=INK)
    alt = "; ".join(f"{p.test_story.title} has the {p.kind} of {p.train_story.title}" for p in pairs)
    if not pairs:
        alt = "No frame of the test set is in a training story."
        axes[0][0].text(0.5, 0, "no frame of the test set is in a training story", ha="center", color=INK)
    return describe(figure, alt, "Test frames, each above a training frame that is nearly the same.")


def storyboard(run: Run, stories: Sequence[Story], order: str = "best", n: int = 3) -> Figure:
    """Held-out windows: the context, the target, and what the model drew, wrote and retrieved; one window per story.

    order: "best", "median" or "worst" by the rank of the true frame, or "first" in the order of the data.
    """
    frames = {(story.id, frame.number): frame for story in stories for frame in story.frames}
    rows = run.model_rows.dropna(subset=["frame_rank"]).reset_index(drop=True)
    drawn = np.load(run.path / "pictures.npy", mmap_mode="r")
    rank = rows["frame_rank"]
    keys = {"best": rank, "worst": -rank, "first": 0 * rank, "median": (rank - rank.median()).abs()}
    selected = rows.iloc[keys[order].argsort(kind="stable")].drop_duplicates("story").head(n)
    k = run.config.data.context
    figure, axes = subplots(len(selected), k + 3, (1.75 * (k + 3), 2.9 * len(selected)))
    for line, row in zip(axes, selected.itertuples(), strict=True):
        for i, axis in enumerate(line[: k + 1]):
            frame = frames[row.story, row.frame - k + i]
            show_frame(axis, frame.image, frame.text)
        picture = Image.fromarray(drawn[int(row.picture)]) if row.picture >= 0 else None
        written = row.generation if isinstance(row.generation, str) else ""
        show_frame(line[k + 1], picture, written or "(nothing)")
        retrieved = frames[row.retrieved_story, int(row.retrieved_frame)]
        caption = f"rank of the true frame: {row.frame_rank:g} of {row.frame_candidates:.0f}. {retrieved.text}"
        show_frame(line[k + 2], retrieved.image, caption)
        for axis, colour in zip(line[k:], (TRUTH, ON, OFF), strict=True):
            outline(axis, colour)
    titles = [*(f"context {i + 1}" for i in range(k)), "target", "drawn and written", "retrieved"]
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=11, color=INK)
    alt = "; ".join(
        f"{r.story}, frame {r.frame:g}: the model wrote “{r.generation}”, the true frame has rank {r.frame_rank:g}"
        for r in selected.itertuples()
    )
    caption = (
        "The context, the target (green), what the model drew and wrote (blue), and the frame it retrieved (orange)."
    )
    return describe(figure, alt, caption)


def your_story(context: Sequence[Frame], predicted: NextFrame) -> Figure:
    """A reader's own frames with the predicted next frame, and below, the known frames nearest to the prediction."""
    columns = max(len(context) + 1, len(predicted.nearest))
    figure, axes = subplots(2, columns, (1.9 * columns, 6.2))
    for axis in axes.flat:
        axis.axis("off")
    written = predicted.text or "(no text)"
    above: list[Any] = [(frame.image, frame.text, f"picture {i}", None) for i, frame in enumerate(context, 1)]
    above.append((predicted.image, written, "predicted", ON))
    below: list[Any] = []
    for known in predicted.nearest:
        text = f"{known.story.title}, frame {known.frame.number}: {known.frame.text}"
        below.append((known.frame.image, text, f"{known.similarity:.2f}", OFF))
    for line, cells in zip(axes, (above, below), strict=True):
        for axis, (image, text, title, colour) in zip(line, cells, strict=False):
            axis.axis("on")
            show_frame(axis, image, text)
            axis.set_title(title, fontsize=11, color=INK)
            if colour:
                outline(axis, colour)
    alt = f"Context: {' '.join(frame.text for frame in context)} Predicted: {written} Nearest known frames: "
    alt += "; ".join(text for _, text, *_ in below)
    caption = (
        "Above, the context and the picture and text that the storyteller predicts (blue); below, the known frames "
        "nearest to the predicted picture (orange), with their similarity."
    )
    return describe(figure, alt, caption)
