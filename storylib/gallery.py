"""Every held-out window of the trained arms on one page that needs no other file: given, true, written, drawn, found.

python -m storylib.gallery --output gallery.html --source storyworld --profile quick
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from storylib.config import ConfigError, configure, experiments, seeds
from storylib.pictures import PictureLike, open_picture, write_atomically
from storylib.plots import arm_colours
from storylib.runs import Data, Run, RunError, evaluate_run, prepare, train
from storylib.stories import Story

SIZES = (160, 128, 96, 72, 48, 32)  # pixels of a picture's longer side: the largest that the limit allows is taken
LIMIT = 3_000_000  # bytes of the page
RANKS = {"page": "page", "image": "picture", "text": "text", "page_story": "page, in its story"}


def write_gallery(runs: Mapping[str, Run], data: Data, path: Path, limit: int = LIMIT) -> Path:
    """One HTML page of every test window, with what each run made of it.

    runs: the runs to show, by the name of their arm; all evaluated on the same windows.
    limit: bytes of the page; the pictures are made smaller until it fits, and the page says so.
    Raises RunError when even the smallest pictures do not fit.
    """
    facts = contents(runs, data)
    pictures: Sequence[PictureLike] = facts.pop("pictures")
    template = Path(__file__).with_name("gallery.html").read_text(encoding="utf-8")
    for size in SIZES:
        facts["size"], facts["smaller"] = size, size < SIZES[0]
        facts["pictures"] = [data_uri(picture, size) for picture in pictures]
        # "</script>" or "<!--" in a story would end the data; as an escape it is only text again for JSON.
        written = json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c")
        page = template.replace("{title}", html.escape(facts["source"])).replace("{facts}", written)
        if len(page.encode()) <= limit:
            write_atomically(path, page)
            return path
    raise RunError(
        f"{len(facts['windows'])} windows do not fit into {limit:,} bytes even with pictures of {SIZES[-1]} pixels: "
        f"show fewer arms or give write_gallery a larger limit"
    )


def contents(runs: Mapping[str, Run], data: Data) -> dict[str, Any]:
    """What the page knows, ready for JSON except for ``pictures``; pages and pictures are named by their numbers."""
    first = next(iter(runs.values()))
    context = first.config.data.context
    tables = {arm: shown_windows(run) for arm, run in runs.items()}
    keys = next(iter(tables.values())).index
    if any(not table.index.equals(keys) for table in tables.values()):
        raise RunError("the runs were not evaluated on the same windows, so they cannot be shown side by side")
    titles = {story.id: story for story in data.stories}
    frames = {(story.id, frame.page): frame for story in data.stories for frame in story.frames}
    pages: dict[tuple[str, int], int] = {}  # (story, page) -> number, in the order of first use
    pictures: list[PictureLike] = []

    def number(story: str, page: int) -> int:
        return pages.setdefault((story, int(page)), len(pages))

    windows: list[dict[str, Any]] = [
        {
            "context": [number(story, page - context + i) for i in range(context)],
            "truth": number(story, page),
            "arms": [],
        }
        for story, page in keys
    ]
    for table in tables.values():
        for window, row in zip(windows, table.to_dict("records"), strict=True):
            ranks = {
                title: [row[f"{name}_rank"], int(row[f"{name}_candidates"])]
                for name, title in RANKS.items()
                if not np.isnan(row[f"{name}_rank"])
            }
            found = number(row["retrieved_story"], row["retrieved_page"])
            window["arms"].append({"written": row["generation"] or "", "found": found, "ranks": ranks})
    shown = list(dict.fromkeys(story for story, _ in pages))
    told = [
        {"story": shown.index(story), "page": page, "text": frames[story, page].text, "picture": i}
        for i, (story, page) in enumerate(pages)
    ]
    pictures += [frames[key].image for key in pages]
    for position, (arm, run) in enumerate(runs.items()):
        drawn = np.load(run.path / "pictures.npy", mmap_mode="r")
        for window, row in zip(windows, tables[arm]["picture"], strict=True):
            window["arms"][position]["drawn"] = len(pictures)
            pictures.append(Image.fromarray(np.asarray(drawn[int(row)])))
    return {
        "source": first.config.data.source,
        "arms": [
            {"name": arm, "run": run.id, "colour": colour}
            for (arm, run), colour in zip(runs.items(), arm_colours(list(runs)).values(), strict=True)
        ],
        "ranks": list(RANKS.values()),
        "stories": [{"title": titles[s].title, "credit": owed(titles[s])} for s in shown],
        "pages": told,
        "windows": windows,
        "pictures": pictures,
    }  # fmt: skip


def owed(story: Story) -> str:
    """Whom a story is owed to, and its licence, as far as they are known."""
    return " · ".join(part for part in (story.credit, story.licence) if part)


def shown_windows(run: Run) -> pd.DataFrame:
    """The model's rows that end a window, by story and page, in the order of the stories."""
    rows = run.model_rows.dropna(subset=["picture"])
    return rows.assign(page=rows["page"].astype(int)).set_index(["story", "page"]).sort_index()


def data_uri(image: PictureLike, size: int) -> str:
    """A small picture as text: WebP, or JPEG where Pillow was built without it."""
    picture = open_picture(image)
    picture.thumbnail((size, size))
    Image.init()
    kind = "WEBP" if "WEBP" in Image.SAVE else "JPEG"
    data = io.BytesIO()
    picture.save(data, kind, quality=70)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.gallery", description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--profile", default="quick")
    options = parser.parse_args(arguments)
    try:
        seed = seeds(options.profile)[0]  # one seed of each arm; the metrics are about all of them
        configs = {
            arm: configure(options.profile, arm, source=options.source, seed=seed) for arm in experiments()["arms"]
        }
        data = prepare(next(iter(configs.values())))
        runs = {arm: evaluate_run(train(config, data), data) for arm, config in configs.items()}
        write_gallery(runs, data, options.output)
    except (ConfigError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
