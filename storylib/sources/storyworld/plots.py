"""The plots of Storyworld: graphs of beats with the probability of every next beat.

A beat is written ``action cast place state feeling reason [foul] [later]``. Cast: H the hero, F the friend; two
letters are two characters, the actor first. Places A, B, C are three different places of the story. ``foul``: bad
weather. ``later``: the time of day advances. All plots share their openings, and several continue alike, either in the
pictures (a search for something lost or for a treasure) or in the text (a walk in sunshine or in rain). The ending
depends on a feeling and on the weather, so that it can be predicted only from text and pictures together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from storylib.sources.storyworld.world import Dice


class Beat(NamedTuple):
    """One step of a plot, in roles; the characters and places that fill them are drawn for each story."""

    action: str
    cast: str  # "H", "F", "HF" or "FH"
    place: str  # "A", "B" or "C"
    state: str  # of the story's object
    feeling: str
    reason: str
    foul: bool = False
    later: bool = False


@lru_cache(maxsize=4096)
def read(line: str) -> Beat:
    """A beat from its line in the tables below."""
    action, cast, place, state, feeling, reason, *flags = line.split()
    if not set(flags) <= {"foul", "later"}:
        raise ValueError(f"unknown flag in the beat {line!r}")
    return Beat(action, cast, place, state, feeling, reason, "foul" in flags, "later" in flags)


@dataclass(frozen=True)
class Path:
    """One way through a plot: its beats, and how probable it is among all paths of all plots."""

    plot: str
    beats: tuple[Beat, ...]
    probability: float


# The first beats, equally likely in every plot; each continues with the plot's "start".
OPENINGS = (
    "play H A held happy new_day",
    "walk H A held curious new_day",
    "rest H A held calm new_day",
)

# Beats that lead nowhere: place, cast, object and weather stay as they were.
DIGRESSIONS = (
    ("watch", "curious", "butterfly"),
    ("dance", "happy", "tune"),
    ("rest", "tired", "long_way"),
    ("fall", "surprised", "root"),
)

END = "the end"  # a plot's climax continues with one of ENDINGS

# plot -> beat -> (what happens, {next beat: probability}). A climax has two feelings, a lively and a quiet one.
PLOTS: dict[str, dict[str, tuple[str, dict[str, float]]]] = {
    "lost and found": {
        "start": ("search H A wished worried lost", {"ask": 0.5, "weep": 0.5}),
        "ask": ("meet HF B wished worried lost later", {"joint": 0.5, "lucky": 0.5}),
        "joint": ("search HF B wished curious promise", {"lucky": 0.6, "seen": 0.4}),
        "weep": ("cry H A wished sad lost", {"comfort": 0.5, "seen": 0.5}),
        "comfort": ("hug HF A wished lonely comfort", {"lucky": 0.5, "seen": 0.5}),
        "lucky": ("find FH B ground proud|grateful luck", {END: 1.0}),
        "seen": ("find H B ground surprised|tired luck", {END: 1.0}),
    },
    "treasure": {
        "start": ("search H A wished excited rumour", {"out": 0.35, "out in rain": 0.3, "team": 0.35}),
        "team": ("meet HF A wished excited rumour", {"dig together": 1.0}),
        "out": ("walk H B none curious rumour later", {"dig": 0.8, "shelter": 0.2}),
        "out in rain": ("walk H B none curious rumour foul later", {"shelter": 0.9, "dig": 0.1}),
        "shelter": ("hide H B none worried storm foul", {"dig after": 1.0}),
        "dig": ("dig H B wished tired rumour", {"found": 0.7, "nothing": 0.3}),
        "dig after": ("dig H B wished tired rumour", {"found": 1.0}),
        "dig together": ("dig HF B wished excited rumour later", {"found together": 1.0}),
        "nothing": ("cry H B wished sad mistake", {"found": 1.0}),
        "found": ("find H B ground surprised|tired luck", {END: 1.0}),
        "found together": ("find HF B ground excited|grateful luck", {END: 1.0}),
    },
    "journey": {
        "start": ("walk H A held excited journey", {"up": 0.35, "up in rain": 0.25, "along": 0.4}),
        "up": ("climb H B none tired journey later", {"view": 0.8, "caught": 0.2}),
        "up in rain": ("climb H B none tired journey foul later", {"caught": 0.9, "view": 0.1}),
        "along": ("walk H B none curious journey later", {"view": 0.4, "stranger": 0.6}),
        "view": ("watch H B none calm view", {"stranger": 1.0}),
        "caught": ("hide H B none afraid storm foul", {"stranger": 1.0}),
        "stranger": ("meet HF C none curious|tired stranger later", {END: 1.0}),
    },
    "gift": {
        "start": ("walk H A held excited gift", {"hurry": 0.4, "careful": 0.6}),
        "hurry": ("run H B held excited gift", {"trip": 0.7, "there": 0.3}),
        "careful": ("carry H B held proud gift", {"trip": 0.2, "there": 0.8}),
        "trip": ("fall H B ground worried mistake", {"there": 1.0}),
        "there": ("meet HF C held curious visit later", {"present": 1.0}),
        "present": ("give HF C held happy|calm gift", {END: 1.0}),
    },
    "storm and shelter": {
        "start": ("walk H B none calm errand", {"clouds": 0.5, "run": 0.5}),
        "clouds": ("watch H B none worried storm foul", {"alone": 0.5, "together": 0.5}),
        "run": ("run H B none afraid storm foul", {"alone": 0.5, "together": 0.5}),
        "alone": ("hide H C none lonely storm foul", {"company": 0.7, "over": 0.3}),
        "together": ("hide HF C none calm comfort foul", {"over": 1.0}),
        "company": ("meet HF C none surprised comfort foul", {"over": 1.0}),
        "over": ("watch HF C none happy|grateful rainbow later", {END: 1.0}),
    },
    "race": {
        "start": ("meet HF A none excited dare", {"off": 1.0}),
        "off": ("run HF B none excited dare later", {"doze": 0.35, "trip": 0.3, "lead": 0.35}),
        "doze": ("rest H B none proud dare", {"beaten": 1.0}),
        "trip": ("fall H B none worried mistake", {"helped": 0.6, "beaten": 0.4}),
        "lead": ("run H C none proud win", {"won": 1.0}),
        "helped": ("hug FH B none happy|grateful kindness", {END: 1.0}),
        "beaten": ("meet FH C none proud|calm win", {END: 1.0}),
        "won": ("meet HF C none proud|tired win", {END: 1.0}),
    },
    "picnic": {
        "start": ("meet HF A none excited picnic", {"out": 0.55, "out in rain": 0.45}),
        "out": ("walk HF B none happy picnic later", {"eat": 0.9, "shelter": 0.1}),
        "out in rain": ("walk HF B none happy picnic foul later", {"eat": 0.1, "shelter": 0.9}),
        "shelter": ("hide HF B none worried storm foul", {"eat inside": 1.0}),
        "eat inside": ("eat HF C none excited|calm comfort", {END: 1.0}),
        "eat": ("eat HF B none happy picnic", {"nap": 0.4, "game": 0.6}),
        "nap": ("rest HF B none happy|tired full", {END: 1.0}),
        "game": ("play HF B ground excited|calm game", {END: 1.0}),
    },
    "helping": {
        "start": ("walk H B none calm errand", {"sob": 0.6, "fallen": 0.4}),
        "sob": ("cry F B ground sad broken", {"offer": 1.0}),
        "fallen": ("fall F B ground worried mistake", {"offer": 0.7, "lift": 0.3}),
        "offer": ("meet HF B ground curious promise", {"mend": 0.65, "lift": 0.35}),
        "mend": ("build HF B ground proud promise later", {"thanks": 1.0}),
        "lift": ("carry HF C held tired promise later", {"thanks": 1.0}),
        "thanks": ("hug FH C held happy|grateful kindness", {END: 1.0}),
    },
    "chase": {
        "start": ("chase FH A held surprised tease", {"on": 0.6, "tumble": 0.4}),
        "on": ("chase FH B held excited tease later", {"hide": 0.5, "tumble": 0.5}),
        "hide": ("hide F C held worried tease", {"found": 1.0}),
        "found": ("find HF C ground surprised luck", {"sorry": 1.0}),
        "tumble": ("fall F B ground sad mistake", {"sorry": 1.0}),
        "sorry": ("give FH B held happy|sad sorry", {END: 1.0}),
    },
    "surprise": {
        "start": ("build H A ground excited surprise", {"fetch": 0.5, "hush": 0.5}),
        "fetch": ("carry H B held tired surprise later", {"arrive": 0.6, "late": 0.4}),
        "hush": ("hide H A held excited surprise", {"arrive": 0.6, "late": 0.4}),
        "late": ("wait H A held worried surprise later", {"arrive": 1.0}),
        "arrive": ("meet FH A held surprised visit", {"present": 0.5, "joy": 0.5}),
        "present": ("give HF A held excited|calm gift", {END: 1.0}),
        "joy": ("hug HF A held happy|grateful friends", {END: 1.0}),
    },
}

# What follows a climax depends on its feeling, which only the text states, and on its weather, which only the picture
# shows: (quiet?, bad weather?) -> the ending that is four times as likely as the others together. A dot: as before.
ENDINGS: dict[tuple[bool, bool], str] = {
    (False, False): "dance . . . happy friends",
    (True, False): "rest . . . calm long_way",
    (False, True): "run . A . excited home foul",
    (True, True): "hide . . . worried storm foul",
}
FITTING = 0.8  # probability of that ending
CLIMAXES = dict.fromkeys(ENDINGS, 1 / len(ENDINGS))  # both feelings and both weathers are equally likely
SUPPER = "eat . A none grateful hunger later"  # may follow the ending of a short story of one chapter
SUPPER_PROBABILITY = 0.4
LONGEST = 7  # beats of a chapter without a digression


def mixed(probabilities: dict[str, float], noise: float) -> dict[str, float]:
    """Probabilities of which a share is spread evenly over the alternatives."""
    return {name: (1 - noise) * p + noise / len(probabilities) for name, p in probabilities.items()}


@lru_cache(maxsize=8)
def paths(noise: float, digression: float, first: bool = True, last: bool = True) -> tuple[Path, ...]:
    """Every path that a chapter can take, the first or last of its story or both; the probabilities sum to one.

    The first chapter has the opening, the last one the digression, and a chapter that is the whole story the supper.
    """
    openings = [(read(opening),) for opening in OPENINGS] if first else [()]
    all_paths = []
    for plot in PLOTS:
        for opening in openings:
            for core, probability in _walks(plot, "start", noise, opening, first and last):
                share = probability / len(openings) / len(PLOTS)
                digressing = digression if last else 0.0
                all_paths.append(Path(plot, core, share * (1 - digressing)))
                all_paths += [Path(plot, b, share * digressing * p) for b, p in _digressions(core)]
    return tuple(p for p in all_paths if p.probability > 0)


Walk = tuple[tuple[Beat, ...], float]  # beats and their joint probability


def _walks(plot: str, name: str, noise: float, before: tuple[Beat, ...], whole: bool) -> Iterator[Walk]:
    line, following = PLOTS[plot][name]
    if END in following:
        yield from _endings(line, noise, before, whole)
        return
    for successor, p in mixed(following, noise).items():
        for beats, q in _walks(plot, successor, noise, (*before, read(line)), whole):
            yield beats, p * q


def _endings(line: str, noise: float, before: tuple[Beat, ...], whole: bool) -> Iterator[Walk]:
    for (quiet, foul), p in CLIMAXES.items():
        climax = _climax(line, quiet, foul)
        for end, q in _ending_probabilities(quiet, foul, noise).items():
            beats = (*before, climax, _after(climax, end))
            supper = SUPPER_PROBABILITY if whole and len(beats) < LONGEST else 0.0
            yield beats, p * q * (1 - supper)
            if supper:
                yield (*beats, _after(beats[-1], SUPPER)), p * q * supper


def _climax(line: str, quiet: bool, foul: bool) -> Beat:
    """A climax in one of its two feelings and two weathers."""
    action, cast, place, state, feelings, *rest = line.split()
    lively_feeling, quiet_feeling = feelings.split("|")
    feeling = quiet_feeling if quiet else lively_feeling
    flags = ["foul"] if foul else []
    return read(" ".join([action, cast, place, state, feeling, *rest, *flags]))


def _ending_probabilities(quiet: bool, foul: bool, noise: float) -> dict[str, float]:
    spread = (1 - FITTING) / (len(ENDINGS) - 1)
    return mixed({end: FITTING if key == (quiet, foul) else spread for key, end in ENDINGS.items()}, noise)


def _after(beat: Beat, line: str) -> Beat:
    """The beat of a line whose dots stand for the previous values; an object on the ground has been picked up."""
    state = "held" if beat.state == "ground" else beat.state
    action, *parts = line.split()
    previous = (beat.cast, beat.place, state)
    resolved = [old if new == "." else new for new, old in zip(parts[:3], previous, strict=True)]
    return read(" ".join([action, *resolved, *parts[3:]]))


def _digressions(beats: tuple[Beat, ...]) -> Iterator[Walk]:
    """A beat that leads nowhere, after any beat but the first and the last; all places and kinds equally likely."""
    positions = range(2, len(beats))
    for at in positions:
        for kind in DIGRESSIONS:
            yield _digress(beats, at, kind), 1 / (len(positions) * len(DIGRESSIONS))


def _digress(beats: tuple[Beat, ...], at: int, kind: tuple[str, str, str]) -> tuple[Beat, ...]:
    action, feeling, reason = kind
    aside = beats[at - 1]._replace(action=action, feeling=feeling, reason=reason, later=False)
    return (*beats[:at], aside, *beats[at:])


def draw_chapters(noise: float, digression: float, chapters: int, dice: Dice) -> list[tuple[str, tuple[Beat, ...]]]:
    """A different plot for each chapter, and one way through it; ``paths`` has the probability of every outcome."""
    unused, drawn = list(PLOTS), []
    for chapter in range(chapters):
        plot = unused.pop(unused.index(dice.pick(unused)))
        drawn.append((plot, _draw_chapter(plot, noise, digression, chapter == 0, chapter == chapters - 1, dice)))
    return drawn


def _draw_chapter(plot: str, noise: float, digression: float, first: bool, last: bool, dice: Dice) -> tuple[Beat, ...]:
    """One way through a plot, drawn beat by beat."""
    beats: tuple[Beat, ...] = (read(dice.pick(OPENINGS)),) if first else ()
    name = "start"
    while END not in PLOTS[plot][name][1]:
        line, following = PLOTS[plot][name]
        beats, name = (*beats, read(line)), dice.weighted(mixed(following, noise))
    quiet, foul = dice.weighted(CLIMAXES)
    climax = _climax(PLOTS[plot][name][0], quiet, foul)
    beats = (*beats, climax, _after(climax, dice.weighted(_ending_probabilities(quiet, foul, noise))))
    if first and last and len(beats) < LONGEST and dice.chance(SUPPER_PROBABILITY):
        beats = (*beats, _after(beats[-1], SUPPER))
    if last and dice.chance(digression):
        beats = _digress(beats, 2 + int(dice.between(0, len(beats) - 2)), dice.pick(DIGRESSIONS))
    return beats
