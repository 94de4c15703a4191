"""Things that occur in several places: plants, houses, fences and rocks."""

from __future__ import annotations

import cmath
import itertools

import numpy as np

from storylib.sources.storyworld.shapes import Light, Sketch, blob, box, curve, ellipse, limb, polygon, shade, stroke
from storylib.sources.storyworld.world import Dice


def hills(s: Sketch, y: float, height: float, colour: str, dice: Dice, waves: int = 3) -> None:
    """Rolling ground, from an upper edge near y to the bottom of the picture."""
    knots = [
        complex(-0.1 + 1.2 * k / (waves * 2), y + (height if k % 2 else -height) * dice.between(0.3, 1))
        for k in range(waves * 2 + 1)
    ]
    edge = []
    for a, b in itertools.pairwise(knots):
        middle = (a + b) / 2
        height_of_middle = (a + b).imag / 2
        edge.append(
            curve([a, middle + 1j * (a.imag - height_of_middle), middle + 1j * (b.imag - height_of_middle), b], 6)
        )
    s.fill(np.concatenate([*edge, [1.1 + 1.02j, -0.1 + 1.02j]]), colour)


def tree(s: Sketch, at: complex, size: float, kind: str, colour: str) -> None:
    t = s.at(at, size)
    t.fill(limb([0, -0.5j], [0.13, 0.09]), "#7a5338")
    if kind == "fir":
        for k in range(3):
            w, y = 0.36 - 0.08 * k, -0.22 - 0.24 * k
            t.fill(polygon(complex(-w, y), complex(0, y - 0.42), complex(w, y)), shade(colour, 0.08 * k))
    elif kind == "palm":
        t.fill(stroke([0, 0.05 - 0.4j, 0.16 - 0.8j], 0.11, 0.6), "#9a7048")
        for a in (-2.9, -2.3, -1.5, -0.8, -0.2, 0.35):
            tip = 0.16 - 0.8j + 0.45 * cmath.exp(1j * a) + 0.12j
            t.fill(blob([0.16 - 0.8j, (0.16 - 0.8j + tip) / 2 - 0.12j, tip, (0.16 - 0.8j + tip) / 2]), colour)
    else:
        for x, y, r in ((-0.22, -0.55, 0.25), (0.22, -0.57, 0.25), (0.0, -0.8, 0.29), (0.0, -0.55, 0.26)):
            t.fill(ellipse(complex(x, y), r, n=20), colour)
        t.fill(ellipse(-0.08 - 0.84j, 0.16, n=16), shade(colour, 0.12))
        if kind == "fruit":
            for at in (-0.25 - 0.5j, 0.2 - 0.62j, 0.02 - 0.85j, -0.02 - 0.52j):
                t.fill(ellipse(at, 0.05, n=10), "#d8433b")


def bush(s: Sketch, at: complex, size: float, colour: str) -> None:
    b = s.at(at, size)
    for x, y, r in ((-0.5, -0.2, 0.38), (0.5, -0.2, 0.38), (0.0, -0.4, 0.5), (0.0, -0.1, 0.45)):
        b.fill(ellipse(complex(x, y), r, n=18), colour)
    b.fill(ellipse(-0.1 - 0.5j, 0.26, n=16), shade(colour, 0.12))


def tuft(s: Sketch, at: complex, size: float, colour: str) -> None:
    g = s.at(at, size)
    g.fill(polygon(-0.5, -0.62 - 0.7j, -0.2 - 0.25j, -0.05 - 1j, 0.15 - 0.3j, 0.55 - 0.75j, 0.5), colour)


def blossom(s: Sketch, at: complex, size: float, colour: str) -> None:
    f = s.at(at, size)
    f.fill(polygon(-0.08, 0.08, -1j + 0.05, -1j - 0.05), "#4f8f3c")
    for k in range(4):
        f.fill(ellipse(-1j + 0.27 * 1j**k * (1 + 1j) / 1.4, 0.24, n=10), colour)
    f.fill(ellipse(-1j, 0.17, n=8), "#f8d34a" if colour != "#f8d34a" else "#d98a2b")


def house(s: Sketch, at: complex, w: float, h: float, wall: str, roof: str, lamps: bool) -> None:
    """A house that stands on ``at``. w: half its width. h: height of its walls. lamps: whether its windows shine."""
    g = s.at(at)
    g.fill(box(-w, -h, w, 0), wall)
    g.fill(polygon(complex(-w * 1.2, -h), complex(0, -h - w * 1.1), complex(w * 1.2, -h)), roof)
    g.fill(box(-w * 0.22, -h * 0.5, w * 0.22, 0), "#7a4f34")
    glass = "#ffdf7a" if lamps else "#bfe0ee"
    bright = g.at(0, light=Light()) if lamps else g
    for x in (-0.62, 0.62):
        g.fill(box(w * (x - 0.24), -h * 0.8, w * (x + 0.24), -h * 0.4), "#fbf4e4")
        bright.fill(box(w * (x - 0.18), -h * 0.76, w * (x + 0.18), -h * 0.44), glass)
    g.fill(box(w * 0.55, -h - w * 0.95, w * 0.8, -h - w * 0.3), shade(roof, -0.25))


def fence(s: Sketch, y: float, left: float, right: float, height: float, colour: str) -> None:
    for level in (0.35, 0.75):
        rail = box(left, y - height * level - height * 0.06, right, y - height * level + height * 0.06)
        s.fill(rail, shade(colour, -0.1))
    x = left
    while x < right:
        slat = (
            complex(x, y), complex(x, y - height * 0.9), complex(x + height * 0.14, y - height * 1.1),
            complex(x + height * 0.28, y - height * 0.9), complex(x + height * 0.28, y),
        )  # fmt: skip
        s.fill(polygon(*slat), colour)
        x += height * 0.55


def rock(s: Sketch, at: complex, size: float, colour: str = "#9a948e") -> None:
    r = s.at(at, size)
    r.fill(blob([-0.6, -0.5 - 0.45j, -0.05 - 0.7j, 0.45 - 0.5j, 0.62, 0.1j]), colour)
    r.fill(blob([-0.42 - 0.3j, -0.1 - 0.6j, 0.2 - 0.52j, -0.1 - 0.36j]), shade(colour, 0.2))
