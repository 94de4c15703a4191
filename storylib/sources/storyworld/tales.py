"""From a plot to a tale: who plays which role, where and with what. Gives the truth of every scene."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from storylib.sources.storyworld.plots import draw_chapters
from storylib.sources.storyworld.world import (
    COLOURS,
    FAIR,
    FOUL,
    NAMES,
    OBJECTS,
    PLACES,
    SPECIES,
    TIMES,
    Dice,
    Settings,
)

OUTFITS = ("jumper", "dress", "dungarees", "cape")
PATTERNS = ("plain", "plain", "stripes", "dots")


@dataclass(frozen=True)
class Scene:
    """Everything that is true of one frame. ``None``: the scene has no such thing."""

    plot: str  # of the chapter
    who: str  # species of the actor
    partner: str | None  # species of the other character; called "with" in the attributes
    where: str
    action: str
    object: str | None
    state: str
    time: str
    weather: str
    garment: str  # colour
    garment_partner: str | None
    outfit: str  # its cut
    outfit_partner: str | None
    pattern: str  # of the cloth
    pattern_partner: str | None
    feeling: str
    reason: str
    name: str
    name_partner: str | None
    in_text: frozenset[str]  # which of OPTIONAL_IN_TEXT the text states
    in_picture: frozenset[str]  # which of OPTIONAL_IN_PICTURE the picture shows
    number: int  # of the frame, from 1
    seed: str  # of drawing and wording: world/tale/frame

    def attributes(self) -> dict[str, Any]:
        """The truth as a JSON object, for ``Frame.attributes``."""
        values = {f.name.replace("partner", "with"): getattr(self, f.name) for f in fields(self)}
        del values["seed"], values["number"]
        return values | {"in_text": sorted(self.in_text), "in_picture": sorted(self.in_picture)}


@dataclass(frozen=True)
class Tale:
    """One story before it is written and drawn."""

    number: int
    plot: str  # of the first chapter
    scenes: tuple[Scene, ...]


OPTIONAL_IN_TEXT = ("object", "time", "where", "who")  # what a text may leave out
OPTIONAL_IN_PICTURE = ("object", "where")  # what a picture may leave out, if the text states it


def make_tale(settings: Settings, number: int) -> Tale:
    """Tale ``number`` of the world with these settings. It depends on nothing else."""
    dice = Dice("tale", settings.seed, number)
    chapters = draw_chapters(settings.noise, settings.digression, settings.chapters, dice)
    species = dict(zip("HF", dice.sample(SPECIES, 2), strict=True))
    places = dict(zip("ABC", dice.sample(PLACES, 3), strict=True))
    colours = dict(zip("HF", dice.sample(COLOURS, 2), strict=True))
    names = dict(zip("HF", dice.sample(tuple(NAMES), 2), strict=True))
    outfits = {role: dice.pick(OUTFITS) for role in "HF"}
    patterns = {role: dice.pick(PATTERNS) for role in "HF"}
    thing = dice.pick(OBJECTS)
    fair, foul = dice.pick(FAIR), dice.pick(FOUL)
    hour = int(dice.between(0, len(TIMES)))
    in_text = frozenset(a for a in OPTIONAL_IN_TEXT if dice.chance(settings.in_text))
    in_picture = frozenset(a for a in OPTIONAL_IN_PICTURE if dice.chance(settings.in_picture) or a not in in_text)
    scenes = []
    for position, (plot, beat) in enumerate(((plot, beat) for plot, beats in chapters for beat in beats), 1):
        hour += beat.later
        actor, partner = beat.cast[0], beat.cast[1:] or None
        scenes.append(
            Scene(
                plot=plot,
                who=species[actor],
                partner=species[partner] if partner else None,
                where=places[beat.place],
                action=beat.action,
                object=None if beat.state == "none" else thing,
                state=beat.state,
                time=TIMES[hour % len(TIMES)],
                weather=foul if beat.foul else fair,
                garment=colours[actor],
                garment_partner=colours[partner] if partner else None,
                outfit=outfits[actor],
                outfit_partner=outfits[partner] if partner else None,
                pattern=patterns[actor],
                pattern_partner=patterns[partner] if partner else None,
                feeling=beat.feeling,
                reason=beat.reason,
                name=names[actor],
                name_partner=names[partner] if partner else None,
                in_text=in_text,
                in_picture=in_picture,
                number=position,
                seed=f"{settings.seed}/{number}/{position}",
            )
        )
    return Tale(number, chapters[0][0], tuple(scenes))
