"""How well a perfect reader could do: exact ceilings of every attribute of the next frame, and their floors.

A perfect reader knows the plots and their probabilities, sees K consecutive frames of a story, and names for each
attribute of the next one its most probable value. It sees the frames through the text, the pictures, or both. Two
windows that differ only in who or where in particular (fox or owl, farm or beach) are the same to it, since roles are
drawn uniformly: so it is enough to sum over the paths of the plots, with the roles numbered as they come into sight.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

from storylib.sources.storyworld import plots, world
from storylib.sources.storyworld.plots import Beat
from storylib.sources.storyworld.tales import SHOWABLE, TELLABLE, Scene
from storylib.sources.storyworld.world import Settings

READERS = ("both", "text", "pictures")
ATTRIBUTES = (
    "who", "with", "where", "action", "object", "state", "time", "weather", "garment", "name", "feeling", "reason",
)  # fmt: skip

# What each reader sees whatever a story tells and shows; TELLABLE and SHOWABLE come on top.
TEXT = frozenset({"name", "feeling", "reason"})
PICTURES = frozenset({"weather", "garment", "who", "time"})

# A value as a reader can name it: ("is", a plain value), ("seen", which of those seen in the context), or
# ("new", how many values there are that were not seen, all equally likely).
Value = tuple[str, Any]
SIZES = {"who": len(world.SPECIES), "where": len(world.PLACES), "object": len(world.OBJECTS), "time": len(world.TIMES),
         "garment": len(world.COLOURS), "name": len(world.NAMES)}  # fmt: skip
SEEN_AS = {"with": "who"}  # who sees the one sees the other


class View(NamedTuple):
    """One frame, in roles or in values alike: a reader only ever asks which of them are equal."""

    action: str
    state: str
    feeling: str
    reason: str
    cast: tuple[str, ...]
    place: str
    hour: int
    foul: bool


class Window(NamedTuple):
    """What a context shows to one who sees all of it, and the truth of the next frame in such a reader's terms."""

    frames: tuple[tuple[Any, ...], ...]
    values: tuple[Value, ...]  # one for each of ATTRIBUTES

    def context(self, seen: frozenset[str]) -> Hashable:
        """The frames for a reader who sees only some attributes; equal ones have equal futures."""
        return tuple(
            (action, state, cast, place if "where" in seen else None, hour if "time" in seen else None,
             foul if "weather" in seen else None, mind if "feeling" in seen else None)
            for action, state, cast, place, hour, foul, mind in self.frames
        )  # fmt: skip

    def again(self) -> tuple[Value, ...]:
        """The values of the last frame, in the same terms as those of the next."""
        action, state, cast, place, _, foul, (feeling, reason) = self.frames[-1]
        actor: Value = ("seen", cast[0])
        partner: Value = ("seen", cast[1]) if len(cast) > 1 else ("is", None)
        thing: Value = ("is", None) if state == "none" else ("seen", 0)
        return (actor, partner, ("seen", place), ("is", action), thing, ("is", state), ("seen", 0), ("seen", foul),
                actor, actor, ("is", feeling), ("is", reason))  # fmt: skip


CONTEXT = frozenset({"where", "time", "weather", "feeling"})  # what ``Window.context`` depends on


def seen_as(attribute: str, value: Value, seen: frozenset[str]) -> Value:
    """A value in the terms of a reader who may not see such attributes, and could then only guess."""
    if value[0] == "is" or SEEN_AS.get(attribute, attribute) in seen:
        return value
    if attribute == "weather":
        return _new_weather(value[1] if value[0] == "seen" else value[0] == "new foul")
    return "new", SIZES[SEEN_AS.get(attribute, attribute)]


def _new_weather(foul: bool) -> Value:
    return ("new foul", len(world.FOUL)) if foul else ("new fair", len(world.FAIR))


def beat_views(beats: Sequence[Beat]) -> list[View]:
    hours = itertools.accumulate(int(b.later) for b in beats)
    return [
        View(b.action, b.state, b.feeling, b.reason, tuple(b.cast), b.place, hour, b.foul)
        for b, hour in zip(beats, hours, strict=True)
    ]


def scene_views(scenes: Sequence[Scene]) -> list[View]:
    return [
        View(s.action, s.state, s.feeling, s.reason, (s.name, s.name_partner) if s.name_partner else (s.name,),
             s.where, world.TIMES.index(s.time), s.weather in world.FOUL)
        for s in scenes
    ]  # fmt: skip


def window(context: Sequence[View], target: View) -> Window:
    """Context and target with every role numbered in the order in which it came into sight."""
    cast, places = _numbers(c for v in context for c in v.cast), _numbers(v.place for v in context)
    frames = tuple(
        (v.action, v.state, tuple(cast[c] for c in v.cast), places[v.place], (v.hour - context[0].hour) % 4, v.foul,
         (v.feeling, v.reason))
        for v in context
    )  # fmt: skip
    actor, partner = target.cast[0], target.cast[1] if len(target.cast) > 1 else None
    values: dict[str, Value] = {
        "who": _role(actor, cast, "who"),
        "with": _role(partner, cast, "who") if partner else ("is", None),
        "where": _role(target.place, places, "where"),
        "action": ("is", target.action),
        "object": _role("it", {"it": 0} if any(v.state != "none" for v in context) else {}, "object"),
        "state": ("is", target.state),
        "time": ("seen", (target.hour - context[-1].hour) % 4) if context else ("new", SIZES["time"]),
        "weather": ("seen", target.foul) if any(v.foul == target.foul for v in context) else _new_weather(target.foul),
        "garment": _role(actor, cast, "garment"),
        "name": _role(actor, cast, "name"),
        "feeling": ("is", target.feeling),
        "reason": ("is", target.reason),
    }
    if target.state == "none":
        values["object"] = ("is", None)
    return Window(frames, tuple(values[a] for a in ATTRIBUTES))


def _role(who: str, known: Mapping[str, int], attribute: str) -> Value:
    return ("seen", known[who]) if who in known else ("new", SIZES[attribute] - len(known))


def _numbers(values: Iterable[str]) -> dict[str, int]:
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def best(odds: Mapping[Value, float]) -> tuple[Value, float]:
    """The best single value to name: one that was not seen shares its chance with all the others not seen."""
    chances = {value: p / value[1] if value[0].startswith("new") else p for value, p in odds.items()}
    winner = max(chances, key=lambda v: chances[v])
    return winner, chances[winner]


@lru_cache(maxsize=4)
def _windows(noise: float, digression: float, context: int) -> dict[Window, float]:
    """Every window with the mean number of times that a story holds it."""
    runs: dict[tuple[Beat, ...], float] = defaultdict(float)
    for path in plots.paths(noise, digression):
        for start in range(len(path.beats) - context):
            runs[path.beats[start : start + context + 1]] += path.probability
    counts: dict[Window, float] = defaultdict(float)
    for beats, weight in runs.items():
        views = beat_views(beats)
        counts[window(views[:-1], views[-1])] += weight
    return counts


def visible(reader: str, told: frozenset[str], shown: frozenset[str]) -> frozenset[str]:
    """The attributes that a reader sees in a story that tells and shows these."""
    text, pictures = TEXT | told, PICTURES | shown
    return {"text": text, "pictures": pictures, "both": text | pictures}[reader]


def channels(settings: Settings) -> Iterator[tuple[frozenset[str], frozenset[str], float]]:
    """Everything that a story may tell and show, and how probable that is."""
    for told in _subsets(TELLABLE):
        for shown in _subsets(SHOWABLE):
            p = 1.0
            for attribute in TELLABLE:
                p *= settings.told if attribute in told else 1 - settings.told
            for attribute in SHOWABLE:
                chance = settings.shown if attribute in told else 1.0
                p *= chance if attribute in shown else 1 - chance
            if p > 0:
                yield told, shown, p


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from map(frozenset, itertools.combinations(names, size))


class PerfectReader:
    """The best possible predictor of the next frame's attributes, for one kind of reader."""

    def __init__(self, settings: Settings | None = None, reader: str = "both", context: int = 4) -> None:
        if reader not in READERS:
            raise world.error(f"Storyworld: a reader is one of {', '.join(READERS)}, not {reader!r}.")
        if not 1 <= context <= plots.LONGEST:
            raise world.error(f"Storyworld: context must be from 1 to {plots.LONGEST} frames, not {context!r}.")
        self.settings, self.reader, self.context = settings or Settings(), reader, context
        self.windows = _windows(self.settings.noise, self.settings.digression, context)
        self._odds: dict[frozenset[str], dict[Hashable, tuple[dict[Value, float], ...]]] = {}

    def odds(self, seen: frozenset[str]) -> dict[Hashable, tuple[dict[Value, float], ...]]:
        """context -> for each of ATTRIBUTES: value -> mean number per story, for a reader who sees these attributes.

        The values are in the terms of one who sees them all; see ``seen_as``.
        """
        seen &= CONTEXT
        if seen not in self._odds:
            table: dict[Hashable, tuple[dict[Value, float], ...]] = {}
            for whole, weight in self.windows.items():
                context = whole.context(seen)
                row = table.get(context) or table.setdefault(context, tuple({} for _ in ATTRIBUTES))
                for odds, value in zip(row, whole.values, strict=True):
                    odds[value] = odds.get(value, 0.0) + weight
            self._odds[seen] = table
        return self._odds[seen]

    def ceilings(self) -> dict[str, float]:
        """Exact accuracy, over all windows of all stories, of naming the most probable value of each attribute."""
        shares: dict[tuple[frozenset[str], str, bool], float] = defaultdict(float)
        for told, shown, p in channels(self.settings):
            seen = visible(self.reader, told, shown)
            for attribute in ATTRIBUTES:
                shares[seen & CONTEXT, attribute, SEEN_AS.get(attribute, attribute) in seen] += p
        right = dict.fromkeys(ATTRIBUTES, 0.0)
        for (seen, attribute, itself), p in shares.items():
            column = ATTRIBUTES.index(attribute)
            terms = frozenset({SEEN_AS.get(attribute, attribute)}) if itself else frozenset()
            right[attribute] += p * sum(
                best(_in_terms(attribute, row[column], terms))[1] for row in self.odds(seen).values()
            )
        total = sum(self.windows.values())
        return {attribute: value / total for attribute, value in right.items()}

    def right(self, scenes: Sequence[Scene], target: Scene) -> dict[str, float]:
        """1 where its answer for ``target`` is right, 0 where wrong; for a guess among unseen values, the chance."""
        seen = visible(self.reader, target.told, target.shown)
        views = scene_views([*scenes, target])
        whole = window(views[:-1], views[-1])
        result = {}
        for attribute, odds, value in zip(ATTRIBUTES, self.odds(seen)[whole.context(seen)], whole.values, strict=True):
            answer = best(_in_terms(attribute, odds, seen))[0]
            chance = 1 / answer[1] if answer[0].startswith("new") else 1.0
            result[attribute] = chance if answer == seen_as(attribute, value, seen) else 0.0
        return result


def _in_terms(attribute: str, odds: Mapping[Value, float], seen: frozenset[str]) -> dict[Value, float]:
    merged: dict[Value, float] = {}
    for value, p in odds.items():
        term = seen_as(attribute, value, seen)
        merged[term] = merged.get(term, 0.0) + p
    return merged


def ceilings(settings: Settings | None = None, context: int = 4) -> pd.DataFrame:
    """One row for each attribute of the next frame: the accuracy of perfect readers, and two floors.

    Accuracy is meant over all windows of all stories together, as ``storylib.stories.windows`` makes them.
    Columns: both, text, pictures (ceilings); copy_last (the last frame's value again) and majority (the most common
    value, whatever came before), which are floors and are not hindered by what a story leaves untold or unshown.
    """
    readers = {reader: PerfectReader(settings, reader, context) for reader in READERS}
    table = {name: reader.ceilings() for name, reader in readers.items()}
    table |= floors(readers["both"].windows)
    return pd.DataFrame(table, index=pd.Index(ATTRIBUTES, name="attribute"))


def floors(windows: Mapping[Window, float]) -> dict[str, dict[str, float]]:
    """Accuracy of two predictors that learned nothing: the last frame's value, and the most common value."""
    total = sum(windows.values())
    copied = dict.fromkeys(ATTRIBUTES, 0.0)
    odds: dict[str, dict[Value, float]] = {a: defaultdict(float) for a in ATTRIBUTES}
    for whole, weight in windows.items():
        for attribute, last, value in zip(ATTRIBUTES, whole.again(), whole.values, strict=True):
            copied[attribute] += weight * (last == value) / total
            odds[attribute][seen_as(attribute, value, frozenset())] += weight / total
    return {"copy_last": copied, "majority": {attribute: best(row)[1] for attribute, row in odds.items()}}
