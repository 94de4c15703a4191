"""The text of a scene, and its parser: one lexicon serves both.

A text is one or two sentences: who did what, where and when; how they felt, and why. Parts that a story does not state
are left out ("Tomas" instead of "Tomas the fox", "something dear" instead of "a kite"). ``parse`` looks for the phrases
of the lexicon, so it also reads sentences that a model wrote, as far as they use its words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from storylib.sources.storyworld import lexicon
from storylib.sources.storyworld.tales import Scene, Tale
from storylib.sources.storyworld.world import NAMES, Dice

# {S} subject, {V} verb and object, {P} place, {T} time, {p} pronoun, {f} feeling, {g} feeling in one word, {r} reason
PLANS = (
    "{T}, {S} {V} {P}. {p} felt {f} because {r}.",
    "{S} {V} {P} {T}. {p} felt {f}, for {r}.",
    "{P}, {S} {V} {T}. {p} felt {f} because {r}.",
    "{T}, {S} {V} {P}. because {r}, {p} felt {f}.",
    "{S} {V} {P} {T}. since {r}, {p} felt {f}.",
    "feeling {f}, {S} {V} {P} {T}, for {r}.",
    "{T}, feeling {f}, {S} {V} {P}, because {r}.",
    "{T}, {P}, {S} {V}. how {g} {p} felt, since {r}!",
    "{P}, {S} {V} {T}. {p} felt {f}: {r}.",
    "{S} {V} {P} {T}. {p} felt {f} now, as {r}.",
    "{S} {V} {T}, {P}. and because {r}, {p} felt quite {g}.",
    "{P}, {T}, {S} {V}. {p} could not help feeling {f}, as {r}.",
    "{r}, and so {S} felt {f}. {p} {V} {P} {T}.",
    "{S} felt {f} because {r}. {T}, {p} {V} {P}.",
)
WORDS = (15, 25)  # number of words in a text, where the grammar allows


def title(tale: Tale) -> str:
    """The title of a tale, drawn from the titles of its first plot."""
    dice = Dice("title", tale.scenes[0].seed)
    return dice.pick(lexicon.TITLES[tale.plot]).format(name=tale.scenes[0].name)


def write(scene: Scene, dice: Dice) -> str:
    """One of the many texts of a scene."""
    for brevity in range(8):
        text = _draft(scene, dice, brevity)
        if WORDS[0] <= text.count(" ") + 1 <= WORDS[1]:
            break
    return text


def _draft(scene: Scene, dice: Dice, brevity: int) -> str:
    """A text; each phrase is the shortest of 1 + ``brevity`` draws."""

    def pick(phrases: Sequence[str]) -> str:
        return min((dice.pick(phrases) for _ in range(1 + brevity)), key=lambda phrase: phrase.count(" "))

    def character(name: str, species: str) -> str:
        if "who" not in scene.in_text:
            return name
        word, kind = dice.pick(lexicon.SPECIES[species]), dice.pick(lexicon.KINDS)
        return pick((f"{name} the {word}", f"{name} the {kind} {word}", f"the {kind} {word} {name}"))

    verb = pick(lexicon.ACTIONS[scene.action])
    subject, pronoun, companion = character(scene.name, scene.who), NAMES[scene.name], ""
    if scene.partner and scene.name_partner:
        companion = character(scene.name_partner, scene.partner)
        if "{c}" not in verb:
            subject, pronoun = f"{subject} and {companion}", "they"
    if scene.object is not None:
        thing = pick(lexicon.OBJECTS[scene.object] if "object" in scene.in_text else lexicon.SOMETHING)
        if scene.action not in lexicon.STATE_OF_ACTION:
            aside = pick(lexicon.STATES[scene.state]).replace("{o}", thing)
            # After a companion, the aside would refer to the companion.
            if "{c}" in verb or dice.chance(0.3):
                subject = f"{subject}, {aside},"
            else:
                verb = f"{verb}, {aside},"
        verb = verb.replace("{o}", thing)
    feelings = lexicon.FEELINGS[scene.feeling]
    plan = _plan(dice.pick(PLANS), "time" in scene.in_text, "where" in scene.in_text)
    opener = ""
    if plan.startswith("{S}") and dice.chance(0.6 / (1 + brevity)):
        opener = dice.pick(lexicon.ONCE if scene.reason == "new_day" else lexicon.THEN) + " "
    text = opener + plan.format(
        S=subject,
        V=verb.replace("{c}", companion),
        P=pick(lexicon.PLACES[scene.where]),
        T=pick(lexicon.TIMES[scene.time]),
        p=pronoun,
        f=pick(feelings),
        g=pick([f for f in feelings if " " not in f]),
        r=pick(lexicon.REASONS[scene.reason]),
    )
    text = text.replace(",,", ",").replace(",.", ".").replace(", and so the", ", so the")
    return _START.sub(lambda m: m.group().upper(), text)


_START = re.compile(r"(?:^|(?<=[.!] ))[a-z]")


@lru_cache(maxsize=256)
def _plan(plan: str, time: bool, place: bool) -> str:
    """A plan without the parts that a story does not state, and without the gaps they would leave."""
    for part, stated in (("{T}", time), ("{P}", place)):
        if not stated:
            plan = re.sub(rf"(?:^|(?<=[.] )){part}, |,? (?<![.] ){part}", "", plan).replace(",,", ",")
    return plan.replace(",.", ".")


# Parsing


def stated(scene: Scene) -> dict[str, Any]:
    """The attributes that the text of a scene states, which ``parse`` recovers from it."""
    truth = scene.attributes()
    keys = ["name", "name_with", "action", "state", "feeling", "reason"]
    keys += [key for key in ("where", "time") if key in scene.in_text]
    if "who" in scene.in_text:
        keys.append("who")
    if "who" in scene.in_text or scene.partner is None:
        keys.append("with")
    if "object" in scene.in_text or scene.object is None:
        keys.append("object")
    return {key: truth[key] for key in keys}


def parse(text: str) -> dict[str, Any]:
    """The attributes that a text states; other keys are missing. None: the scene has no such thing."""
    text = " ".join(text.split()).lower()
    attributes: dict[str, Any] = {}
    names = [name.capitalize() for name in _find_all("name", text)]
    for key, partner, values in (("name", "name_with", names), ("who", "with", _find_all("species", text))):
        if values:
            attributes[key] = values[0]
            attributes[partner] = values[1] if len(values) > 1 else None
    if len(names) == 1:
        attributes["with"] = None
    for key in ("where", "time", "feeling", "reason", "action", "state", "object"):
        values = _find_all(key, text)
        if values:
            attributes[key] = values[0]
    if attributes.get("action") in lexicon.STATE_OF_ACTION:
        attributes["state"] = lexicon.STATE_OF_ACTION[attributes["action"]]
    elif "action" in attributes and "state" not in attributes:
        attributes["state"], attributes["object"] = "none", None
    return attributes


def _find_all(key: str, text: str) -> list[str]:
    """The different values of an attribute in the order in which the text names them."""
    expression, values = _patterns(key)
    return list(dict.fromkeys(values[(m.lastindex or 1) - 1] for m in expression.finditer(text)))


@lru_cache(maxsize=16)
def _patterns(key: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """A regular expression with one group per value, longer phrases first, and the values of its groups."""
    thing = _either([w.lower() for words in (*lexicon.OBJECTS.values(), lexicon.SOMETHING) for w in words])
    species, kinds = _either([w for words in lexicon.SPECIES.values() for w in words]), _either(lexicon.KINDS)
    name = _either([n.lower() for n in NAMES])
    someone = rf"(?:(?:the {kinds} {species} )?{name}(?: the (?:{kinds} )?{species})?)"
    tables: dict[str, Mapping[str, Iterable[str]]] = {
        "name": {n.lower(): [n.lower()] for n in NAMES},
        "species": lexicon.SPECIES,
        "where": lexicon.PLACES,
        "time": lexicon.TIMES,
        "feeling": {f: [rf"(?:felt|feeling) (?:quite )?{w}|how {w}" for w in ws] for f, ws in lexicon.FEELINGS.items()},
        "reason": lexicon.REASONS,
        "action": lexicon.ACTIONS,
        "state": lexicon.STATES,
        "object": {o: [o] for o in lexicon.OBJECTS},
    }
    table = tables[key]
    groups = []
    for phrases in table.values():
        ordered = sorted((p.replace("{o}", thing).replace("{c}", someone) for p in phrases), key=len, reverse=True)
        groups.append(rf"(\b(?:{'|'.join(ordered)})\b)")
    return re.compile("|".join(groups)), tuple(table)


def _either(words: Iterable[str]) -> str:
    return "(?:" + "|".join(sorted(words, key=len, reverse=True)) + ")"
