"""The vocabulary and the parameters of Storyworld, and random draws that are the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from storylib.sources._checks import SourceError

T = TypeVar("T")

SPECIES = ("fox", "rabbit", "bear", "cat", "mouse", "frog", "duck", "hedgehog", "elephant", "owl", "lion", "pig")
PLACES = (
    "meadow", "forest", "beach", "river", "mountain", "village",
    "farm", "garden", "desert", "market", "castle", "cottage",
)  # fmt: skip
OBJECTS = (
    "apple", "ball", "balloon", "bell", "boat", "book", "cake",
    "drum", "flower", "key", "kite", "lantern", "teapot", "umbrella",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
TIMES = ("morning", "midday", "evening", "night")  # in their order
FAIR = ("clear", "cloudy", "windy", "foggy")
FOUL = ("rainy", "stormy", "snowy")
WEATHER = FAIR + FOUL
STATES = ("held", "ground", "wished", "none")  # in the actor's hands, on the ground, in a thought bubble, absent
ACTIONS = (
    "play", "walk", "rest", "search", "cry", "meet", "find", "give", "hug", "dance", "dig",
    "carry", "climb", "watch", "hide", "run", "fall", "eat", "chase", "build", "wait",
)  # fmt: skip
FEELINGS = (
    "happy", "sad", "afraid", "curious", "tired", "proud",
    "lonely", "excited", "worried", "calm", "surprised", "grateful",
)  # fmt: skip
NAMES = {  # name -> pronoun; a name is independent of the species
    "Ada": "she", "Bela": "she", "Cora": "she", "Dunya": "she", "Esi": "she", "Fern": "she",
    "Gita": "she", "Hana": "she", "Ines": "she", "Juno": "she", "Kaya": "she", "Lulu": "she",
    "Milo": "he", "Nuru": "he", "Otto": "he", "Pavel": "he", "Quill": "he", "Remi": "he",
    "Samu": "he", "Tomas": "he", "Umar": "he", "Viggo": "he", "Wim": "he", "Zeno": "he",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The parameters of a world. Each controls one difficulty; the report uses the defaults, or two chapters."""

    seed: int = 0
    noise: float = 0.1  # share of each choice between next beats that ignores the plot's own probabilities
    digression: float = 0.25  # probability that a story has one beat that leads nowhere
    in_text: float = 0.7  # probability, per story and for each of who, where, object and time, that the text states it
    in_picture: float = 0.9  # the same for where and object in the pictures, if the text states them
    jitter: float = 1.0  # how much places, sizes and postures vary between pictures of one scene
    distractors: float = 1.0  # mean number of irrelevant small animals in a picture
    chapters: int = 1  # plots of a story, one after the other: 1 or 2

    def __post_init__(self) -> None:
        for name in ("noise", "digression", "in_text", "in_picture"):
            _check(name, getattr(self, name), 0, 1)
        _check("jitter", self.jitter, 0, 2)
        _check("distractors", self.distractors, 0, 6)
        if type(self.chapters) is not int or self.chapters not in (1, 2):
            raise SourceError(f"Storyworld: chapters must be 1 or 2, not {self.chapters!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise SourceError(f"Storyworld: seed must be a whole number of at least 0, not {self.seed!r}.")


class Dice:
    """Random draws that are the same on every machine and in every version of Python.

    Only ``random.Random.random`` is used, whose stream Python guarantees to keep. The seed may be any text.
    """

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed))).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self._random() * len(values))]

    def weighted(self, probabilities: Mapping[T, float]) -> T:
        """A key, drawn with the probability that is its value; the values sum to one."""
        remaining = self._random()
        for value, probability in probabilities.items():
            remaining -= probability
            if remaining < 0:
                return value
        return value  # the last one: a rounding error remained

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """``count`` different values in random order."""
        pool = list(values)
        return [pool.pop(int(self._random() * len(pool))) for _ in range(count)]


def _check(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise SourceError(f"Storyworld: {name} must be a number from {low} to {high}, not {value!r}.")
