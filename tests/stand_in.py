"""Stand-ins for real data: Parquet shards with the columns of StoryReasoning, and folders like African Storybook's.

Plain stories have words and pictures that cost little to make. In shards, texts get the data set's markup, and some
stories the faults that real ones have. Everything is streamed, so any number of stories fits into memory.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from storylib.data.pictures import PictureLike
from storylib.data.types import Frame, Story

TEST_SHARE = 0.15  # of the stories, in the test split
ROW_GROUP = 25  # stories per row group, which are in memory together
SYLLABLES = "ba de fi go lu ma ne pi ro su ta ve wi zo ka".split()
VOCABULARY = 8000  # words; the n-th is used in proportion to 1 / n, as in real texts


def _word(rank: int) -> str:
    word = ""
    while rank or not word:
        rank, syllable = divmod(rank, len(SYLLABLES))
        word += SYLLABLES[syllable]
    return word


def blobs(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A picture of large coloured blobs, so that its perceptual hash survives a change of size and quality."""
    colours = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def plain_stories(count: int, frames: int = 12, size: int = 224) -> Iterator[Story]:
    """Stories of made-up words and coloured blobs, all different, made one at a time."""
    for number in range(count):
        random = np.random.default_rng([0, number])
        story_frames = []
        for position in range(1, frames + 1):
            picture = blobs(random, (size, size))
            words = [_word(int(rank)) for rank in VOCABULARY ** random.random(60)]
            name = _word(number)  # with digits, the vocabulary would grow with the stories, and the decoder with it
            story_frames.append(Frame(picture, f"Anna {' '.join(words)} ({name}).", position))
        yield Story(str(number), f"Story {number}", tuple(story_frames))


def write_shards(folder: Path, stories: Iterable[Story], faults: float = 0.1, shard: int = 500) -> dict[str, int]:
    """Write train-*.parquet and test-*.parquet of ``shard`` stories each. Returns the number of stories per split.

    faults: share of the stories whose markup is damaged, each in one of the ways of ``FAULTS``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Value
    from datasets import Image as Picture
    from datasets import Sequence as SequenceOf

    text = Value("string")
    columns = {
        "story_id": text,
        "images": SequenceOf(Picture()),
        "frame_count": Value("int32"),
        "chain_of_thought": text,
    }
    schema = Features(columns | {"story": text}).arrow_schema
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    counts = {"train": 0, "test": 0}
    writers: dict[str, Any] = {}
    waiting: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}

    def write(split: str) -> None:
        if waiting[split]:
            writers[split].write_table(pa.Table.from_pylist(waiting[split], schema=schema))
            waiting[split].clear()

    try:
        for number, story in enumerate(stories):
            split = "test" if random.random() < TEST_SHARE else "train"
            fault = str(random.choice(list(FAULTS))) if random.random() < faults else None
            if counts[split] % shard == 0:
                write(split)
                if split in writers:
                    writers[split].close()
                writers[split] = pq.ParquetWriter(folder / f"{split}-{counts[split] // shard:05d}.parquet", schema)
            waiting[split].append(row(str(number), story, fault))
            counts[split] += 1
            if len(waiting[split]) == ROW_GROUP:
                write(split)
        for split in writers:
            write(split)
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def row(story_id: str, story: Story, fault: str | None = None) -> dict[str, Any]:
    """One story as a row of the data set."""
    from storylib.audit.data import tagged  # loads torch, which a test without such rows does not need

    blocks = [f"<gdi image{i}>\n{tagged(frame)}\n</gdi>" for i, frame in enumerate(story.frames, 1)]
    markup = "\n".join(FAULTS[fault](blocks) if fault else blocks)
    images = [{"bytes": _bytes(frame.image), "path": f"{i}.jpg"} for i, frame in enumerate(story.frames, 1)]
    return {
        "story_id": story_id,
        "images": images,
        "frame_count": len(images),
        "chain_of_thought": "storylib does not read this column.",
        "story": markup,
    }


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


def _bytes(image: PictureLike) -> bytes:
    if isinstance(image, Path):
        return image.read_bytes()
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def write_story(
    root: Path, number: str, pages: list[str], pictures: int, licence: str = "[CC-BY]", language: str = "en"
) -> Path:
    """One story in the layout of African Storybook. Returns its text file."""
    text = root / "asp-source" / language / f"{number}_a-tale.md"
    text.parent.mkdir(parents=True, exist_ok=True)
    blocks = "".join(f"##\n{page}\n\n" for page in pages)
    facts = f"* License: {licence}\n* Text: A. Writer\n* Illustration: B. Painter, C. Painter\n* Language: {language}\n"
    text.write_text(f"# A _tale_\n\n{blocks}##\n{facts}", encoding="utf-8")
    folder = root / "asp-imagebank" / "medium" / number
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(1, pictures + 1):
        if not (folder / f"{i:02d}.jpg").exists():
            blobs(np.random.default_rng(int(number) * 100 + i), (48, 32)).save(folder / f"{i:02d}.jpg")
    return text
