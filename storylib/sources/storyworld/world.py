"""What there is in Storyworld: its vocabulary, its parameters, and the dice that draw every world the same way."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

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
TIMES = ("morning", "midday", "evening", "night")  # in the order in which they follow each other
FAIR = ("clear", "cloudy", "windy", "foggy")
FOUL = ("rainy", "stormy", "snowy")
WEATHER = FAIR + FOUL
STATES = ("held", "ground", "wished", "none")  # in the actor's hands, on the ground, in a thought bubble, not there
ACTIONS = (
    "play", "walk", "rest", "search", "cry", "meet", "find", "give", "hug", "dance", "dig",
    "carry", "climb", "watch", "hide", "run", "fall", "eat", "chase", "build", "wait",
)  # fmt: skip
FEELINGS = (
    "happy", "sad", "afraid", "curious", "tired", "proud",
    "lonely", "excited", "worried", "calm", "surprised", "grateful",
)  # fmt: skip
NAMES = {  # name -> pronoun; a name says nothing about the species
    "Ada": "she", "Bela": "she", "Cora": "she", "Dunya": "she", "Esi": "she", "Fern": "she",
    "Gita": "she", "Hana": "she", "Ines": "she", "Juno": "she", "Kaya": "she", "Lulu": "she",
    "Milo": "he", "Nuru": "he", "Otto": "he", "Pavel": "he", "Quill": "he", "Remi": "he",
    "Samu": "he", "Tomas": "he", "Umar": "he", "Viggo": "he", "Wim": "he", "Zeno": "he",
}  # fmt: skip

# How many values each attribute has that a reader may not have seen yet: its chance when nothing is known.
DOMAINS: dict[str, tuple[str, ...]] = {
    "who": SPECIES, "with": SPECIES, "where": PLACES, "object": OBJECTS, "garment": COLOURS,
    "time": TIMES, "weather": WEATHER, "action": ACTIONS, "state": STATES, "feeling": FEELINGS, "name": tuple(NAMES),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The parameters of a world. Each dials one difficulty; the defaults are those of the report."""

    seed: int = 0
    noise: float = 0.1  # share of each choice between next beats that ignores the plot's own odds
    digression: float = 0.25  # probability that a story has one beat that leads nowhere
    told: float = 0.7  # probability, per story, that its text tells who, where, object, time (each on its own)
    shown: float = 0.9  # probability, per story, that its pictures show where and object, if the text tells them
    jitter: float = 1.0  # how much places, sizes and postures vary between pictures of one scene
    distractors: float = 1.0  # mean number of small animals in a picture that mean nothing

    def __post_init__(self) -> None:
        for name in ("noise", "digression", "told", "shown"):
            _check(name, getattr(self, name), 0, 1)
        _check("jitter", self.jitter, 0, 2)
        _check("distractors", self.distractors, 0, 6)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise error(f"Storyworld: seed must be a whole number from 0 on, not {self.seed!r}.")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Dice:
    """Random draws that are the same on every machine and in every version of Python.

    Only ``random.Random.random`` is used, whose stream Python promises to keep; the seed may be any text.
    """

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed))).random

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self._random() * len(values))]

    def weighted(self, odds: Mapping[T, float]) -> T:
        """A key, with the probability that is its value; they sum to one."""
        left = self._random()
        for value, probability in odds.items():
            left -= probability
            if left < 0:
                return value
        return value  # the last one: rounding left a little over

    def sample(self, values: Sequence[T], count: int) -> list[T]:
        """``count`` different values in random order."""
        pool = list(values)
        return [pool.pop(int(self._random() * len(pool))) for _ in range(count)]


def _check(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise error(f"Storyworld: {name} must be a number from {low} to {high}, not {value!r}.")


def error(message: str) -> ValueError:
    """A SourceError, ready to be raised."""
    from storylib.sources import SourceError  # storylib.sources imports this package, lazily too

    return SourceError(message)
