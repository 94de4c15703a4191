"""A reader's own story: four pictures with a line each, and a storyteller that goes on with them.

python -m storylib.your_story           make the bundled storyteller anew (minutes): storylib/bundled, below 5 MB
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from storylib.config import Config, ConfigError, configure
from storylib.pictures import PictureError, open_picture
from storylib.prediction import Known, NextFrame, Storyteller
from storylib.runs import load_run, prepare, train
from storylib.sources import load_stories
from storylib.stories import Frame, Story

BUNDLED = Path(__file__).with_name("bundled")
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
SMALL: dict[str, Any] = {
    "source": "storyworld",
    "width": 128,
    "text_decoder": "gpt2-tiny",
    "epochs": 20,
    "device": "cpu",
}


class YourStoryError(ValueError):
    """Pictures and lines that a storyteller cannot go on with; the message says what to change."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, without the code that found the fault."""
        return [str(self)]


def storyteller(run: str = "bundled") -> tuple[Storyteller, Known]:
    """A trained storyteller, and the pages among which it looks for the nearest.

    run: "bundled", which needs no training, or the name of a run in ``runs/``.
    Raises RunError, and YourStoryError if the bundled one no longer fits the code.
    """
    if run != "bundled":
        found = load_run(run)
        return found.storyteller, found.known
    try:
        teller = Storyteller.from_pretrained(BUNDLED)
    except RuntimeError as error:  # of torch: the weights do not fit the model
        way_out = "Make it anew: python -m storylib.your_story (minutes)."
        raise YourStoryError(f"The bundled storyteller was made by older code than this model's. {way_out}") from error
    vectors = load_file(BUNDLED / "known.safetensors")["vectors"].float()
    return teller, Known(vectors, read_places(BUNDLED / "known.parquet"))


def your_pages(pictures: str = "example", lines: str = "") -> list[Frame]:
    """Four frames of a reader's own, in the order of their story.

    pictures: "example", four pages of a Storyworld story; "upload", which asks for files where Google Colab runs; a
    folder, whose pictures are taken in the order of their names; or paths with commas between them.
    lines: the text of each picture, with " | " between them.
    Raises YourStoryError if there are not four, or if one cannot be read or says nothing.
    """
    if pictures == "example":
        (story,) = load_stories("storyworld", limit=1)
        return list(story.frames[:4])
    files = upload() if pictures == "upload" else listed(pictures)
    texts = [line.strip() for line in lines.split("|")] if lines.strip() else []
    for what, given, way_out in (
        ("Pictures", files, "Give exactly four, in the order of the story."),
        ("Lines of text", texts, "Write one for each picture, with | between them."),
    ):
        if len(given) != 4:
            raise YourStoryError(f"{what}: {len(given)}, but a story goes on from four. {way_out}")
    frames = []
    for place, (file, text) in enumerate(zip(files, texts, strict=True), 1):
        if not text:
            raise YourStoryError(f"Picture {place} ({file.name}) has no line: say in a sentence what happens on it.")
        try:
            frames.append(Frame(open_picture(file), text, place))
        except PictureError as error:
            raise YourStoryError(f"Picture {place} cannot be used. {error}.") from None
    return frames


def listed(pictures: str) -> list[Path]:
    """Paths that are there: those of a folder by name, or those with commas between them."""
    folder = Path(pictures).expanduser()
    if folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    files = [Path(name.strip()).expanduser() for name in pictures.split(",") if name.strip()]
    for file in files:
        if not file.is_file():
            raise YourStoryError(f"There is no picture {file}. Folders and files are looked for from {Path.cwd()}.")
    return files


def upload() -> list[Path]:
    """Ask for files on Google Colab; they land in the current folder."""
    try:
        from google.colab import files  # type: ignore[import-not-found]
    except ImportError:
        raise YourStoryError('pictures = "upload" works on Google Colab only: give a folder or four paths.') from None
    return [Path(name) for name in files.upload()]


@dataclasses.dataclass(frozen=True)
class Told:
    """How a storyteller goes on: the next frame, and known pages, the nearest to what it expects first."""

    pages: list[Frame]
    next: NextFrame
    nearest: list[tuple[Frame, Story, float]]


def tell(teller: Storyteller, known: Known, pages: Sequence[Frame], n: int = 3, **options: Any) -> Told:
    """Go on with four pages.

    n: how many of the nearest known pages. options: for the text, see ``Storyteller.predict``.
    """
    images, texts = [page.image for page in pages], [page.text for page in pages]
    following = teller.predict(images, texts, **options)
    with torch.inference_mode():
        batch = teller.read(images, texts)
        expected = teller.model.read(batch["image"], batch["text"], teller.model.texts(batch))["next_image"][0]
        nearest: list[tuple[Frame, Story, float]] = []
        rest = known
        while len(nearest) < n and rest.places:
            found = teller.nearest(expected, batch["image"][0], rest)
            if not found:
                break
            nearest.append(found)
            kept = [i for i, (story, frame) in enumerate(rest.places) if (story, frame) != (found[1], found[0])]
            rest = Known(rest.vectors[kept], [rest.places[i] for i in kept])
    return Told(list(pages), following, nearest)


def make_bundle(folder: Path, config: Config) -> int:
    """Train the small storyteller and write it with the pages of its test stories; the bytes that it takes."""
    data = prepare(config)
    run = train(config, data)
    teller, known = run.storyteller, Known.of(data.splits.test, data.features)
    shutil.rmtree(folder, ignore_errors=True)
    teller.half().save_pretrained(folder)
    save_file({"vectors": known.vectors.half()}, folder / "known.safetensors")
    write_places(known.places, folder / "known.parquet")
    return sum(file.stat().st_size for file in folder.iterdir())


def write_places(places: Sequence[tuple[Story, Frame]], path: Path, size: int = 96) -> None:
    """Pages of some stories in one file, their pictures made small: the longer side has ``size`` pixels."""
    rows = []
    for story, frame in places:
        picture, data = open_picture(frame.image), io.BytesIO()
        picture.thumbnail((size, size))
        picture.save(data, "JPEG", quality=75)
        said = {"story": story.id, "title": story.title, "licence": story.licence, "credit": story.credit}
        rows.append(said | {"page": frame.page, "text": frame.text, "picture": data.getvalue()})
    pd.DataFrame(rows).to_parquet(path, index=False)


def read_places(path: Path) -> list[tuple[Story, Frame]]:
    """What ``write_places`` wrote; a story has only the page that it stands beside."""
    places = []
    for row in pd.read_parquet(path).to_dict("records"):
        frame = Frame(open_picture(Image.open(io.BytesIO(row["picture"]))), row["text"], row["page"])
        places.append((Story(row["story"], row["title"], (frame,), row["licence"], row["credit"]), frame))
    return places


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.your_story", description=__doc__)
    parser.add_argument("--folder", type=Path, default=BUNDLED)
    parser.add_argument("--profile", default="quick")
    options = parser.parse_args(arguments)
    try:
        size = make_bundle(options.folder, configure(options.profile, **SMALL))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.folder}: {size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
