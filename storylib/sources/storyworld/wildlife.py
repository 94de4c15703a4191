"""Details that are irrelevant to the story: plants and things in the foreground, and small animals."""

from __future__ import annotations

import cmath
from collections.abc import Callable

import numpy as np

from storylib.sources.storyworld.props import blossom, bush, rock, tuft
from storylib.sources.storyworld.shapes import Light, Sketch, blob, box, curve, ellipse, limb, polygon, shade, stroke
from storylib.sources.storyworld.world import Dice

Item = Callable[[Sketch, Dice], None]


def draw_foreground(s: Sketch, place: str, light: Light, dice: Dice) -> None:
    """One or two large things in the lower corners, in front of everything else, which give the scene depth."""
    side = dice.pick((-1, 1))
    for k in range(2 if dice.chance(0.5) else 1):
        at = complex(0.5 + side * dice.between(0.43, 0.52) * (-1) ** k, dice.between(1.0, 1.05))
        FOREGROUND[place](s.at(at, dice.between(0.15, 0.2), side > 0, light), dice)


def _grasses(s: Sketch, dice: Dice) -> None:
    for _ in range(5):
        at = complex(dice.between(-0.7, 0.7), 0)
        tuft(s, at, dice.between(0.35, 0.6), dice.pick(("#4f8f3a", "#5fa044", "#457f34")))
    for _ in range(3):
        at = complex(dice.between(-0.6, 0.6), 0)
        blossom(s, at, dice.between(0.6, 0.9), dice.pick(("#f48fb1", "#f8d34a", "#fbf4e4")))


def _fern(s: Sketch, dice: Dice) -> None:
    for k in range(5):
        tip = 1.25 * cmath.exp(1j * (-np.pi / 2 + (k - 2) * 0.42))
        leaf = curve([0, tip * 0.6 - 0.15j, tip], 7)
        s.fill(limb(list(leaf), np.linspace(0.06, 0.02, 7).tolist()), "#3d7a3c")
        for q in range(2, 7):
            across = (leaf[q] - leaf[q - 1]) / abs(leaf[q] - leaf[q - 1]) * 1j * (0.3 - 0.035 * q)
            s.fill(polygon(leaf[q] + across, leaf[q] - 0.06 * tip, leaf[q] - across, leaf[q] + 0.08 * tip), "#4c9148")


def _shells(s: Sketch, dice: Dice) -> None:
    star = 0.42 * np.where(np.arange(10) % 2, 0.48, 1.0) * np.exp(1j * (np.pi * np.arange(10) / 5 + dice.between(0, 1)))
    s.fill(star.real + 0.62j * star.imag - 0.25 - 0.45j, "#ef8354")
    shell = s.at(0.5 - 0.3j, 0.34)
    shell.fill(blob([-0.9 + 0.2j, -0.8 - 0.5j, -0.9j, 0.8 - 0.5j, 0.9 + 0.2j, 0.5j]), "#f8cdb4")
    for k in range(-2, 3):
        shell.fill(limb([0.4j, complex(0.36 * k, -0.62)], [0.05, 0.09]), "#e5a68a")


def _reeds(s: Sketch, dice: Dice) -> None:
    for _ in range(6):
        foot, lean, high = dice.between(-0.6, 0.6), dice.between(-0.25, 0.25), dice.between(0.9, 1.5)
        s.fill(stroke([foot, complex(foot, -high * 0.6), complex(foot + lean, -high)], 0.07, 0.5), "#4d8a3f")
        s.fill(ellipse(complex(foot + lean, -high), 0.07, 0.2, n=12), "#7a4f2e")


def _rocks(s: Sketch, dice: Dice) -> None:
    rock(s, -0.1 + 0j, 1.0, "#8d877f")
    rock(s, 0.55 + 0.05j, 0.6, "#9d978f")
    tuft(s, -0.6 + 0j, 0.4, "#6f8a52")


def _barrel(s: Sketch, dice: Dice) -> None:
    s.fill(blob([-0.42 + 0.1j, -0.52 - 0.5j, -0.4 - 1.05j, 0.4 - 1.05j, 0.52 - 0.5j, 0.42 + 0.1j], 4), "#a9744a")
    for y in (-0.85, -0.15):
        s.fill(limb([complex(-0.48, y), complex(0, y + 0.06), complex(0.48, y)], [0.09] * 3), "#6b5a52")
    for x in (-0.28, 0.0, 0.28):
        blossom(s, complex(x, -1.0), 0.45, dice.pick(("#ef6a5a", "#f48fb1", "#f8d34a")))


def _pumpkins(s: Sketch, dice: Dice) -> None:
    for at, r in ((-0.35 - 0.3j, 0.42), (0.4 - 0.22j, 0.32)):
        for x in (-0.5, 0.5, 0.0):
            s.fill(ellipse(at + x * r, r * 0.62, r * 0.85, n=18), shade("#ea8a2c", 0.0 if x else 0.1))
        s.fill(stroke([at - 0.75j * r, at - 1.1j * r, at + 0.3 * r - 1.25j * r], 0.2 * r), "#5f7a34")


def _tulips(s: Sketch, dice: Dice) -> None:
    for k in range(5):
        foot, high = -0.6 + 0.3 * k, dice.between(0.7, 1.1)
        s.fill(limb([foot, complex(foot, -high)], [0.06, 0.05]), "#4f8f3c")
        s.fill(blob([foot, complex(foot - 0.2, -0.45), complex(foot - 0.05, -0.3)], 4), "#5fa548")
        cup = s.at(complex(foot, -high), 0.16)
        petals = polygon(-1 - 0.9j, -0.45 - 0.4j, -1.2j, 0.45 - 0.4j, 1 - 0.9j, 0.8 + 0.5j, 0.8j, -0.8 + 0.5j)
        cup.fill(petals, dice.pick(("#e4574c", "#f6cb3c", "#e878a8")))


def _cactus(s: Sketch, dice: Dice) -> None:
    s.fill(ellipse(-0.4j, 0.42, 0.5, n=20), "#4f8f54")
    for k in (-0.2, 0.0, 0.2):
        s.fill(stroke([complex(k * 0.8, 0.05), complex(k * 1.7, -0.4), complex(k * 0.8, -0.86)], 0.035), "#7fb878")
    s.fill(ellipse(-0.93j, 0.13, n=10), "#ee6a8a")
    rock(s, 0.62 + 0j, 0.4, "#c48a5c")


def _crate(s: Sketch, dice: Dice) -> None:
    for x, y in ((-0.38, -0.72), (-0.1, -0.8), (0.2, -0.74), (0.42, -0.7), (0.06, -0.68)):
        s.fill(ellipse(complex(x, y), 0.2, n=16), dice.pick(("#d8433b", "#f0a23a", "#7fb84a")))
    s.fill(box(-0.62, -0.64, 0.62, 0.1), "#b98a58")
    for y in (-0.6, -0.28, 0.04):
        s.fill(box(-0.66, y - 0.06, 0.66, y + 0.06), "#96683c")


def _bush(s: Sketch, dice: Dice) -> None:
    bush(s, 0j, 0.85, "#43803f")
    for _ in range(4):
        s.fill(ellipse(complex(dice.between(-0.6, 0.6), dice.between(-0.7, -0.2)), 0.08, n=8), "#f48fb1")


def _pot(s: Sketch, dice: Dice) -> None:
    for k in range(5):
        tip = complex(0, -0.5) + 0.75 * cmath.exp(1j * (-np.pi / 2 + (k - 2) * 0.5))
        middle = (complex(0, -0.5) + tip) / 2
        s.fill(blob([-0.5j, middle - 0.14, tip, middle + 0.14], 4), shade("#4f9150", 0.06 * (k % 2)))
    s.fill(polygon(-0.38 - 0.52j, 0.38 - 0.52j, 0.28 + 0.1j, -0.28 + 0.1j), "#c8694a")
    s.fill(box(-0.43, -0.62, 0.43, -0.48), "#d87c5c")


FOREGROUND: dict[str, Item] = {
    "meadow": _grasses, "forest": _fern, "beach": _shells, "river": _reeds, "mountain": _rocks, "village": _barrel,
    "farm": _pumpkins, "garden": _tulips, "desert": _cactus, "market": _crate, "castle": _bush, "cottage": _pot,
    "plain": _rocks,
}  # fmt: skip


# Distractors


def draw_distractors(s: Sketch, mean: float, indoors: bool, dice: Dice) -> None:
    """Small animals away from the middle of the picture; their number is binomial with this mean."""
    slots = 2 * int(np.ceil(mean))
    for _ in range(slots):
        if dice.chance(mean / slots):
            in_air = dice.chance(0.55) and not indoors
            x = dice.pick((dice.between(0.06, 0.26), dice.between(0.74, 0.94)))
            at = complex(x, dice.between(0.2, 0.5) if in_air else dice.between(0.88, 0.95))
            draw = dice.pick(FLYING if in_air else CRAWLING)
            draw(s.at(at, 0.03, dice.chance(0.5)), dice)


def _butterfly(s: Sketch, dice: Dice) -> None:
    wing = dice.pick(("#f08cb8", "#f6b53c", "#7db8e8", "#c79be8"))
    for side in (-1, 1):
        s.fill(ellipse(complex(side * 0.55, -0.3), 0.55, 0.42, side * 0.6, 16), wing)
        s.fill(ellipse(complex(side * 0.42, 0.32), 0.38, 0.3, -side * 0.6, 14), shade(wing, 0.25))
    s.fill(limb([-0.55j, 0.5j], [0.16, 0.12]), "#4a3a3a")


def _bird(s: Sketch, dice: Dice) -> None:
    coat = dice.pick(("#4f7fc0", "#d0604a", "#5a5a6a", "#e0a43c"))
    s.fill(polygon(-0.6, -1.3 - 0.35j, -1.2 + 0.2j), shade(coat, -0.2))
    s.fill(ellipse(0, 0.75, 0.48, 0.1, 18), coat)
    s.fill(ellipse(0.62 - 0.32j, 0.38, n=16), coat)
    s.fill(blob([-0.3 - 0.1j, 0.25 - 0.2j, -0.1 - 0.95j, -0.55 - 0.75j]), shade(coat, -0.15))
    s.fill(polygon(0.95 - 0.42j, 1.3 - 0.26j, 0.95 - 0.16j), "#f2a02b")
    s.fill(ellipse(0.72 - 0.4j, 0.08, n=8), "#231a1e")


def _bee(s: Sketch, dice: Dice) -> None:
    for x in (-0.2, 0.2):
        s.fill(ellipse(complex(x, -0.5), 0.25, 0.4, x, 12), "#eef6fb", 0.85)
    s.fill(ellipse(0, 0.6, 0.42, n=16), "#f6cb3c")
    for x in (-0.25, 0.1):
        s.fill(limb([complex(x, -0.38), complex(x, 0.38)], [0.16, 0.16]), "#3a2a2c")
    s.fill(ellipse(0.45 - 0.1j, 0.07, n=8), "#231a1e")


def _snail(s: Sketch, dice: Dice) -> None:
    s.fill(limb([-0.9 + 0.5j, 0.6 + 0.5j, 0.95, 0.95 - 0.25j], [0.24, 0.32, 0.26, 0.22]), "#e5c49a")
    for x in (0.85, 1.1):
        s.fill(limb([complex(x, -0.3), complex(x + 0.1, -0.65)], [0.07, 0.07]), "#e5c49a")
    for r, colour in ((0.6, "#b5683f"), (0.4, "#d99560"), (0.2, "#b5683f")):
        s.fill(ellipse(-0.15 - 0.05j, r, n=18), colour)


def _ladybird(s: Sketch, dice: Dice) -> None:
    s.fill(ellipse(0.5 + 0.1j, 0.28, n=12), "#2b1f22")
    s.fill(np.concatenate([0.62 * np.exp(1j * np.linspace(np.pi, 2 * np.pi, 14)) + 0.3j]), "#dd3d36")
    for at in (-0.3 + 0.05j, 0.05 - 0.12j, 0.3 + 0.1j):
        s.fill(ellipse(at, 0.11, n=8), "#2b1f22")


FLYING: tuple[Item, ...] = (_butterfly, _bird, _bee)
CRAWLING: tuple[Item, ...] = (_snail, _ladybird)
