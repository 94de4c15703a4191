"""Train the small networks that come with storylib, and write them into the package.

    python -m benchmarks.bundle storyteller     the storyteller, with the frames that it knows
    python -m benchmarks.bundle probe           the network that reads off a picture what it shows

Each takes minutes. The probe is trained on a world of another seed, whose pictures no source returns.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.torch import save_file

from storylib.config import cache_dir, configure
from storylib.data.pictures import open_picture, thumbnail
from storylib.data.types import Frame, Story
from storylib.experiments.runs import prepare, train
from storylib.experiments.storyteller import KnownPictures, Storyteller
from storylib.report.your_story import BUNDLED
from storylib.sources import load_stories
from storylib.sources.storyworld.probe import WEIGHTS as PROBE
from storylib.sources.storyworld.probe import train_probe

OTHER_WORLD = 23  # a seed
PROBE_STEPS = 1800
SIZE = 96  # pixels of the longer side of a known picture


def drawings() -> tuple[np.ndarray, list[dict[str, Any]]]:
    """(N, 64, 64, 3) pictures of another world, and what is true of each."""
    stories = load_stories("storyworld", limit=1000, seed=OTHER_WORLD)
    frames = [frame for story in stories for frame in story.frames]
    return np.stack([thumbnail(open_picture(frame.image), 64) for frame in frames]), [f.attributes for f in frames]


def make_probe(path: Path) -> None:
    probe = train_probe(*drawings(), PROBE_STEPS, cache_dir("probe.checkpoint"))
    save_file({name: value.half() for name, value in probe.state_dict().items()}, path)


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
    parser.add_argument("part", choices=("storyteller", "probe"))
    part = parser.parse_args(arguments).part
    if part == "probe":
        make_probe(PROBE)
    else:
        print(f"{make_bundle('quick', BUNDLED):,} bytes")


if __name__ == "__main__":
    main()
