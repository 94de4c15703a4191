"""Parquet shards in exactly the schema of StoryReasoning, made from other stories: for tests, and to measure scale.

    python -m storylib.sources.stand_in NEW_FOLDER --stories 4178 --pictures plain

Pictures and texts are Storyworld's, or plain ones that cost nothing to make; the texts get the data set's markup, and
some stories the faults that real ones have. Everything is streamed, so any number of stories fits into memory.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from storylib.pictures import PictureLike
from storylib.sources import load_stories
from storylib.stories import Frame, Story

TEST = 0.15  # share of the official test part
ROWS = 25  # stories of a row group, what memory holds at once
SYLLABLES = "ba de fi go lu ma ne pi ro su ta ve wi zo ka".split()
VOCABULARY = 8000  # words, of which the n-th is used in proportion to 1 / n, as in real texts


def _word(rank: int) -> str:
    word = ""
    while rank or not word:
        rank, syllable = divmod(rank, len(SYLLABLES))
        word += SYLLABLES[syllable]
    return word


def plain_stories(count: int, frames: int = 12, size: int = 224, seed: int = 0) -> Iterator[Story]:
    """Stories of made-up words and coloured blobs, all different, made one at a time."""
    for number in range(count):
        dice = np.random.default_rng([seed, number])
        pages = []
        for page in range(1, frames + 1):
            blobs = dice.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            picture = Image.fromarray(blobs).resize((size, size), Image.Resampling.BICUBIC)
            words = [_word(int(rank)) for rank in VOCABULARY ** dice.random(60)]
            name = _word(number)  # in digits, the vocabulary would grow with the stories, and the decoder with it
            pages.append(Frame(picture, f"Anna {' '.join(words)} ({name}).", page))
        yield Story(str(number), f"Story {number}", tuple(pages))


def write_shards(
    folder: Path, stories: Iterable[Story], faults: float = 0.1, shard: int = 500, seed: int = 0
) -> dict[str, int]:
    """Write train-*.parquet and test-*.parquet of ``shard`` stories each; returns how many stories each part has.

    faults: share of the stories whose markup is damaged, each in one of the ways of ``FAULTS``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Value
    from datasets import Image as Picture
    from datasets import Sequence as Many

    text = Value("string")
    columns = {"story_id": text, "images": Many(Picture()), "frame_count": Value("int32"), "chain_of_thought": text}
    schema = Features(columns | {"story": text}).arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    dice = np.random.default_rng(seed)
    counts = {"train": 0, "test": 0}
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}

    def write(part: str) -> None:
        if waiting[part]:
            writers[part].write_table(pa.Table.from_pylist(waiting[part], schema=schema))
            waiting[part].clear()

    try:
        for number, story in enumerate(stories):
            part = "test" if dice.random() < TEST else "train"
            fault = str(dice.choice(list(FAULTS))) if dice.random() < faults else None
            if counts[part] % shard == 0:
                write(part)
                if part in writers:
                    writers[part].close()
                writers[part] = pq.ParquetWriter(folder / f"{part}-{counts[part] // shard:05d}.parquet", schema)
            waiting[part].append(row(str(number), story, fault))
            counts[part] += 1
            if len(waiting[part]) == ROWS:
                write(part)
        for part in writers:
            write(part)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def row(story_id: str, story: Story, fault: str | None = None) -> dict[str, Any]:
    """One story as the data set would hold it."""
    blocks = [f"<gdi image{i}>\n{tagged(frame)}\n</gdi>" for i, frame in enumerate(story.frames, 1)]
    markup = "\n".join(FAULTS[fault](blocks) if fault else blocks)
    images = [{"bytes": _bytes(frame.image), "path": f"{i}.jpg"} for i, frame in enumerate(story.frames, 1)]
    analysis = "\n\n".join(_analysis(i, frame) for i, frame in enumerate(story.frames, 1))
    return {
        "story_id": story_id,
        "images": images,
        "frame_count": len(images),
        "chain_of_thought": analysis
        + "\n\n## Narrative Structure\n\n| Narrative Phase | Images |\n|---|---|\n| Conflict | 1 |\n",
        "story": markup,
    }


def tagged(frame: Frame) -> str:
    """A text with its first name, its first verb-like word and, if it is another, its last word tagged."""
    text = re.sub(r"\b([A-Z]\w+)", r"<gdo char1>\1</gdo>", frame.text.replace("&", "&amp;"), count=1)
    text = re.sub(r"\b(\w+(?:ed|s))\b(?![^<]*>)", r"<gda char1>\1</gda>", text, count=1)
    return re.sub(r"(?<![\w</])(\w+)([^\w<>]*)$", r"<gdl bg1 bg2>\1</gdl>\2", text, count=1)


FAULTS: dict[str, Any] = {
    "unclosed": lambda blocks: [blocks[0].replace("</gdi>", ""), *blocks[1:]],
    "missing": lambda blocks: blocks[:1] + blocks[2:],
    "repeated": lambda blocks: [*blocks, blocks[0]],
    "out of order": lambda blocks: [*blocks[1:], blocks[0]],
    "one too many": lambda blocks: [*blocks, f"<gdi image{len(blocks) + 1}> Nothing to see. </gdi>"],
    "odd case": lambda blocks: [block.replace("gdi image", "GDI Image ") for block in blocks],
    "badly nested": lambda blocks: [block.replace("</gdo>", "").replace("</gda>", "</gda></gdo>") for block in blocks],
    "text between": lambda blocks: [blocks[0], "And then.", *blocks[1:]],
}


def _analysis(number: int, frame: Frame) -> str:
    return f"""## Image {number}

### Characters
| Character ID | Name | Description | Emotions | Actions | Narrative Function | Bounding Box |
|--------------|------|-------------|----------|---------|-------------------|--------------|
| char1 | {frame.text.split()[0]} | Somebody | Calm | Walks | Protagonist | 10,20,{30 + number},40 |

### Objects
| Object ID | Description | Function | Interaction | Narrative Function | Bounding Box |
|-----------|-------------|----------|------------|-------------------|--------------|
| obj1 | A thing | Prop | None | Background | 1,2,3,4 |

### Setting
| Setting Element | Description | Mood | Time | Narrative Function |
|-----------------|-------------|------|------|-------------------|
| Location | Outside | Quiet | Day | Opening |"""


def _bytes(image: PictureLike) -> bytes:
    if isinstance(image, Path):
        return image.read_bytes()
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m storylib.sources.stand_in", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--pictures", choices=["storyworld", "plain"], default="storyworld")
    parser.add_argument("--frames", type=int, default=12, help="of a plain story")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--faults", type=float, default=0.1, help="share of stories with damaged markup")
    options = parser.parse_args(arguments)
    stories: Iterable[Story] = plain_stories(options.stories, options.frames, options.size)
    if options.pictures == "storyworld":
        stories = load_stories("storyworld", limit=options.stories, size=options.size)
    bar = tqdm(islice(stories, options.stories), total=options.stories, desc="write stand-in", unit="story")
    print(json.dumps(write_shards(options.folder, bar, options.faults)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
