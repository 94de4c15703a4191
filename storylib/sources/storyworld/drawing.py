"""The picture of a scene: sky, place, figures with what they hold, and the foreground."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from storylib.sources.storyworld.figures import POSES, Figure, Pose, draw_figure
from storylib.sources.storyworld.heads import BUILDS, MOODS
from storylib.sources.storyworld.landscapes import LANDSCAPES
from storylib.sources.storyworld.settlements import SETTLEMENTS, WINDOWS
from storylib.sources.storyworld.shapes import Light, Shape, Sketch, ellipse, paint
from storylib.sources.storyworld.sky import Air, draw_mist, draw_sky, draw_weather
from storylib.sources.storyworld.staging import FURNITURE, SIGNS, STAGINGS, TOOLS, Staging, draw_thought
from storylib.sources.storyworld.tales import Scene
from storylib.sources.storyworld.things import draw_thing
from storylib.sources.storyworld.wildlife import draw_distractors, draw_foreground
from storylib.sources.storyworld.world import Dice, Settings

PLACES = LANDSCAPES | SETTLEMENTS
FIGURE_HEIGHT = 0.43  # of a figure of size one, in picture heights
FIRELIGHT = Light((1.0, 0.95, 0.88))
Held = Callable[[Sketch], None]


def render(scene: Scene, settings: Settings, size: int = 224) -> Image.Image:
    """The picture of a scene, RGB, size x size pixels."""
    return paint(compose(scene, settings), size)


def compose(scene: Scene, settings: Settings) -> list[Shape]:
    """Every polygon of the picture, in the unit square, from back to front."""
    place = scene.where if "where" in scene.in_picture else "plain"
    indoors, air = place == "cottage", Air.of(scene.time, scene.weather)
    sheet = Sketch()
    # Each part has its own random stream, so that none changes when another draws more often.
    draw_sky(sheet, air, Dice("sky", scene.seed))
    if indoors:  # the weather outside, at both possible positions of the window
        for x in WINDOWS:
            outside = sheet.at(complex(x - 0.17, 0.1), 0.36)
            draw_mist(outside, air, Dice("mist", scene.seed))
            draw_weather(outside, air, Dice("weather", scene.seed))
    # A place looks the same in every frame of a story.
    PLACES[place](sheet, air, Dice("place", place, scene.seed.rpartition("/")[0] if settings.jitter else ""))
    if not indoors:
        draw_mist(sheet, air, Dice("mist", scene.seed))
    near = sheet.at(0, light=FIRELIGHT if indoors else air.near)
    draw_distractors(near, settings.distractors, indoors, Dice("distractors", scene.seed))
    _draw_cast(near, scene, place, settings.jitter, Dice("cast", scene.seed))
    draw_foreground(near, place, FIRELIGHT if indoors else air.land(), Dice("foreground", scene.seed))
    if not indoors:
        draw_weather(near, air, Dice("weather", scene.seed))
    return sheet.shapes


@dataclass(frozen=True)
class Actor:
    """A figure, the position of its feet, its height in picture heights, and whether it looks to the left."""

    figure: Figure
    at: complex
    size: float
    turned: bool = False


def _draw_cast(s: Sketch, scene: Scene, place: str, jitter: float, dice: Dice) -> None:
    """One or two figures with their objects; drawn as if the first one looked to the right, and perhaps mirrored."""
    staging = STAGINGS[scene.action]
    mirrored = dice.chance(0.5 * min(1.0, jitter))
    size = FIGURE_HEIGHT * (1 + jitter * dice.between(-0.1, 0.12))
    middle = 0.5 + jitter * dice.between(-0.04, 0.04)
    ground = 0.885 + 0.25 * (size - FIGURE_HEIGHT) + jitter * dice.between(-0.02, 0.02)
    stage = s.at(complex(middle, ground), 1, mirrored)

    actor, other = _actors(scene, staging, size, jitter, dice)
    thing = scene.object if scene.object is None or "object" in scene.in_picture else "bundle"
    between = (other.at.real - actor.at.real) / 2 / actor.size if other else 0.0
    feet, head = stage.at(actor.at, actor.size), stage.at(actor.at - 0.95j * actor.size, actor.size)
    held = TOOLS.get(staging.tool or "")
    if thing and scene.state == "held":
        held = _holder(thing)
    if staging.behind:
        FURNITURE[staging.behind](feet, between, place)
    if other:
        _draw_actor(stage, other, None)
    _draw_actor(stage, actor, held)
    if staging.before:
        FURNITURE[staging.before](feet, between, place)
    if thing and scene.state == "ground":
        lying = stage.at(actor.at + actor.size * (0.46 + 0.07j), 0.32 * size)
        lying.fill(ellipse(0.02 + 0.5j, 0.55, 0.12, n=20), "#1d2233", 0.25)
        draw_thing(lying, thing)
    wished = scene.state == "wished"
    if staging.sign and not (thing and wished and staging.sign == "hello"):  # one bubble is enough
        SIGNS[staging.sign](head)
    if thing and wished:
        draw_thought(head, thing, 1 if other and not staging.facing else -1)


def _holder(thing: str) -> Held:
    return lambda hands: draw_thing(hands.at(0, 0.3), thing)


def _actors(scene: Scene, staging: Staging, size: float, jitter: float, dice: Dice) -> tuple[Actor, Actor | None]:
    pose, other_pose = (_vary(POSES[name], jitter, dice) for name in (staging.pose, staging.other_pose))
    figure = Figure(scene.who, scene.garment, scene.outfit, pose, MOODS[staging.mood], scene.pattern)
    height = size * BUILDS[scene.who].size ** 0.75
    if scene.partner is None:
        aside = {"ground": -0.1, "wished": 0.08, "held": -0.03, "none": 0.0}[scene.state]
        return Actor(figure, complex(aside, 0), height), None
    dress = (str(scene.garment_partner), str(scene.outfit_partner))
    other = Figure(scene.partner, *dress, other_pose, MOODS[staging.other_mood], str(scene.pattern_partner))
    other_height = size * 0.96 * BUILDS[scene.partner].size ** 0.75
    gap = staging.gap * (height + other_height) / 2 / 0.42
    if not staging.facing:
        gap = -gap
    return (
        Actor(figure, complex(-gap / 2, 0), height),
        Actor(other, complex(gap / 2, -0.028), other_height, staging.facing),
    )


def _vary(pose: Pose, jitter: float, dice: Dice) -> Pose:
    """A small random variation of a posture."""

    def bend(angles: tuple[float, float]) -> tuple[float, float]:
        return angles[0] + jitter * dice.between(-0.12, 0.12), angles[1] + jitter * dice.between(-0.12, 0.12)

    return dataclasses.replace(
        pose,
        near_arm=bend(pose.near_arm),
        far_arm=bend(pose.far_arm),
        lean=pose.lean + jitter * dice.between(-0.03, 0.03),
        nod=pose.nod + jitter * dice.between(-0.07, 0.07),
    )


def _draw_actor(stage: Sketch, actor: Actor, held: Held | None) -> None:
    """A figure and its shadow; ``held`` draws what it has in its hands."""
    width = 0.36 if actor.figure.pose.turn else 0.25
    stage.fill(ellipse(actor.at + 0.004j, actor.size * width, actor.size * 0.055, n=24), "#1d2233", 0.28)
    draw_figure(stage.at(actor.at, actor.size, actor.turned), actor.figure, held)
