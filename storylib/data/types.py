"""Stories, frames and windows: the types that every source returns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from storylib.data.pictures import PictureLike


@dataclass(frozen=True)
class Frame:
    """One image and one text. The numbers of consecutive frames of a story differ by one; a gap is a missing frame."""

    image: PictureLike
    text: str
    number: int = 1
    description: str | None = None  # what the source says that the picture shows
    attributes: dict[str, Any] | None = None  # what is true of the scene, if the source knows it


@dataclass(frozen=True)
class Story:
    """Ordered frames, with what the source knows about the story as a whole."""

    id: str
    title: str
    frames: tuple[Frame, ...]
    licence: str = ""
    credit: str = ""
    source: str = ""  # whose shelf it is from, where a source joins several
    group: str | None = None  # stories of one group belong together; None: near-duplicates decide
    split: str | None = None  # official split: "train", "validation" or "test"; None: the data has none


@dataclass(frozen=True)
class Window:
    """``length`` consecutive frames of a story, the context, and the next frame, the target."""

    story: Story
    start: int
    length: int = 4

    @property
    def context(self) -> tuple[Frame, ...]:
        return self.story.frames[self.start : self.start + self.length]

    @property
    def target(self) -> Frame:
        return self.story.frames[self.start + self.length]


def windows(stories: Iterable[Story], context: int = 4) -> Iterator[Window]:
    """Every window of every story; none spans a missing frame."""
    for story in stories:
        numbers = [f.number for f in story.frames]
        for start in range(len(numbers) - context):
            if numbers[start + context] - numbers[start] == context:
                yield Window(story, start, context)
