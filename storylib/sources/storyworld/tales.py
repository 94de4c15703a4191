"""From a plot to a tale: who plays which role, where, with what; every scene's truth, before any word or line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from storylib.sources.storyworld import plots, world
from storylib.sources.storyworld.world import Dice, Settings

OUTFITS = ("jumper", "dress", "dungarees", "cape")
PATTERNS = ("plain", "plain", "stripes", "dots")


@dataclass(frozen=True)
class Scene:
    """All that is true of one frame. ``None``: there is no such thing in the scene."""

    plot: str
    who: str  # species of the one who acts
    partner: str | None  # species of the other one; called "with" in the attributes
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
    told: frozenset[str]  # which of who, where, object, time the text tells
    shown: frozenset[str]  # which of where, object the picture shows
    page: int
    seed: str  # of the drawing and the wording: world/tale/page

    def attributes(self) -> dict[str, Any]:
        """The truth as a frame carries it; told and shown as sorted lists, so that it can be written as JSON."""
        values = {f.name.replace("partner", "with"): getattr(self, f.name) for f in fields(self)}
        values.pop("seed"), values.pop("page")
        return values | {"told": sorted(self.told), "shown": sorted(self.shown)}


@dataclass(frozen=True)
class Tale:
    """One story before it is written and drawn."""

    number: int
    plot: str
    scenes: tuple[Scene, ...]


TELLABLE = ("object", "time", "where", "who")  # what a text may leave out
SHOWABLE = ("object", "where")  # what a picture may leave out, if the text tells it


def tell(settings: Settings, number: int) -> Tale:
    """Tale ``number`` of a world; it depends on nothing else."""
    dice = Dice("tale", settings.seed, number)
    plot, beats = plots.draw(settings.noise, settings.digression, dice)
    species = dict(zip("HF", dice.sample(world.SPECIES, 2), strict=True))
    places = dict(zip("ABC", dice.sample(world.PLACES, 3), strict=True))
    colours = dict(zip("HF", dice.sample(world.COLOURS, 2), strict=True))
    names = dict(zip("HF", dice.sample(tuple(world.NAMES), 2), strict=True))
    outfits = {role: dice.pick(OUTFITS) for role in "HF"}
    patterns = {role: dice.pick(PATTERNS) for role in "HF"}
    thing = dice.pick(world.OBJECTS)
    fair, foul = dice.pick(world.FAIR), dice.pick(world.FOUL)
    hour = int(dice.between(0, len(world.TIMES)))
    told = frozenset(a for a in TELLABLE if dice.chance(settings.told))
    shown = frozenset(a for a in SHOWABLE if dice.chance(settings.shown) or a not in told)
    scenes = []
    for page, beat in enumerate(beats, 1):
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
                time=world.TIMES[hour % len(world.TIMES)],
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
                told=told,
                shown=shown,
                page=page,
                seed=f"{settings.seed}/{number}/{page}",
            )
        )
    return Tale(number, plot, tuple(scenes))
