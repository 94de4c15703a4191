"""Train the small storyteller that comes with storylib, and write it into the package with the frames that it knows.

    python -m benchmarks.bundle [--profile full] [--output FOLDER]

It takes minutes. The default folder is storylib/report/bundled, where ``load_storyteller`` looks for it.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file

from storylib.config import configure
from storylib.data.pictures import open_picture
from storylib.data.types import Frame, Story
from storylib.experiments.runs import prepare, train
from storylib.experiments.storyteller import KnownPictures, Storyteller
from storylib.report.your_story import BUNDLED

SIZE = 96  # pixels of the longer side of a known picture


def make_bundle(profile: str, folder: Path) -> int:
    """Train the storyteller and write it with the frames of its test stories; returns the bytes on disk."""
    config = configure(profile, source="storyworld", width=128, text_decoder="gpt2-tiny", epochs=20, device="cpu")
    data = prepare(config)
    storyteller = Storyteller.of_run(train(config, data))
    known = KnownPictures.of(data.splits.test, data.features)
    shutil.rmtree(folder, ignore_errors=True)
    storyteller.half().save_pretrained(folder)
    save_file({"vectors": known.vectors.half()}, folder / "known.safetensors")
    write_frames(known.sources, folder / "known.parquet")
    return sum(file.stat().st_size for file in folder.iterdir())


def write_frames(frames: Iterable[tuple[Story, Frame]], path: Path) -> None:
    """Frames with their stories in one file, as ``read_frames`` of ``storylib.report.your_story`` reads it.

    The longer side of each picture is reduced to ``SIZE`` pixels.
    """
    rows = []
    for story, frame in frames:
        picture, data = open_picture(frame.image), io.BytesIO()
        picture.thumbnail((SIZE, SIZE))
        picture.save(data, "JPEG", quality=75)
        facts = {"story": story.id, "title": story.title, "licence": story.licence, "credit": story.credit}
        rows.append(facts | {"frame": frame.number, "text": frame.text, "picture": data.getvalue()})
    pd.DataFrame(rows).to_parquet(path, index=False)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bundle")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--output", type=Path, default=BUNDLED)
    options = parser.parse_args(arguments)
    print(f"{make_bundle(options.profile, options.output):,} bytes")


if __name__ == "__main__":
    main()
