"""Every test window of the trained arms on one HTML page without other files: context, target and predictions."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from storylib.config import configure, experiments, seeds
from storylib.data.pictures import PictureLike, open_picture
from storylib.data.store import write_atomically
from storylib.data.types import Story
from storylib.experiments.provenance import RunError
from storylib.experiments.records import Run
from storylib.report.style import arm_colours

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

    runs: by the name of their arm, all evaluated on the same windows. Pictures are made smaller until the page has at
    most ``LIMIT`` bytes, and the page says so. Raises RunError when even the smallest pictures do not fit.
    """
    facts = contents(runs, data)
    pictures: Sequence[PictureLike] = facts.pop("pictures")
    template = Path(__file__).with_name("gallery.html").read_text(encoding="utf-8")
    for size in SIZES:
        facts["size"], facts["smaller"] = size, size < SIZES[0]
        facts["pictures"] = [data_uri(picture, size) for picture in pictures]
        # "</script>" or "<!--" in a story would end the data; JSON reads the escape as the same text.
        encoded = json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c")
        page = template.replace("{facts}", encoded, 1).replace("{title}", html.escape(facts["source"]), 1)
        if len(page.encode()) <= LIMIT:
            write_atomically(path, page)
            return path
    windows = len(facts["windows"])
    raise RunError(f"{windows} windows do not fit into {LIMIT:,} bytes, even with small pictures: show fewer arms")


def contents(runs: Mapping[str, Run], data: Data) -> dict[str, Any]:
    """The data of the page, ready for JSON except for ``pictures``. Frames and pictures are referred to by number."""
    first = next(iter(runs.values()))
    tables = {arm: window_table(run) for arm, run in runs.items()}
    targets = next(iter(tables.values())).index
    if any(not table.index.equals(targets) for table in tables.values()):
        raise RunError("the runs were not evaluated on the same windows, so they cannot be shown side by side")
    numbers: dict[tuple[str, int], int] = {}  # (story, frame) -> number, in the order of first use

    def number(story: str, frame: int) -> int:
        return numbers.setdefault((story, int(frame)), len(numbers))

    windows: list[dict[str, Any]] = []
    for story, frame in targets:
        context = [number(story, frame - steps) for steps in range(first.config.data.context, 0, -1)]
        windows.append({"context": context, "target": number(story, frame), "arms": []})
    for table in tables.values():
        for window, row in zip(windows, table.to_dict("records"), strict=True):
            retrieved = number(row["retrieved_story"], row["retrieved_frame"])
            window["arms"].append({"text": row["generation"] or "", "retrieved": retrieved, "ranks": ranks(row)})
    stories = {story.id: story for story in data.stories}
    shown = list(dict.fromkeys(story for story, _ in numbers))
    frames = {(story.id, frame.number): frame for story in data.stories for frame in story.frames}
    pictures: list[PictureLike] = [frames[key].image for key in numbers]
    for position, (arm, run) in enumerate(runs.items()):
        predicted = np.load(run.path / "pictures.npy", mmap_mode="r")
        for window, row in zip(windows, tables[arm]["picture"], strict=True):
            window["arms"][position]["picture"] = len(pictures)
            pictures.append(Image.fromarray(np.asarray(predicted[int(row)])))
    colours = arm_colours(list(runs))
    return {
        "source": first.config.data.source,
        "arms": [{"name": arm, "run": run.id, "colour": colours[arm]} for arm, run in runs.items()],
        "ranks": list(RANKS.values()),
        "stories": [{"title": stories[name].title, "credit": credit_line(stories[name])} for name in shown],
        "frames": [
            {"story": shown.index(story), "number": frame, "text": frames[story, frame].text, "picture": index}
            for (story, frame), index in numbers.items()
        ],
        "windows": windows,
        "pictures": pictures,
    }


def ranks(row: Mapping[Any, Any]) -> dict[str, list[float]]:
    """[rank of the target, number of candidates] of each kind of retrieval that the run was scored on."""
    scored = {name: title for name, title in RANKS.items() if not np.isnan(row[f"{name}_rank"])}
    return {title: [row[f"{name}_rank"], int(row[f"{name}_candidates"])] for name, title in scored.items()}


def credit_line(story: Story) -> str:
    """Credit and licence of a story, as far as they are known."""
    return " · ".join(part for part in (story.credit, story.licence) if part)


def window_table(run: Run) -> pd.DataFrame:
    """The model's rows that are targets of a window, by story and frame, in the order of the stories."""
    rows = run.model_rows.dropna(subset=["picture"])
    return rows.assign(frame=rows["frame"].astype(int)).set_index(["story", "frame"]).sort_index()


def data_uri(image: PictureLike, size: int) -> str:
    """A small picture as text: WebP, or JPEG where Pillow was built without it."""
    picture = open_picture(image)
    picture.thumbnail((size, size))
    Image.init()
    kind = "WEBP" if "WEBP" in Image.SAVE else "JPEG"
    data = io.BytesIO()
    picture.save(data, kind, quality=70)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"
