"""How well the next frame can be predicted: exact ceilings of every attribute, and their baselines.

A perfect reader knows the plots and their probabilities, sees K consecutive frames of a story, and predicts for each
attribute of the next frame its most probable value. It sees the texts, the pictures, or both. Windows that differ only
in the characters and places that fill the roles (fox or owl, farm or beach) are equivalent, since these are drawn
uniformly. So it is enough to sum over the paths of the plots, with roles numbered in their order of appearance. Two
chapters of a story share only their roles: a window of both is the end of one path and the start of another.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

from storylib.data.store import cache_entry, make_sealed
from storylib.sources._checks import SourceError
from storylib.sources.storyworld import plots, world
from storylib.sources.storyworld.plots import Beat, Path
from storylib.sources.storyworld.tales import OPTIONAL_IN_PICTURE, OPTIONAL_IN_TEXT, Scene
from storylib.sources.storyworld.world import Settings

READERS = ("both", "text", "pictures")
LONGEST_CONTEXTS = {1: plots.LONGEST, 2: 5}  # by chapters; seven frames of two chapters would take 14 GB
ATTRIBUTES = (
    "who", "with", "where", "action", "object", "state", "time", "weather", "garment", "name", "feeling", "reason",
)  # fmt: skip

# What each reader sees in every story; OPTIONAL_IN_TEXT and OPTIONAL_IN_PICTURE differ by story.
ALWAYS_IN_TEXT = frozenset({"name", "feeling", "reason"})
ALWAYS_IN_PICTURE = frozenset({"weather", "garment", "who", "time"})

# A value as a reader can express it: ("is", a plain value), ("seen", which of the values seen in the context), or
# ("new", the number of values that were not seen, all equally likely).
Value = tuple[str, Any]
SIZES = {"who": len(world.SPECIES), "where": len(world.PLACES), "object": len(world.OBJECTS), "time": len(world.TIMES),
         "garment": len(world.COLOURS), "name": len(world.NAMES)}  # fmt: skip
SEEN_WITH = {"with": "who"}  # whoever sees one character sees the other


class View(NamedTuple):
    """One frame, in roles or in values: only their equality matters."""

    action: str
    state: str
    feeling: str
    reason: str
    cast: tuple[str, ...]
    place: str
    hour: int
    foul: bool


class Window(NamedTuple):
    """A context as seen by a reader of everything, and the truth of the next frame in that reader's terms."""

    frames: tuple[tuple[Any, ...], ...]
    values: tuple[Value, ...]  # one per attribute

    def context(self, seen: frozenset[str]) -> Hashable:
        """The frames for a reader who sees only some attributes; equal contexts have equal futures."""
        return tuple(
            (action, state, cast, place if "where" in seen else None, hour if "time" in seen else None,
             foul if "weather" in seen else None, mood if "feeling" in seen else None)
            for action, state, cast, place, hour, foul, mood in self.frames
        )  # fmt: skip

    def last_values(self) -> tuple[Value, ...]:
        """The values of the last frame, in the same terms as the next."""
        action, state, cast, place, _, foul, (feeling, reason) = self.frames[-1]
        actor: Value = ("seen", cast[0])
        partner: Value = ("seen", cast[1]) if len(cast) > 1 else ("is", None)
        thing: Value = ("is", None) if state == "none" else ("seen", 0)
        return (actor, partner, ("seen", place), ("is", action), thing, ("is", state), ("seen", 0), ("seen", foul),
                actor, actor, ("is", feeling), ("is", reason))  # fmt: skip


CONTEXT = frozenset({"where", "time", "weather", "feeling"})  # what ``Window.context`` depends on


def seen_as(attribute: str, value: Value, seen: frozenset[str]) -> Value:
    """A value in the terms of a reader who may not see this attribute, and could then only guess."""
    if value[0] == "is" or SEEN_WITH.get(attribute, attribute) in seen:
        return value
    if attribute == "weather":
        return _new_weather(value[1] if value[0] == "seen" else value[0] == "new foul")
    return "new", SIZES[SEEN_WITH.get(attribute, attribute)]


def _new_weather(foul: bool) -> Value:
    return ("new foul", len(world.FOUL)) if foul else ("new fair", len(world.FAIR))


def beat_views(beats: Sequence[Beat]) -> list[View]:
    """Beats as frames in roles."""
    hours = itertools.accumulate(int(b.later) for b in beats)
    return [
        View(b.action, b.state, b.feeling, b.reason, tuple(b.cast), b.place, hour, b.foul)
        for b, hour in zip(beats, hours, strict=True)
    ]


def scene_views(scenes: Sequence[Scene]) -> list[View]:
    """Scenes as frames in values."""
    return [
        View(s.action, s.state, s.feeling, s.reason, (s.name, s.name_partner) if s.name_partner else (s.name,),
             s.where, world.TIMES.index(s.time), s.weather in world.FOUL)
        for s in scenes
    ]  # fmt: skip


def window(context: Sequence[View], target: View) -> Window:
    """Context and target, with every role numbered in its order of appearance."""
    cast = _numbers(itertools.chain.from_iterable(v.cast for v in context))
    places = _numbers(v.place for v in context)
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


def best(weights: Mapping[Value, float]) -> tuple[Value, float]:
    """The best prediction and its weight. Values that were not seen share theirs equally."""
    chances = {value: p / value[1] if value[0].startswith("new") else p for value, p in weights.items()}
    winner = max(chances, key=lambda v: chances[v])
    return winner, chances[winner]


@lru_cache(maxsize=4)
def _windows(noise: float, digression: float, chapters: int, context: int) -> dict[Window, float]:
    """Every window with its mean number of occurrences per story."""
    sequences: dict[tuple[Beat, ...], float] = defaultdict(float)
    paths_of = [plots.paths(noise, digression, i == 0, i == chapters - 1) for i in range(chapters)]
    for path in itertools.chain(*paths_of):
        for start in range(len(path.beats) - context):
            sequences[path.beats[start : start + context + 1]] += path.probability
    for before, after in itertools.pairwise(paths_of):
        for beats, weight in _straddling(before, after, context + 1):
            sequences[beats] += weight
    counts: dict[Window, float] = defaultdict(float)
    for beats, weight in sequences.items():
        views = beat_views(beats)
        counts[window(views[:-1], views[-1])] += weight
    return counts


def _straddling(before: Sequence[Path], after: Sequence[Path], length: int) -> Iterator[tuple[tuple[Beat, ...], float]]:
    """The last beats of a chapter and the first of the next, ``length`` together, with their probability."""
    # The next plot is one of all but this one, while the probabilities of its paths are among all plots.
    share = len(plots.PLOTS) / (len(plots.PLOTS) - 1)
    for count in range(1, length):
        ends = _pieces(before, slice(-count, None), count)
        starts = _pieces(after, slice(length - count), length - count)
        for plot, other in itertools.permutations(plots.PLOTS, 2):
            for (end, p), (start, q) in itertools.product(ends[plot].items(), starts[other].items()):
                yield end + start, p * q * share


def _pieces(paths: Sequence[Path], part: slice, length: int) -> dict[str, dict[tuple[Beat, ...], float]]:
    """Plot -> a part of its paths -> probability. Paths that are shorter than the part are left out."""
    pieces: dict[str, dict[tuple[Beat, ...], float]] = {plot: defaultdict(float) for plot in plots.PLOTS}
    for path in paths:
        if len(path.beats) >= length:
            pieces[path.plot][path.beats[part]] += path.probability
    return pieces


# Context -> for each attribute: value -> mean number of occurrences per story. Values are in the terms of a reader who
# sees every attribute, see ``seen_as``.
Outcomes = dict[Hashable, tuple[dict[Value, float], ...]]


@lru_cache(maxsize=32)
def _outcomes(noise: float, digression: float, chapters: int, context: int, seen: frozenset[str]) -> Outcomes:
    table: Outcomes = {}
    for whole, weight in _windows(noise, digression, chapters, context).items():
        frames = whole.context(seen)
        if frames not in table:
            table[frames] = tuple({} for _ in ATTRIBUTES)
        for weights, value in zip(table[frames], whole.values, strict=True):
            weights[value] = weights.get(value, 0.0) + weight
    return table


def visible(reader: str, in_text: frozenset[str], in_picture: frozenset[str]) -> frozenset[str]:
    """The attributes that a reader sees in a story with these optional attributes in texts and pictures."""
    text, pictures = ALWAYS_IN_TEXT | in_text, ALWAYS_IN_PICTURE | in_picture
    return {"text": text, "pictures": pictures, "both": text | pictures}[reader]


def channels(settings: Settings) -> Iterator[tuple[frozenset[str], frozenset[str], float]]:
    """Every choice of optional attributes in texts and in pictures, with its probability."""
    for in_text in _subsets(OPTIONAL_IN_TEXT):
        for in_picture in _subsets(OPTIONAL_IN_PICTURE):
            p = 1.0
            for attribute in OPTIONAL_IN_TEXT:
                p *= settings.in_text if attribute in in_text else 1 - settings.in_text
            for attribute in OPTIONAL_IN_PICTURE:
                chance = settings.in_picture if attribute in in_text else 1.0
                p *= chance if attribute in in_picture else 1 - chance
            if p > 0:
                yield in_text, in_picture, p


def _subsets(names: Sequence[str]) -> Iterator[frozenset[str]]:
    for size in range(len(names) + 1):
        yield from map(frozenset, itertools.combinations(names, size))


class PerfectReader:
    """The best possible predictor of the next frame's attributes, for one kind of reader.

    reader: one of READERS. context: the number of frames that it sees.
    """

    def __init__(self, settings: Settings | None = None, reader: str = "both", context: int = 4) -> None:
        if reader not in READERS:
            raise SourceError(f"Storyworld: a reader is one of {', '.join(READERS)}, not {reader!r}.")
        self.settings, self.reader, self.context = settings or Settings(), reader, context
        most = LONGEST_CONTEXTS[self.settings.chapters]
        if not 1 <= context <= most:
            raise SourceError(f"Storyworld: context must be from 1 to {most} frames, not {context!r}.")
        self._world = (self.settings.noise, self.settings.digression, self.settings.chapters)
        self.windows = _windows(*self._world, context)

    def outcomes(self, seen: frozenset[str]) -> Outcomes:
        """What follows each context, for a reader who sees these attributes."""
        return _outcomes(*self._world, self.context, seen & CONTEXT)

    def ceilings(self) -> dict[str, float]:
        """Exact accuracy, over all windows of all stories, of predicting the most probable value of each attribute."""
        shares: dict[tuple[frozenset[str], str, bool], float] = defaultdict(float)
        for in_text, in_picture, p in channels(self.settings):
            seen = visible(self.reader, in_text, in_picture)
            for attribute in ATTRIBUTES:
                shares[seen & CONTEXT, attribute, SEEN_WITH.get(attribute, attribute) in seen] += p
        correct = dict.fromkeys(ATTRIBUTES, 0.0)
        for (seen, attribute, attribute_is_seen), p in shares.items():
            column = ATTRIBUTES.index(attribute)
            terms = frozenset({SEEN_WITH.get(attribute, attribute)}) if attribute_is_seen else frozenset()
            outcomes = self.outcomes(seen).values()
            correct[attribute] += p * sum(best(_in_terms(attribute, weights[column], terms))[1] for weights in outcomes)
        total = sum(self.windows.values())
        return {attribute: weight / total for attribute, weight in correct.items()}

    def correctness(self, scenes: Sequence[Scene], target: Scene) -> dict[str, float]:
        """Probability that each prediction for ``target`` is correct: 0, 1, or that of a guess among unseen values."""
        seen = visible(self.reader, target.in_text, target.in_picture)
        views = scene_views([*scenes, target])
        whole = window(views[:-1], views[-1])
        weights_of_context = self.outcomes(seen)[whole.context(seen)]
        result = {}
        for attribute, weights, value in zip(ATTRIBUTES, weights_of_context, whole.values, strict=True):
            answer = best(_in_terms(attribute, weights, seen))[0]
            chance = 1 / answer[1] if answer[0].startswith("new") else 1.0
            result[attribute] = chance if answer == seen_as(attribute, value, seen) else 0.0
        return result


def _in_terms(attribute: str, weights: Mapping[Value, float], seen: frozenset[str]) -> Mapping[Value, float]:
    """Weights of values in the terms of a reader, see ``seen_as``."""
    if SEEN_WITH.get(attribute, attribute) in seen:
        return weights
    merged: dict[Value, float] = {}
    for value, p in weights.items():
        term = seen_as(attribute, value, seen)
        merged[term] = merged.get(term, 0.0) + p
    return merged


def ceilings(settings: Settings | None = None, context: int = 4) -> pd.DataFrame:
    """One row per attribute of the next frame: the accuracy, from 0 to 1, of perfect readers and of two baselines.

    Accuracy is over all windows of all stories together, as ``storylib.data.types.windows`` makes them. Columns: both,
    text, pictures (ceilings); copy_last (the last frame's value) and majority (the most common value). The baselines
    know every attribute of the context, whatever texts and pictures leave out.
    """
    return _ceilings(settings or Settings(), context).copy()


@lru_cache(maxsize=8)
def _ceilings(settings: Settings, context: int) -> pd.DataFrame:
    """Kept on disk: two chapters show them, and they take seconds."""
    key = [dataclasses.asdict(settings), context]
    entry = cache_entry("storyworld", "ceilings", key, "sources.storyworld.truth")
    make_sealed(entry, lambda folder: _exact_ceilings(settings, context).to_parquet(folder / "table.parquet"))
    return pd.read_parquet(entry / "table.parquet")


def _exact_ceilings(settings: Settings, context: int) -> pd.DataFrame:
    readers = {reader: PerfectReader(settings, reader, context) for reader in READERS}
    table = {name: reader.ceilings() for name, reader in readers.items()}
    table |= baselines(readers["both"].windows)
    return pd.DataFrame(table, index=pd.Index(ATTRIBUTES, name="attribute"))


def baselines(windows: Mapping[Window, float]) -> dict[str, dict[str, float]]:
    """Accuracy of the last frame's value and of the most common value."""
    total = sum(windows.values())
    copied = dict.fromkeys(ATTRIBUTES, 0.0)
    counts: dict[str, dict[Value, float]] = {a: defaultdict(float) for a in ATTRIBUTES}
    for whole, weight in windows.items():
        for attribute, last, value in zip(ATTRIBUTES, whole.last_values(), whole.values, strict=True):
            copied[attribute] += weight * (last == value) / total
            counts[attribute][seen_as(attribute, value, frozenset())] += weight / total
    return {"copy_last": copied, "majority": {attribute: best(row)[1] for attribute, row in counts.items()}}
