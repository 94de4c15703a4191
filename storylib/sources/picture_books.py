"""The real picture books together: African Storybook, Book Dash and the tales of Beatrix Potter. No options.

Each story keeps the name of its source, whose environment variable says where it lies.
"""

from __future__ import annotations

import dataclasses

from storylib.data.types import Story
from storylib.sources import african_storybook, book_dash, gutenberg

SOURCES = {"african_storybook": african_storybook, "book_dash": book_dash, "gutenberg": gutenberg}


def load(limit: int | None = None, strict: bool = False) -> list[Story]:
    """All stories, source by source. limit: so many of them, evenly spaced, so that each source keeps its share."""
    stories = [
        dataclasses.replace(story, source=name)
        for name, module in SOURCES.items()
        for story in module.load(strict=strict)
    ]
    chosen = min(len(stories), limit or len(stories))
    return [stories[i * len(stories) // chosen] for i in range(chosen)]
