"""What is true of Storyworld's scenes, and how often a model's next frame agrees with it.

The accuracy of each attribute stands beside baselines and beside the exact ceilings of perfect readers. Other sources
do not know the truth of their scenes; for their stories the tables are empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from storylib.data.types import Story
from storylib.metrics.intervals import interval, story_sums
from storylib.sources.storyworld import truth
from storylib.sources.storyworld.grammar import parse
from storylib.sources.storyworld.splits import plots_of
from storylib.sources.storyworld.world import Settings

VISIBLE_WITH = {"with": "who", "state": "object"}  # a picture that shows the second shows the first
NOT_STATED = object()  # equal to no value; None is one: there is no such thing in the scene


def knows_truth(stories: Sequence[Story]) -> bool:
    """Whether the truth of every scene is known, which holds for Storyworld only."""
    return all(frame.attributes and "in_text" in frame.attributes for story in stories for frame in story.frames)


def one_of_each_plot(stories: Sequence[Story], most: int = 10) -> list[Story]:
    """The first story that begins with each plot, or three stories from the whole list where plots are not known."""
    if not knows_truth(stories):
        return list(stories[:: max(1, len(stories) // 3)][:3])
    plots: dict[str, Story] = {}
    for story in stories:
        plots.setdefault(str(_attributes(story)[0]["plot"]), story)
    return list(plots.values())[:most]


def scene_truth(stories: Sequence[Story], context: int = 4) -> pd.DataFrame:
    """One row per attribute, in percent.

    in the text, in the picture: share of the texts, and of the stories' pictures, that have the attribute. The other
    columns are the accuracy of predicting it for the next frame: two baselines, and the exact ceilings of perfect
    readers of the texts, of the pictures, and of both.
    """
    if not knows_truth(stories):
        return pd.DataFrame()
    ceilings = 100 * truth.ceilings(_settings(stories), context)
    parsed_texts = [parse(frame.text) for story in stories for frame in story.frames]
    visible = []
    for story in stories:
        in_picture = frozenset(_attributes(story)[0]["in_picture"])
        visible.append(truth.visible("pictures", frozenset(), in_picture) | {"action"})
    rows = {}
    for name in ceilings.index:
        rows[name] = {
            "in the text": 100 * np.mean([name in attributes for attributes in parsed_texts]),
            "in the picture": 100 * np.mean([VISIBLE_WITH.get(name, name) in names for names in visible]),
            "copy-last": ceilings.loc[name, "copy_last"],
            "majority": ceilings.loc[name, "majority"],
        }
        for reader in ("text", "pictures", "both"):
            rows[name][f"ceiling, {reader}"] = ceilings.loc[name, reader]
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attribute")


def attribute_accuracy(
    rows: pd.DataFrame,
    stories: Sequence[Story],
    training_stories: Sequence[Story],
    context: int = 4,
    drawn: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """One row per attribute of the next scene, in percent.

    rows: one per window and seed, with the columns story, frame, seed, generation, retrieved_story and retrieved_frame:
    ``Run.model_rows`` of one or more runs. stories: all stories. training_stories: of the majority baseline.
    drawn: the drawn and the true picture of each row, (N, S, S, 3) bytes each.

    written: what the generated text states, according to Storyworld's parser; an attribute that it does not state is
    wrong. retrieved: what is true of the retrieved frame. drawn: what a probe reads off the drawn picture; probe: off
    the true one, which bounds the former. Intervals are over stories and seeds. copy-last, majority: baselines on the
    same windows. ceiling: exact accuracy of perfect readers of text, pictures, and both.
    """
    if not knows_truth(stories):
        return pd.DataFrame()
    by_frame = {}
    for story in stories:
        for frame, attributes in zip(story.frames, _attributes(story), strict=True):
            by_frame[story.id, frame.number] = attributes
    windows = list(zip(rows["story"], rows["frame"].astype(int), strict=True))
    retrieved_frames = zip(rows["retrieved_story"], rows["retrieved_frame"].astype(int), strict=True)
    targets = [by_frame[window] for window in windows]
    last_frames = [by_frame[story, number - 1] for story, number in windows]
    predictions = {
        "written": [parse(str(text)) for text in rows["generation"]],
        "retrieved": [by_frame[frame] for frame in retrieved_frames],
    }
    if drawn is not None:
        from storylib.sources.storyworld.probe import read_pictures  # needs torch

        predictions |= dict(zip(("drawn", "probe"), map(read_pictures, drawn), strict=True))
    ceilings = 100 * truth.ceilings(_settings(stories), context)
    majority = most_common([a for story in training_stories for a in _attributes(story)], list(ceilings.index))
    story_ids, seeds = rows["story"].to_numpy(), rows["seed"].to_numpy()
    table = {}
    for name in ceilings.index:
        row: dict[str, Any] = {}
        for column, predicted in predictions.items():
            if column in ("drawn", "probe") and name not in predicted[0]:  # the probe does not judge it
                continue
            correct = 100 * _correct(name, predicted, targets)
            sums = story_sums(np.stack([correct, np.ones_like(correct)], axis=1), story_ids, seeds)
            row[column], low, high = interval(sums, lambda s: s[..., 0] / s[..., 1], (0, 100))
            row[f"{column}, 95 %"] = f"{low:.0f} to {high:.0f}"
        row["copy-last"] = 100 * _correct(name, last_frames, targets).mean()
        row["majority"] = 100 * _correct(name, [majority] * len(targets), targets).mean()
        for reader in ("text", "pictures", "both"):
            row[f"ceiling, {reader}"] = ceilings.loc[name, reader]
        table[name] = row
    return pd.DataFrame(table).T.infer_objects().rename_axis("attribute")


def _settings(stories: Sequence[Story]) -> Settings:
    """The default world with as many chapters as these stories have."""
    return Settings(chapters=max((len(plots_of(story)) for story in stories), default=1))


def most_common(attributes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The majority value of each attribute."""
    return {name: Counter(scene[name] for scene in attributes).most_common(1)[0][0] for name in names}


def _attributes(story: Story) -> list[dict[str, Any]]:
    return [frame.attributes or {} for frame in story.frames]


def _correct(name: str, predicted: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """1 where the predicted value of an attribute is that of the target, else 0."""
    pairs = zip(predicted, targets, strict=True)
    return np.array([prediction.get(name, NOT_STATED) == target[name] for prediction, target in pairs], dtype=float)
