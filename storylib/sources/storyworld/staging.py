"""How each action looks: postures and moods, its tool or furniture, and a sign in the air."""

from __future__ import annotations

import cmath
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storylib.sources.storyworld.heads import INK
from storylib.sources.storyworld.props import bush, rock
from storylib.sources.storyworld.shapes import Light, Sketch, blob, box, ellipse, limb, polygon, stroke
from storylib.sources.storyworld.things import draw_thing


@dataclass(frozen=True)
class Staging:
    """Names of POSES and MOODS of the actor and of the other character, and what is around them."""

    pose: str
    mood: str
    other_pose: str = "stand"
    other_mood: str = "content"
    gap: float = 0.25  # between the two characters, in picture widths, for figures of size one
    facing: bool = True  # the two characters face each other; otherwise the other one follows
    sign: str | None = None  # in SIGNS
    tool: str | None = None  # in TOOLS, in the hands unless they hold the story's object
    behind: str | None = None  # in FURNITURE, drawn before the figures
    before: str | None = None  # in FURNITURE, drawn after them


STAGINGS = {
    "play": Staging("play", "joy", "play", "glad", gap=0.32),
    "walk": Staging("walk", "content", "walk", "content", gap=0.27, facing=False),
    "rest": Staging("rest", "asleep", "rest", "asleep", gap=0.32, sign="z", behind="mat"),
    "search": Staging("search", "searching", "search", "searching", gap=0.3, facing=False, tool="lens"),
    "cry": Staging("cry", "crying", "stand", "scared", gap=0.28, sign="tears"),
    "meet": Staging("wave", "joy", "wave", "glad", gap=0.33, sign="hello"),
    "find": Staging("find", "awe", "wave", "joy", gap=0.42, sign="shine"),
    "give": Staging("give", "content", "receive", "awe", gap=0.37),
    "hug": Staging("hug", "glad", "hug", "glad", gap=0.19, sign="hearts"),
    "dance": Staging("dance", "glad", "dance", "joy", gap=0.34, sign="notes"),
    "dig": Staging("dig", "effort", "dig", "effort", gap=0.46, tool="spade", before="pit"),
    "carry": Staging("carry", "effort", "walk", "content", gap=0.3, facing=False, sign="drops"),
    "climb": Staging("climb", "effort", "climb", "effort", gap=0.3, facing=False, before="ledge"),
    "watch": Staging("watch", "upward", "watch", "upward", gap=0.27, facing=False),
    "hide": Staging("hide", "scared", "hide", "scared", gap=0.26, facing=False, before="cover"),
    "run": Staging("run", "joy", "run", "effort", gap=0.33, facing=False, sign="dust"),
    "fall": Staging("fall", "hurt", "stand", "scared", gap=0.4, sign="stars", behind="stone"),
    "eat": Staging("eat", "munching", "eat", "munching", gap=0.44, behind="blanket"),
    "chase": Staging("run", "sly", "run", "effort", gap=0.4, facing=False, sign="dust"),
    "build": Staging("build", "effort", "build", "content", gap=0.42, tool="hammer", behind="toolbox"),
    "wait": Staging("wait", "bored", "wait", "bored", gap=0.27, sign="clock"),
}


# Furniture, at the actor's feet; one unit is the height of a figure; ``middle`` is halfway to the other character.


def _mat(s: Sketch, middle: float, place: str) -> None:
    for r, colour in ((1.0, "#7a6aa8"), (0.86, "#a596cf")):
        s.fill(ellipse(middle + 0.02j, (0.42 + abs(middle)) * r, 0.085 * r, n=28), colour)


def _blanket(s: Sketch, middle: float, place: str) -> None:
    wide = 0.55 + abs(middle) * 0.5
    corners = middle - wide + 0.1j, middle - wide * 0.8 - 0.12j, middle + wide * 0.8 - 0.12j, middle + wide + 0.1j
    s.fill(polygon(*corners), "#e8695c")
    for k in range(-2, 3):
        x = k * wide * 0.36
        stripe = (
            middle + x - 0.04 + 0.1j, middle + x * 0.8 - 0.032 - 0.12j,
            middle + x * 0.8 + 0.032 - 0.12j, middle + x + 0.04 + 0.1j,
        )  # fmt: skip
        s.fill(polygon(*stripe), "#fbe9dc")
    s.fill(limb([middle - wide * 0.9 - 0.01j, middle + wide * 0.9 - 0.01j], [0.05, 0.05]), "#fbe9dc")
    plate = s.at(middle + (0.0 if middle else 0.36) + 0.01j, 0.13)
    plate.fill(ellipse(0, 1.0, 0.34, n=20), "#fffdf6")
    plate.fill(blob([-0.6 - 0.05j, -0.4 - 0.5j, 0.3 - 0.55j, 0.6 - 0.05j]), "#e0ac5c")
    plate.fill(blob([-0.3 - 0.35j, -0.1 - 0.7j, 0.3 - 0.6j, 0.2 - 0.3j]), "#d8433b")


def _pit(s: Sketch, middle: float, place: str) -> None:
    at = middle if middle else 0.42
    s.fill(ellipse(at + 0.03j, 0.17, 0.05, n=22), "#4a3328")
    heap = [at + 0.12 + 0.06j, at + 0.18 - 0.06j, at + 0.3 - 0.13j, at + 0.42 - 0.04j, at + 0.46 + 0.06j]
    s.fill(blob(heap), "#7d5a40")
    for q in (0.22, 0.33):
        s.fill(ellipse(at + q - 0.02j, 0.022, 0.016, n=8), "#a47c5c")


def _ledge(s: Sketch, middle: float, place: str) -> None:
    stone = {"beach": "#d8bd88", "desert": "#c88f5c", "cottage": "#a9744a"}.get(place, "#8d8a88")
    if place == "cottage":
        for k in range(3):
            s.fill(box(0.14 + 0.12 * k, -0.1 - 0.13 * k, 0.62, 0.05), ("#a9744a", "#b98358", "#c99468")[k])
        return
    s.fill(blob([0.04 + 0.06j, 0.12 - 0.12j, 0.24 - 0.18j, 0.34 - 0.36j, 0.56 - 0.4j, 0.66 + 0.06j], 4), stone)
    s.fill(blob([0.2 - 0.1j, 0.28 - 0.14j, 0.36 - 0.28j, 0.44 - 0.26j, 0.34 - 0.06j]), "#b5b1ac")


def _cover(s: Sketch, middle: float, place: str) -> None:
    wide = 0.42 + abs(middle)
    if place == "cottage":
        corners = middle - wide - 0.27j, middle + wide - 0.27j, middle + wide + 0.07j, middle - wide + 0.07j
        s.fill(polygon(*corners), "#d87a6a")
        s.fill(limb([middle - wide - 0.27j, middle + wide - 0.27j], [0.06, 0.06]), "#f3e2c6")
        for k in range(-3, 4):
            s.fill(ellipse(middle + k * wide * 0.28 - 0.1j, 0.028, n=10), "#fbe9dc")
    elif place in ("mountain", "desert", "beach", "castle", "plain"):
        tone = {"desert": "#c48a5c", "beach": "#cfae78", "castle": "#a5a1ad"}.get(place, "#8f8b86")
        rock(s, middle - wide * 0.45 + 0.06j, wide * 0.62, tone)
        rock(s, middle + wide * 0.5 + 0.07j, wide * 0.66, tone)
    elif place in ("village", "market", "farm"):
        for x in (-0.5, 0.5):
            centre = middle + x * wide
            s.fill(box(centre - wide * 0.5, -0.26, centre + wide * 0.5, 0.08), "#b98a58")
            for y in (-0.24, -0.09, 0.06):
                s.fill(box(centre - wide * 0.53, y - 0.02, centre + wide * 0.53, y + 0.02), "#96683c")
    else:
        for x in (-0.55, 0.55, 0.0):
            bush(s, middle + x * wide + 0.09j, 0.3 if x else 0.24, "#4a8a45" if x else "#579a50")


def _stone(s: Sketch, middle: float, place: str) -> None:
    rock(s, -0.46 + 0.04j, 0.13)


def _toolbox(s: Sketch, middle: float, place: str) -> None:
    b = s.at(-0.42 + 0.02j, 0.14)
    b.fill(stroke([-0.6 - 0.5j, -0.4 - 1.2j, 0.4 - 1.2j, 0.6 - 0.5j], 0.14), "#6b4428")
    b.fill(box(-1, -0.6, 1, 0.2), "#4f86b8")
    b.fill(box(-1.05, -0.7, 1.05, -0.5), "#3b6a98")


FURNITURE: dict[str, Callable[[Sketch, float, str], None]] = {
    "mat": _mat, "blanket": _blanket, "pit": _pit, "ledge": _ledge, "cover": _cover, "stone": _stone,
    "toolbox": _toolbox,
}  # fmt: skip


# Tools, in the hands, which are at 0; one unit is the height of a figure.


def _lens(s: Sketch) -> None:
    s.fill(limb([0, 0.1 - 0.12j], [0.035, 0.03]), "#6b4428")
    s.fill(ellipse(0.155 - 0.185j, 0.1, n=22), "#5a4a48")
    s.fill(ellipse(0.155 - 0.185j, 0.078, n=22), "#cfeaf5")
    s.fill(ellipse(0.13 - 0.21j, 0.024, 0.04, 0.7, 10), "#ffffff")


def _spade(s: Sketch) -> None:
    s = s.at(0, 1.25)
    s.fill(limb([-0.1 - 0.24j, 0.14 + 0.2j], [0.032, 0.032]), "#9a6b42")
    s.fill(limb([-0.15 - 0.2j, -0.05 - 0.27j], [0.035, 0.035]), "#9a6b42")
    s.fill(blob([-0.07, 0.07, 0.075 + 0.1j, 0.17j, -0.075 + 0.1j], 4) * cmath.exp(-0.5j) + 0.13 + 0.18j, "#9aa4ac")


def _hammer(s: Sketch) -> None:
    s.fill(limb([-0.02 + 0.04j, 0.06 - 0.22j], [0.035, 0.035]), "#9a6b42")
    s.fill(limb([-0.03 - 0.25j, 0.15 - 0.19j], [0.085, 0.07]), "#6d7680")


TOOLS: dict[str, Callable[[Sketch], None]] = {"lens": _lens, "spade": _spade, "hammer": _hammer}


# Signs, around the actor's head, which is at 0; one unit is the height of a figure.


def _z(s: Sketch) -> None:
    for k in range(3):
        z = s.at(complex(0.3 + 0.13 * k, 0.1 - 0.17 * k), 0.05 + 0.02 * k, s.mirrored)
        z.fill(limb([-0.7 - 0.7j, 0.7 - 0.7j, -0.7 + 0.7j, 0.7 + 0.7j], [0.3] * 4), "#ffffff")


def _hearts(s: Sketch) -> None:
    for x, y, r in ((0.1, -0.16, 0.07), (0.34, -0.24, 0.085), (0.2, -0.38, 0.1)):
        s.at(complex(x, y), r).fill(blob([0.8j, -0.9 - 0.1j, -0.5 - 0.8j, -0.35j, 0.5 - 0.8j, 0.9 - 0.1j]), "#e8476a")


def _notes(s: Sketch) -> None:
    for x, y in ((0.44, -0.04), (-0.46, -0.12), (0.22, -0.32)):
        n = s.at(complex(x, y), 0.09, s.mirrored)
        for grow, tone in ((0.16, "#fff8e6"), (0.0, INK)):
            n.fill(ellipse(0.6j, 0.42 + grow, 0.3 + grow, -0.3, 12), tone)
            n.fill(limb([0.36 + 0.55j, 0.36 - 0.8j, 0.85 - 0.4j], [0.16 + grow, 0.16 + grow, 0.14 + grow]), tone)


def _tears(s: Sketch) -> None:
    for x, y in ((0.28, 0.2), (-0.18, 0.24), (0.36, 0.38), (-0.26, 0.44)):
        s.at(complex(x, y), 0.055).fill(blob([-1.1j, 0.5 + 0.1j, 0.7j, -0.5 + 0.1j]), "#6cc3f2")
    s.fill(ellipse(0.08 + 0.98j, 0.3, 0.045, n=24), "#6cc3f2", 0.8)


def _hello(s: Sketch) -> None:
    bubble = s.at(0.5 - 0.28j, 0.15)
    bubble.fill(polygon(-0.7 + 0.4j, -1.25 + 1.15j, -0.1 + 0.7j), "#fffdf6")
    bubble.fill(ellipse(0, 1.05, 0.8, n=26), "#fffdf6")
    for x in (-0.5, 0.0, 0.5):
        bubble.fill(ellipse(x, 0.15, n=10), INK)


def _stars(s: Sketch) -> None:
    k10 = np.arange(10)
    for k in range(4):
        at = 0.36 + 0.45j + 0.4 * cmath.exp(1j * (-2.0 + 0.55 * k))
        s.fill(at + 0.06 * np.where(k10 % 2, 0.45, 1.0) * np.exp(1j * (np.pi * k10 / 5 - np.pi / 2)), "#ffd84a")


def _drops(s: Sketch) -> None:
    for k in range(3):
        at = complex(-0.32 - 0.05 * k, 0.06 - 0.1 * k)
        s.at(at, 0.045).fill(blob([-1.2j, 0.5 + 0.1j, 0.7j, -0.5 + 0.1j]), "#8fd4f5")


def _dust(s: Sketch) -> None:
    for k in range(4):
        s.fill(ellipse(complex(-0.42 - 0.15 * k, 0.92 - 0.02 * k), 0.09 - 0.015 * k, n=16), "#ffffff", 0.6)
    for k in range(3):
        y = 0.6 - 0.18 * k
        s.fill(limb([complex(-0.44, y), complex(-0.7, y)], [0.024, 0.01]), "#ffffff", 0.75)


def _shine(s: Sketch) -> None:
    for k in range(6):
        ray = cmath.exp(1j * (-2.75 + 0.47 * k))
        s.fill(limb([0.46 + 0.98j + 0.26 * ray, 0.46 + 0.98j + 0.36 * ray], [0.03, 0.016]), "#ffd84a")


def _clock(s: Sketch) -> None:
    c = s.at(0.5 - 0.12j, 0.13)
    c.fill(ellipse(0, 1.15, n=24), "#5a4a48")
    c.fill(ellipse(0, 0.95, n=24), "#fffdf6")
    c.fill(limb([0, -0.65j], [0.14, 0.1]), INK)
    c.fill(limb([0, 0.45 + 0.2j], [0.14, 0.1]), INK)


SIGNS: dict[str, Callable[[Sketch], None]] = {
    "z": _z, "hearts": _hearts, "notes": _notes, "tears": _tears, "hello": _hello, "stars": _stars, "drops": _drops,
    "dust": _dust, "shine": _shine, "clock": _clock,
}  # fmt: skip


def draw_thought(s: Sketch, thing: str, side: int) -> None:
    """A thought bubble with an absent object, beside a head at 0, on the given side if the picture has room there.

    It is bright even at night.
    """
    bare = s.at(0, light=Light())
    spots = [complex(side * x, y) for x, y in ((0.66, -0.4), (0.42, -0.48), (-0.66, -0.62))]
    centre = next((c for c in spots if 0.15 < bare.place(c).real < 0.85), -0.5j)
    for part, r in ((0.42, 0.035), (0.58, 0.05)):
        bare.fill(ellipse(centre * part, r, n=14), "#fffdf6", 0.95)
    k = np.arange(48)
    bare.fill(centre + (0.31 + 0.03 * np.abs(np.sin(k * np.pi / 6))) * np.exp(2j * np.pi * k / 48), "#fffdf6", 0.95)
    tall = thing in ("kite", "balloon", "umbrella")
    draw_thing(bare.at(centre + (0.1j if tall else 0), 0.27 if tall else 0.36), thing)
