"""Every test window of the trained arms on one HTML page without other files: context, target and predictions."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from storylib.config import configure, experiments, seeds
from storylib.data.pictures import PictureLike, open_picture
from storylib.data.store import write_atomically
from storylib.experiments.records import Run
from storylib.experiments.studies import ablation_factor
from storylib.report.style import MORE, OFF, ON, beside_samples

if TYPE_CHECKING:
    from storylib.experiments.runs import Data

SIZES = (160, 128, 96, 72, 48, 32)  # pixels of a picture's longer side; the largest that fits the limit is used
LIMIT = 3_000_000  # bytes of the page
RANKS = {"frame": "frame", "image": "picture", "text": "text", "frame_in_story": "frame, in-story"}


def make_gallery(source: str, profile: str, path: Path) -> Path:
    """Write the gallery of all arms, with the first seed of the profile. Missing runs are trained."""
    from storylib.experiments.runs import evaluate_run, prepare, train

    configs = {arm: configure(profile, arm, source=source, seed=seeds(profile)[0]) for arm in experiments()["arms"]}
    data = prepare(next(iter(configs.values())))
    runs = {arm: evaluate_run(train(config, data), data) for arm, config in configs.items()}
    return write_gallery(runs, data, path)


def write_gallery(runs: Mapping[str, Run], data: Data, path: Path) -> Path:
    """One HTML page with every test window and what each run predicted.

    runs: by the name of their arm, all evaluated on the same windows. Pictures are made smaller, down to the least of
    ``SIZES``, until the page has at most ``LIMIT`` bytes, and the page says so.
    """
    facts = contents(runs, data)
    template = Path(__file__).with_name("gallery.html").read_text(encoding="utf-8")
    for size in SIZES:
        facts |= {"size": size, "smaller": size < SIZES[0]}
        encoded = json.dumps(facts, ensure_ascii=False, default=partial(data_uri, size=size))
        # "</script>" or "<!--" in a story would end the data; JSON reads the escape as the same text.
        encoded = encoded.replace("<", "\\u003c")
        page = template.replace("{facts}", encoded, 1).replace("{title}", html.escape(facts["source"]), 1)
        if len(page.encode()) <= LIMIT:
            break
    write_atomically(path, page)
    return path


def contents(runs: Mapping[str, Run], data: Data) -> dict[str, Any]:
    """The data of the page, ready for JSON except for its pictures. Frames and stories are referred to by number."""
    config = next(iter(runs.values())).config.data
    tables = {arm: window_table(run) for arm, run in runs.items()}
    numbers: dict[tuple[str, int], int] = {}  # (story, frame) -> number, in the order of first use

    def number(story: str, frame: int) -> int:
        return numbers.setdefault((story, int(frame)), len(numbers))

    windows: list[dict[str, Any]] = []
    for story, frame in next(iter(tables.values())).index:
        context = [number(story, frame - steps) for steps in range(config.context, 0, -1)]
        windows.append({"context": context, "target": number(story, frame), "arms": []})
    for arm, table in tables.items():
        pictures = runs[arm].pictures
        for window, row in zip(windows, table.to_dict("records"), strict=True):
            retrieved = number(row["retrieved_story"], row["retrieved_frame"])
            picture = beside_samples(pictures[int(row["picture"])])
            facts = {"text": row["generation"] or "", "picture": picture, "retrieved": retrieved, "ranks": ranks(row)}
            window["arms"].append(facts)
    frames = {(story.id, frame.number): frame for story in data.stories for frame in story.frames}
    shown = list(dict.fromkeys(story for story, _ in numbers))
    stories = {story.id: story for story in data.stories}
    credits = {name: " · ".join(filter(None, (stories[name].credit, stories[name].licence))) for name in shown}
    arms = dict.fromkeys([*ablation_factor().arms, *runs])  # these two first: they have the same colours on every page
    colours = dict(zip(arms, cycle((ON, OFF, *MORE)), strict=False))
    return {
        "source": config.source,
        "arms": [{"name": arm, "run": run.id, "colour": colours[arm]} for arm, run in runs.items()],
        "ranks": list(RANKS.values()),
        "stories": [{"title": stories[name].title, "credit": credits[name]} for name in shown],
        "frames": [
            {"story": shown.index(key[0]), "number": key[1], "text": frames[key].text, "picture": frames[key].image}
            for key in numbers
        ],
        "windows": windows,
    }


def ranks(row: Mapping[Any, Any]) -> dict[str, list[float]]:
    """[rank of the target, number of candidates] of each kind of retrieval that the run was scored on."""
    scored = {name: title for name, title in RANKS.items() if not np.isnan(row[f"{name}_rank"])}
    return {title: [row[f"{name}_rank"], int(row[f"{name}_candidates"])] for name, title in scored.items()}


def window_table(run: Run) -> pd.DataFrame:
    """The model's rows that are targets of a window, by story and frame, in the order of the stories."""
    rows = run.model_rows.dropna(subset=["picture"])
    return rows.assign(frame=rows["frame"].astype(int)).set_index(["story", "frame"]).sort_index()


def data_uri(image: PictureLike, size: int) -> str:
    """A small picture as text."""
    picture, data = open_picture(image), io.BytesIO()
    picture.thumbnail((size, size))
    picture.save(data, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
