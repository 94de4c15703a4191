"""Storyworld: illustrated stories drawn and written from one seed, with the truth of every scene known.

    world       the vocabulary, the parameters (``Settings``), the dice
    plots       what can happen, with the probability of every next beat
    tales       who plays which role in a story, where, with what
    lexicon     the words; grammar: texts, and the parser that reads them back
    drawing     the picture of a scene: sky, landscapes and settlements with their props and wildlife, figures with
                heads, what they hold (things) and how an action looks (staging); all of it made of shapes
    studio      draws a world to files, in parallel, once
    truth       how well a perfect reader could predict each attribute of the next frame
    splits      new stories, new combinations, new plots

A world of n stories begins with the world of n - 1 stories: a tale depends only on the seed and its own number, and
only its wording may look back, at the texts of the tales before it, so as never to repeat one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storylib.sources.storyworld import grammar, studio, world
from storylib.sources.storyworld.grammar import parse
from storylib.sources.storyworld.tales import Tale, tell
from storylib.sources.storyworld.world import Dice, Settings
from storylib.stories import Frame, Story

__all__ = ["STORIES", "Settings", "load", "parse", "tell", "write"]

STORIES = 600
SIZES = (32, 512)
LICENCE = "CC0-1.0"
CREDIT = "Storyworld, drawn by storylib"


def load(limit: int | None = None, seed: int = 0, size: int = 224, **difficulty: Any) -> list[Story]:
    """The first ``limit`` stories (600 by default) of the world of a seed, with pictures of size x size pixels.

    difficulty: noise, digression, told, shown, jitter, distractors; see ``Settings``. Pictures are drawn once and
    kept; the attributes of every frame hold the truth of its scene.
    """
    settings = _settings(seed, difficulty)
    count = STORIES if limit is None else limit
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise world.error(f"Storyworld: limit must be a whole number from 1 on, not {limit!r}.")
    if isinstance(size, bool) or not isinstance(size, int) or not SIZES[0] <= size <= SIZES[1]:
        raise world.error(f"Storyworld: size must be from {SIZES[0]} to {SIZES[1]} pixels, not {size!r}.")
    tales = [tell(settings, number) for number in range(count)]
    stories = []
    for tale, texts, pictures in zip(tales, write(tales), studio.pictures(tales, settings, size), strict=True):
        name = f"sw-{tale.number:05d}"
        frames = tuple(
            Frame(picture, text, scene.page, scene.attributes())
            for scene, text, picture in zip(tale.scenes, texts, pictures, strict=True)
        )
        stories.append(Story(name, grammar.title(tale), frames, LICENCE, CREDIT, group=name))
    return stories


def _settings(seed: int, difficulty: dict[str, Any]) -> Settings:
    known = [name for name in Settings.__dataclass_fields__ if name != "seed"]
    for name in difficulty:
        if name not in known:
            from storylib.config import unknown

            raise world.error(f"Storyworld: {unknown('parameter', name, known)}")
    return Settings(seed=seed, **difficulty)


def write(tales: Sequence[Tale]) -> list[list[str]]:
    """The texts of tales, none of them twice: a text that an earlier frame has is worded anew.

    The tales must be those from number 0 on, if their texts are to be those of ``load``.
    """
    seen: set[str] = set()
    texts: list[list[str]] = []
    for tale in tales:
        texts.append([])
        for scene in tale.scenes:
            dice = Dice("text", scene.seed)
            text = next((t for t in (grammar.write(scene, dice) for _ in range(1000)) if t not in seen), "")
            if not text:
                raise world.error(f"Storyworld: tale {tale.number} cannot be worded anew; ask for fewer stories.")
            seen.add(text)
            texts[-1].append(text)
    return texts
