"""Storyworld knows what is true of every scene: does the next frame that a model writes and finds show it?

Accuracy of each attribute, beside floors and beside the exact ceiling of a perfect reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from storylib.runs import Data, Run
from storylib.statistics import interval, story_sums
from storylib.stories import Story


def scene_truth(stories: Sequence[Story], context: int = 4) -> pd.DataFrame:
    """One row an attribute of a scene, in percent; empty for stories whose truth is not known.

    told: share of the texts that tell it; shown: share of the stories whose pictures do. The rest is about predicting
    it for the next frame: two floors, and the exact ceilings of perfect readers of the text, the pictures, and both.
    """
    if not knows_truth(stories):
        return pd.DataFrame()
    from storylib.sources.storyworld import parse, truth

    ceilings = 100 * truth.ceilings(context=context)
    texts = [parse(frame.text) for story in stories for frame in story.frames]
    first: list[Any] = [story.frames[0].attributes for story in stories]
    seen = [truth.visible("pictures", frozenset(), frozenset(a["shown"])) | {"action"} for a in first]
    table: dict[str, Any] = {
        "told": {name: 100 * np.mean([name in told for told in texts]) for name in ceilings.index},
        "shown": {name: 100 * np.mean([_SHOWN_WITH.get(name, name) in s for s in seen]) for name in ceilings.index},
    }
    table |= {"copy-last": ceilings["copy_last"], "majority": ceilings["majority"]}
    table |= {f"ceiling, {reader}": ceilings[reader] for reader in ("text", "pictures", "both")}
    return pd.DataFrame(table, index=ceilings.index)


_SHOWN_WITH = {"with": "who", "state": "object"}  # who shows the hero shows the companion; an object shows its state


def knows_truth(stories: Sequence[Story]) -> bool:
    """Whether every scene says what is true of it: only Storyworld's do."""
    return all(f.attributes and "told" in f.attributes for s in stories for f in s.frames)


def one_of_each_plot(stories: Sequence[Story], most: int = 10) -> list[Story]:
    """The first story of every plot, or stories from all over the list where plots are not known."""
    if not knows_truth(stories):
        return list(stories[:: max(1, len(stories) // 3)][:3])
    plots: dict[str, Story] = {}
    for story in stories:
        plots.setdefault(str((story.frames[0].attributes or {})["plot"]), story)
    return list(plots.values())[:most]


def attribute_accuracy(runs: Sequence[Run], data: Data) -> pd.DataFrame:
    """One row an attribute of the next scene, in percent; empty for stories whose truth is not known.

    written: what the generated text says, read by Storyworld's own parser; what it does not say counts as wrong.
    retrieved: what is true of the page that the model would turn to. Intervals are over stories and seeds.
    copy-last, majority: floors, on the same windows. text, pictures, both: ceilings of perfect readers.
    """
    truths = {(s.id, f.page): f.attributes for s in data.stories for f in s.frames}
    if not knows_truth(data.stories):
        return pd.DataFrame()
    from storylib.sources.storyworld import parse, truth

    rows = pd.concat([r.model_rows.assign(seed=r.config.train.seed) for r in runs]).dropna(subset=["retrieved_page"])
    keys = list(zip(rows["story"], rows["page"].astype(int), strict=True))
    target: list[Any] = [truths[key] for key in keys]
    last: list[Any] = [truths[story, page - 1] for story, page in keys]
    found = zip(rows["retrieved_story"], rows["retrieved_page"].astype(int), strict=True)
    guesses: dict[str, list[Any]] = {
        "written": [parse(str(text)) for text in rows["generation"]],
        "retrieved": [truths[key] for key in found],
    }
    ceilings = truth.ceilings(context=runs[0].config.data.context)
    common = most_common(
        [f.attributes for s in data.splits.train for f in s.frames if f.attributes], list(ceilings.index)
    )
    groups = rows["story"].to_numpy(), rows["seed"].to_numpy()
    table = {}
    for name in ceilings.index:
        row: dict[str, Any] = {}
        for what, guess in guesses.items():
            right = np.array(
                [g.get(name, _NOTHING) == t[name] for g, t in zip(guess, target, strict=True)], dtype=float
            )
            sums = story_sums(np.stack([100 * right, np.ones_like(right)], axis=1), *groups)
            estimate = interval(sums, lambda s: s[..., 0] / s[..., 1])
            row[what] = estimate.value
            row[f"{what}, 95 %"] = f"{estimate.low:.0f} to {estimate.high:.0f}"
        row["copy-last"] = 100 * np.mean([a[name] == t[name] for a, t in zip(last, target, strict=True)])
        row["majority"] = 100 * np.mean([t[name] == common[name] for t in target])
        row |= {f"ceiling, {reader}": 100 * ceilings.loc[name, reader] for reader in ("text", "pictures", "both")}
        table[name] = row
    return pd.DataFrame(table).T.infer_objects().rename_axis("attribute")


_NOTHING = object()  # equal to no value, not even to None, which says that there is no such thing


def most_common(attributes: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The majority value of each attribute."""
    return {name: Counter(a[name] for a in attributes).most_common(1)[0][0] for name in names}
