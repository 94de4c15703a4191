"""A reader's own story: four pictures with a line each, and the bundled storyteller that predicts the next frame."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from storylib.data.pictures import PictureError, open_picture, pictures_in
from storylib.data.types import Frame, Story
from storylib.experiments.records import load_run
from storylib.sources import load_stories, one_line

if TYPE_CHECKING:
    from storylib.experiments.storyteller import KnownPictures, Storyteller

BUNDLED = Path(__file__).with_name("bundled")


class YourStoryError(ValueError):
    """Pictures and lines from which no frame can be predicted; the message says what to change."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message without a traceback."""
        return [str(self)]


def load_storyteller(run: str = "bundled") -> tuple[Storyteller, KnownPictures]:
    """A trained storyteller, and the pictures among which it looks for the nearest. Raises RunError.

    run: "bundled", which needs no training, or the id of a run.
    """
    from safetensors.torch import load_file

    from storylib.experiments.runs import prepare
    from storylib.experiments.storyteller import KnownPictures, Storyteller

    check_texts(run=run)
    if run != "bundled":
        trained = load_run(run)
        data = prepare(trained.config)
        return Storyteller.of_run(trained), KnownPictures.of(data.splits.test, data.features)
    storyteller = Storyteller.from_pretrained(BUNDLED)
    vectors = load_file(BUNDLED / "known.safetensors")["vectors"].float()
    return storyteller, KnownPictures(vectors, read_frames(BUNDLED / "known.parquet"))


def read_context(pictures: str = "example", lines: str = "") -> list[Frame]:
    """Four frames of a reader's own, in the order of their story.

    pictures: "example", four frames of a Storyworld story; "upload", which asks for files on Google Colab; a folder,
    whose pictures are taken in the order of their names; or paths separated by commas. lines: the text of each picture,
    separated by " | ". Raises YourStoryError if there are not four of each, or if a picture cannot be read.
    """
    check_texts(pictures=pictures, lines=lines)
    if pictures == "example":
        (story,) = load_stories("storyworld", limit=1)
        return list(story.frames[:4])
    files = upload() if pictures == "upload" else picture_files(pictures)
    texts = [one_line(line) for line in lines.split("|") if one_line(line)]
    if (len(files), len(texts)) != (4, 4):
        hint = "Give four pictures in the order of the story, and a line for each, separated by |."
        raise YourStoryError(f"These are {len(files)} pictures and {len(texts)} lines. {hint}")
    frames = []
    for number, (file, text) in enumerate(zip(files, texts, strict=True), 1):
        try:
            frames.append(Frame(open_picture(file), text, number))
        except PictureError as error:
            raise YourStoryError(f"Picture {number} cannot be used. {error}.") from None
    return frames


def picture_files(pictures: str) -> list[Path]:
    """The pictures of a folder, by name, or the files of a list separated by commas. Raises YourStoryError."""
    folder = os.path.expanduser(pictures)
    if os.path.isdir(folder):
        return pictures_in(Path(folder))
    files, name = [], ""
    for part in pictures.split(","):
        name += f",{part}" if name else part.lstrip()
        file = os.path.expanduser(name.rstrip())
        if os.path.isfile(file):  # otherwise the comma may be part of its name
            files.append(Path(file))
            name = ""
    if name:
        raise YourStoryError(f"There is no picture {name.split(',')[0]}. Relative paths start at {Path.cwd()}.")
    return files


def check_texts(**parameters: object) -> None:
    """Raise YourStoryError for a parameter that is no text; ``papermill -p`` makes 2024 a number."""
    for name, value in parameters.items():
        if not isinstance(value, str):
            raise YourStoryError(f"{name} is a text, not {value!r}: write it in quotes, or give papermill -r, not -p.")


def upload() -> list[Path]:
    """Ask for files on Google Colab; they are saved in the current folder."""
    try:
        from google.colab import files  # type: ignore[import-not-found]
    except ImportError:
        raise YourStoryError('pictures = "upload" works on Google Colab only: give a folder or four paths.') from None
    return [Path(name) for name in files.upload()]


def read_frames(path: Path) -> list[tuple[Story, Frame]]:
    """Frames that ``benchmarks.bundle`` wrote; each story has only the frame that it is paired with."""
    frames = []
    for row in pd.read_parquet(path).to_dict("records"):
        frame = Frame(open_picture(Image.open(io.BytesIO(row["picture"]))), row["text"], row["frame"])
        frames.append((Story(row["story"], row["title"], (frame,), row["licence"], row["credit"]), frame))
    return frames
