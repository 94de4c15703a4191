"""The wild places, each drawn from far to near.

The picture is the unit square, y pointing down; the ground meets the sky at about ``HORIZON``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from storylib.sources.storyworld.props import blossom, bush, hills, rock, tree, tuft
from storylib.sources.storyworld.shapes import Sketch, blob, box, curve, ellipse, limb, polygon, shade, stroke
from storylib.sources.storyworld.sky import Air
from storylib.sources.storyworld.world import Dice

HORIZON = 0.56
Place = Callable[[Sketch, Air, Dice], None]


def ground(s: Sketch, air: Air, colour: str, dice: Dice, texture: str | None = None, y: float = HORIZON) -> Sketch:
    """Two layers of near ground below the horizon y, with tufts of grass in the colour ``texture``."""
    near = s.at(0, light=air.land())
    hills(near, y + 0.05, 0.02, shade(colour, 0.06), dice, 2)
    hills(near, y + 0.2, 0.025, colour, dice, 2)
    if texture:
        for _ in range(14):
            at = complex(dice.between(0, 1), dice.between(y + 0.1, 0.98))
            tuft(near, at, 0.014 + 0.03 * (at.imag - y), texture)
    return near


def _meadow(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.7)), HORIZON - 0.06, 0.05, "#8fbf6a", dice, 2)
    far = s.at(0, light=air.land(0.4))
    hills(far, HORIZON, 0.03, "#86bb5c", dice, 3)
    for _ in range(2):
        tree(far, complex(dice.between(0.05, 0.95), HORIZON + 0.03), dice.between(0.16, 0.22), "round", "#5f9a45")
    near = ground(s, air, "#7cb850", dice, "#5f9e3e")
    for _ in range(20):
        at = complex(dice.between(0, 1), dice.between(HORIZON + 0.1, 0.99))
        colour = dice.pick(("#f48fb1", "#f8d34a", "#ffffff", "#b98ae0", "#ef6a5a"))
        blossom(near, at, 0.02 + 0.05 * (at.imag - HORIZON), colour)


def _forest(s: Sketch, air: Air, dice: Dice) -> None:
    greens = ("#5a9a55", "#6aa85a", "#4c8c5c", "#7ab05c")
    for depth, count, size in ((0.8, 9, 0.34), (0.5, 7, 0.48), (0.2, 5, 0.6)):
        layer = s.at(0, light=air.land(depth))
        hills(layer, HORIZON + 0.03, 0.02, "#6a9a52", dice, 2)
        for k in range(count):
            at = complex((k + dice.between(0.1, 0.9)) / count, HORIZON + 0.05)
            tree(layer, at, size * dice.between(0.7, 1), dice.pick(("fir", "fir", "round")), dice.pick(greens))
    near = ground(s, air, "#7aa85a", dice, "#5a8f46")
    for x in (dice.between(-0.02, 0.08), dice.between(0.92, 1.02)):
        near.fill(limb([complex(x, 0.86), complex(x + 0.01, 0.4), complex(x, -0.05)], [0.17, 0.12, 0.13]), "#8a5f42")
        near.fill(limb([complex(x - 0.02, 0.8), complex(x - 0.015, 0.1)], [0.025, 0.02]), "#a37553")
    for _ in range(5):
        m = near.at(complex(dice.between(0, 1), dice.between(0.66, 0.95)), 0.035)
        m.fill(limb([0, -0.6j], [0.4, 0.3]), "#f3e7d2")
        m.fill(blob([-0.7 - 0.5j, -0.4 - 1.0j, 0.4 - 1.0j, 0.7 - 0.5j]), "#d0463c")
        for dot in (-0.25 - 0.75j, 0.2 - 0.85j, 0.35 - 0.6j):
            m.fill(ellipse(dot, 0.1, n=8), "#fff6e8")


def _beach(s: Sketch, air: Air, dice: Dice) -> None:
    sea = s.at(0, light=air.land(0.15))
    sea.fill(box(-0.01, HORIZON - 0.1, 1.01, 0.8), "#3f9fc4")
    for k in range(9):
        y = HORIZON - 0.08 + 0.02 * k
        x = dice.between(-0.1, 0.9)
        sea.fill(stroke([complex(x, y), complex(x + 0.06, y - 0.012), complex(x + 0.12, y)], 0.006), "#8fd0e4")
    x = dice.between(0.15, 0.85)
    boat = s.at(complex(x, HORIZON - 0.07), 0.06, light=air.land(0.25))
    boat.fill(polygon(-0.7, 0.7, 0.45 + 0.35j, -0.45 + 0.35j), "#b5533c")
    boat.fill(polygon(-0.05j, -1.2j, 0.6 - 0.1j), "#fbf4e4")
    near = s.at(0, light=air.land())
    hills(near, HORIZON + 0.075, 0.012, "#d7f0f2", dice, 3)
    hills(near, HORIZON + 0.09, 0.012, "#f0d9a2", dice, 3)
    hills(near, HORIZON + 0.24, 0.02, "#f5e2b0", dice, 2)
    side = dice.pick((0.07, 0.9))
    tree(near, complex(side, HORIZON + 0.16), 0.5, "palm", "#4f9a4a")
    u = near.at(complex(1 - side, HORIZON + 0.2), 0.17)
    u.fill(limb([0, -1.1j], [0.06, 0.06]), "#fbf4e4")
    for k in range(4):
        a = np.linspace(np.pi * (1 + k / 4), np.pi * (1 + (k + 1) / 4), 6)
        panel = np.concatenate([[-0.95j], -0.95j + np.cos(a) * 0.9 + 1j * np.sin(a) * 0.6])
        u.fill(panel, "#e4574c" if k % 2 else "#fbf4e4")
    for _ in range(7):
        shell = near.at(complex(dice.between(0, 1), dice.between(0.72, 0.98)), 0.016)
        shell.fill(blob([-0.8, -0.6 - 0.8j, 0.6 - 0.8j, 0.8, 0.3j]), dice.pick(("#f5b8a0", "#fffaf0", "#e79a8e")))


def _river(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.65)), HORIZON - 0.05, 0.05, "#7aae6a", dice, 2)
    far = s.at(0, light=air.land(0.3))
    hills(far, HORIZON + 0.01, 0.015, "#79b35a", dice, 2)
    for k in range(4):
        bush(far, complex((k + dice.between(0, 1)) / 4, HORIZON + 0.04), dice.between(0.05, 0.08), "#5c9650")
    water = s.at(0, light=air.land(0.1))
    banks = [-0.2 + 0.62j, 0.2 + 0.6j, 0.6 + 0.63j, 1.2 + 0.6j, 1.2 + 0.78j, 0.7 + 0.76j, 0.3 + 0.79j, -0.2 + 0.76j]
    water.fill(blob(banks), "#4aa3c9")
    for _ in range(9):
        at = complex(dice.between(0, 0.9), dice.between(0.63, 0.74))
        water.fill(stroke([at, at + 0.04 - 0.01j, at + 0.09], 0.006), "#9ad6ea")
    x = dice.between(0.2, 0.8)
    bridge = s.at(complex(x, 0.71), 0.2, light=air.land(0.08))
    upper, lower = curve([-1 + 0.1j, -0.75j, 1 + 0.1j], 14), curve([0.75 + 0.15j, -0.4j, -0.75 + 0.15j], 14)
    bridge.fill(np.concatenate([upper, lower]), "#a9744a")
    for x in (-0.8, -0.4, 0.0, 0.4, 0.8):
        rail = -0.36 + 0.5 * x * x
        bridge.fill(limb([complex(x, rail), complex(x, rail - 0.28)], [0.06, 0.06]), "#8a5a38")
    bridge.fill(stroke([-0.95 - 0.12j, -0.98j, 0.95 - 0.12j], 0.06), "#8a5a38")
    near = s.at(0, light=air.land())
    hills(near, 0.785, 0.012, "#6aa84a", dice, 2)
    hills(near, 0.84, 0.015, "#79b853", dice, 2)
    for _ in range(8):
        at = complex(dice.pick((dice.between(-0.02, 0.2), dice.between(0.8, 1.02))), dice.between(0.78, 0.84))
        near.fill(limb([at, at + dice.between(-0.02, 0.02) - 0.13j], [0.01, 0.006]), "#4d8a3f")
        near.fill(ellipse(at - 0.13j, 0.009, 0.026, n=10), "#7a4f2e")


def _mountain(s: Sketch, air: Air, dice: Dice) -> None:
    for depth, count, low, high, colour in ((0.6, 3, 0.3, 0.42, "#8b93a8"), (0.35, 2, 0.2, 0.3, "#7a7f94")):
        layer = s.at(0, light=air.land(depth))
        for k in range(count):
            x, top = (k + dice.between(0.2, 0.8)) / count, HORIZON - dice.between(low, high)
            w = dice.between(0.28, 0.4)
            foot = HORIZON + 0.1
            layer.fill(polygon(complex(x - w, foot), complex(x, top), complex(x + w, foot)), colour)
            shadow = polygon(complex(x, top), complex(x + w, foot), complex(x + w * 0.2, foot))
            layer.fill(shadow, shade(colour, -0.12))
            q = 0.3  # share of the height that is covered with snow
            h = (foot - top) * q
            snow = (
                complex(x, top), complex(x + w * q, top + h), complex(x + w * q * 0.4, top + h * 0.75),
                complex(x, top + h * 1.1), complex(x - w * q * 0.5, top + h * 0.75), complex(x - w * q, top + h),
            )  # fmt: skip
            layer.fill(polygon(*snow), "#f7f9fc")
    far = s.at(0, light=air.land(0.2))
    hills(far, HORIZON + 0.05, 0.02, "#7f9a72", dice, 3)
    for k in range(7):
        tree(far, complex((k + dice.between(0.1, 0.9)) / 7, HORIZON + 0.07), dice.between(0.12, 0.2), "fir", "#41705a")
    near = ground(s, air, "#a3a58c", dice, "#7d8a62", HORIZON + 0.05)
    for _ in range(7):
        x = dice.pick((dice.between(0, 0.25), dice.between(0.75, 1), dice.between(0, 1)))
        at = complex(x, dice.between(0.7, 0.97))
        rock(near, at, dice.between(0.03, 0.07) * (0.6 + at.imag - 0.5))


def _desert(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.6)), HORIZON - 0.04, 0.06, "#e0a868", dice, 2)
    mesa = s.at(complex(dice.between(0.1, 0.9), HORIZON), light=air.land(0.5))
    mesa.fill(polygon(-0.2 + 0.05j, -0.14 - 0.13j, 0.1 - 0.14j, 0.17 + 0.05j), "#c4734a")
    hills(s.at(0, light=air.land(0.25)), HORIZON + 0.03, 0.03, "#e8b873", dice, 2)
    near = s.at(0, light=air.land())
    hills(near, HORIZON + 0.1, 0.03, "#efc684", dice, 2)
    hills(near, HORIZON + 0.22, 0.02, "#f3d196", dice, 2)
    for _ in range(7):
        at = complex(dice.between(0, 0.85), dice.between(0.7, 0.97))
        near.fill(stroke([at, at + 0.05 - 0.014j, at + 0.12], 0.006), "#dcae6c")
    for x in (dice.between(0.03, 0.12), dice.between(0.86, 0.97), dice.between(0.3, 0.7)):
        far = 0.3 < x < 0.7
        c = near.at(complex(x, HORIZON + (0.1 if far else 0.2)), 0.13 if far else 0.3)
        c.fill(limb([0, -0.95j], [0.24, 0.22]), "#4f8f54")
        c.fill(limb([0.05 - 0.4j, 0.32 - 0.42j, 0.33 - 0.72j], [0.13, 0.14, 0.13]), "#4f8f54")
        c.fill(limb([-0.05 - 0.3j, -0.3 - 0.32j, -0.31 - 0.56j], [0.12, 0.13, 0.12]), "#4f8f54")
        c.fill(limb([-0.03, -0.03 - 0.92j], [0.03, 0.03]), "#7fb878")
        c.fill(ellipse(-1.06j, 0.09, n=10), "#ee6a8a")
    rock(near, complex(dice.between(0.15, 0.85), 0.72), 0.05, "#c48a5c")


def _plain(s: Sketch, air: Air, dice: Dice) -> None:
    """Nowhere in particular: for stories whose pictures do not show the place."""
    hills(s.at(0, light=air.land(0.35)), HORIZON + 0.02, 0.03, "#d9cfb4", dice, 2)
    near = s.at(0, light=air.land())
    hills(near, HORIZON + 0.1, 0.02, "#e2d8bd", dice, 2)
    hills(near, HORIZON + 0.24, 0.02, "#e9e1ca", dice, 2)


LANDSCAPES: dict[str, Place] = {
    "meadow": _meadow, "forest": _forest, "beach": _beach, "river": _river, "mountain": _mountain, "desert": _desert,
    "plain": _plain,
}  # fmt: skip
