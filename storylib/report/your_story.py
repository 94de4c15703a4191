"""A reader's own story: four pictures with a line each, and the bundled storyteller that predicts the next frame."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from PIL import Image

from storylib.config import configure
from storylib.data.pictures import PictureError, open_picture
from storylib.data.types import Frame, Story
from storylib.experiments.records import load_run
from storylib.sources import load_stories

if TYPE_CHECKING:
    from storylib.experiments.storyteller import KnownPictures, Storyteller

BUNDLED = Path(__file__).with_name("bundled")
SIZE = 96  # pixels of the longer side of a known picture
COLUMNS = ["story", "title", "licence", "credit", "frame", "text", "picture"]  # of the file of known frames
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


class YourStoryError(ValueError):
    """Pictures and lines from which no frame can be predicted; the message says what to change."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message without a traceback."""
        return [str(self)]


def load_storyteller(run: str = "bundled") -> tuple[Storyteller, KnownPictures]:
    """A trained storyteller, and the pictures among which it looks for the nearest. Raises RunError or YourStoryError.

    run: "bundled", which needs no training, or the id of a run.
    """
    from safetensors.torch import load_file

    from storylib.experiments.runs import prepare
    from storylib.experiments.storyteller import KnownPictures, Storyteller

    if run != "bundled":
        trained = load_run(run)
        data = prepare(trained.config)
        return Storyteller.of_run(trained), KnownPictures.of(data.splits.test, data.features)
    try:
        storyteller = Storyteller.from_pretrained(BUNDLED)
    except RuntimeError as error:  # from torch: the weights do not fit the model
        message = "The bundled storyteller does not fit this version; `storylib bundle` trains it again (minutes)."
        raise YourStoryError(message) from error
    vectors = load_file(BUNDLED / "known.safetensors")["vectors"].float()
    return storyteller, KnownPictures(vectors, read_frames(BUNDLED / "known.parquet"))


def read_context(pictures: str = "example", lines: str = "") -> list[Frame]:
    """Four frames of a reader's own, in the order of their story.

    pictures: "example", four frames of a Storyworld story; "upload", which asks for files on Google Colab; a folder,
    whose pictures are taken in the order of their names; or paths separated by commas. lines: the text of each picture,
    separated by " | ". Raises YourStoryError if there are not four, if a picture cannot be read or if a line is empty.
    """
    if pictures == "example":
        (story,) = load_stories("storyworld", limit=1)
        return list(story.frames[:4])
    files = upload() if pictures == "upload" else picture_files(pictures)
    texts = [line.strip() for line in lines.split("|") if lines.strip()]
    if len(files) != 4:
        raise YourStoryError(f"A context has four pictures, not {len(files)}. Give them in the order of the story.")
    if len(texts) != 4:
        raise YourStoryError(f"A context has four lines, not {len(texts)}. Write one per picture, separated by |.")
    frames = []
    for number, (file, text) in enumerate(zip(files, texts, strict=True), 1):
        if not text:
            raise YourStoryError(f"Picture {number} ({file.name}) has no line. Write a sentence about it.")
        try:
            frames.append(Frame(open_picture(file), text, number))
        except PictureError as error:
            raise YourStoryError(f"Picture {number} cannot be used. {error}.") from None
    return frames


def picture_files(pictures: str) -> list[Path]:
    """The pictures of a folder, by name, or the files of a list separated by commas. Raises YourStoryError."""
    folder = Path(pictures).expanduser()
    if folder.is_dir():
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    files = [Path(name.strip()).expanduser() for name in pictures.split(",") if name.strip()]
    for file in files:
        if not file.is_file():
            raise YourStoryError(f"There is no picture {file}. Relative paths start at {Path.cwd()}.")
    return files


def upload() -> list[Path]:
    """Ask for files on Google Colab; they are saved in the current folder."""
    try:
        from google.colab import files  # type: ignore[import-not-found]
    except ImportError:
        raise YourStoryError('pictures = "upload" works on Google Colab only: give a folder or four paths.') from None
    return [Path(name) for name in files.upload()]


def make_bundle(profile: str = "quick", folder: Path | None = None) -> int:
    """Train the small storyteller and write it with the frames of its test stories; returns the bytes on disk."""
    from safetensors.torch import save_file

    from storylib.experiments.runs import prepare, train
    from storylib.experiments.storyteller import KnownPictures, Storyteller

    folder = folder or BUNDLED
    config = configure(profile, source="storyworld", width=128, text_decoder="gpt2-tiny", epochs=20, device="cpu")
    data = prepare(config)
    storyteller = Storyteller.of_run(train(config, data))
    known = KnownPictures.of(data.splits.test, data.features)
    shutil.rmtree(folder, ignore_errors=True)
    storyteller.half().save_pretrained(folder)
    save_file({"vectors": known.vectors.half()}, folder / "known.safetensors")
    write_frames(known.sources, folder / "known.parquet")
    return sum(file.stat().st_size for file in folder.iterdir())


def write_frames(frames: Sequence[tuple[Story, Frame]], path: Path) -> None:
    """Frames with their stories in one file. The longer side of each picture is reduced to ``SIZE`` pixels."""
    rows = []
    for story, frame in frames:
        picture, data = open_picture(frame.image), io.BytesIO()
        picture.thumbnail((SIZE, SIZE))
        picture.save(data, "JPEG", quality=75)
        rows.append((story.id, story.title, story.licence, story.credit, frame.number, frame.text, data.getvalue()))
    pd.DataFrame(rows, columns=COLUMNS).to_parquet(path, index=False)


def read_frames(path: Path) -> list[tuple[Story, Frame]]:
    """What ``write_frames`` wrote; each story has only the frame that it is paired with."""
    frames = []
    for row in pd.read_parquet(path).to_dict("records"):
        frame = Frame(open_picture(Image.open(io.BytesIO(row["picture"]))), row["text"], row["frame"])
        frames.append((Story(row["story"], row["title"], (frame,), row["licence"], row["credit"]), frame))
    return frames
