"""Storyworld: illustrated stories drawn and written from one seed, with the truth of every scene known. ::

    world        the vocabulary, the parameters (``Settings``), random draws
    plots        the plots, with the probability of every next beat
    tales        who plays which role in a story, where and with what
    lexicon      the words
    grammar      texts, and the parser that reads them back
    drawing      the picture of a scene, from sky, landscapes and settlements (with props and wildlife), figures (with
                 heads), objects (things) and the staging of actions, all of which consist of shapes
    rendering    draws a world to files, in parallel, once
    truth        how well a perfect reader could predict each attribute of the next frame
    attributes   tables of what is true and of what a model gets right
    splits       held-out stories, combinations and plots

A world of n stories begins with the world of n - 1 stories: a tale depends only on the seed and its own number. Only
its wording depends on earlier tales, so as never to repeat a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storylib.config import unknown
from storylib.data.types import Frame, Story
from storylib.sources._checks import SourceError
from storylib.sources.storyworld import grammar
from storylib.sources.storyworld.rendering import draw_pictures
from storylib.sources.storyworld.tales import Tale, make_tale
from storylib.sources.storyworld.world import Dice, Settings

STORIES = 600
SIZES = (32, 512)
LICENCE = "CC0-1.0"
CREDIT = "Storyworld, drawn by storylib"


def load(limit: int | None = None, seed: int = 0, size: int = 224, **difficulty: Any) -> list[Story]:
    """The first ``limit`` stories (600 by default) of the world of a seed, with pictures of size x size pixels.

    difficulty: fields of ``Settings``: noise, digression, in_text, in_picture, jitter, distractors, chapters. Pictures
    are drawn once and kept in the cache. The attributes of a frame hold the truth of its scene.
    """
    for name in difficulty:
        if name not in Settings.__dataclass_fields__:
            raise SourceError(f"Storyworld: {unknown('parameter', name, Settings.__dataclass_fields__)}")
    settings = Settings(seed=seed, **difficulty)
    count = STORIES if limit is None else limit
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise SourceError(f"Storyworld: limit must be a whole number of at least 1, not {limit!r}.")
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise SourceError(f"Storyworld: size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size!r}.")
    tales = [make_tale(settings, number) for number in range(count)]
    stories = []
    for tale, texts, pictures in zip(tales, write(tales), draw_pictures(tales, settings, size), strict=True):
        name = f"sw-{tale.number:05d}"
        frames = tuple(
            Frame(picture, text, scene.number, attributes=scene.attributes())
            for scene, text, picture in zip(tale.scenes, texts, pictures, strict=True)
        )
        stories.append(Story(name, grammar.title(tale), frames, LICENCE, CREDIT, group=name))
    return stories


def write(tales: Sequence[Tale]) -> list[list[str]]:
    """The texts of tales, all different: a text that an earlier frame has is replaced by another wording.

    Only for the tales from number 0 on are they the texts that ``load`` returns.
    """
    used: set[str] = set()
    texts: list[list[str]] = []
    for tale in tales:
        texts.append([])
        for scene in tale.scenes:
            dice = Dice("text", scene.seed)
            for _ in range(1000):
                text = grammar.write(scene, dice)
                if text not in used:
                    break
            else:
                raise SourceError(f"Storyworld: tale {tale.number} has no unused wording left; use fewer stories.")
            used.add(text)
            texts[-1].append(text)
    return texts
