"""Places with buildings, each drawn from far to near; see ``landscapes`` for the others."""

from __future__ import annotations

import numpy as np

from storylib.sources.storyworld.landscapes import HORIZON, Place, ground
from storylib.sources.storyworld.props import blossom, bush, fence, hills, house, tree
from storylib.sources.storyworld.shapes import (
    Light,
    Points,
    Sketch,
    blob,
    box,
    curve,
    ellipse,
    limb,
    polygon,
    shade,
    stroke,
)
from storylib.sources.storyworld.sky import Air
from storylib.sources.storyworld.world import Dice


def _village(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.6)), HORIZON - 0.04, 0.04, "#8fbb78", dice, 2)
    for depth, y, size in ((0.3, HORIZON + 0.05, 0.8), (0.05, HORIZON + 0.11, 1.1)):
        layer = s.at(0, light=air.land(depth))
        x = dice.between(-0.05, 0.02)
        while x < 1.05:
            w = dice.between(0.07, 0.1) * size
            height = dice.between(0.11, 0.17) * size
            wall = dice.pick(("#f3d9a8", "#eab0a0", "#cfe0d8", "#f7ead0", "#d8c4e0"))
            roof = dice.pick(("#c0533f", "#a8453c", "#7a5a6a", "#b8683a"))
            house(layer, complex(x + w, y), w, height, wall, roof, air.sky.lamps)
            x += w * dice.between(2.3, 3.6)
    near = s.at(0, light=air.land())
    hills(near, HORIZON + 0.13, 0.008, "#8fb86a", dice, 3)
    near.fill(blob([-0.2 + 0.76j, 0.3 + 0.74j, 0.7 + 0.75j, 1.2 + 0.73j, 1.2 + 1.1j, -0.2 + 1.1j]), "#d9c3a0")
    for _ in range(22):
        at = complex(dice.between(0, 1), dice.between(0.78, 0.99))
        near.fill(ellipse(at, 0.022, 0.009, n=12), dice.pick(("#c7ad86", "#e4d2b4", "#cdb893")))
    post = near.at(complex(dice.pick((0.06, 0.94)), 0.8))
    post.fill(limb([0, -0.3j], [0.016, 0.012]), "#4a4550")
    lantern = polygon(-0.022 - 0.36j, 0.022 - 0.36j, 0.014 - 0.3j, -0.014 - 0.3j)
    post.fill(lantern, "#fff3b0" if air.sky.lamps else "#ffe9a0")
    if air.sky.lamps:
        post.at(0, light=Light()).fill(ellipse(-0.33j, 0.07, n=20), "#ffe9a0", 0.35)


def _farm(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.6)), HORIZON - 0.04, 0.04, "#a8c46a", dice, 2)
    far = s.at(0, light=air.land(0.3))
    hills(far, HORIZON + 0.02, 0.02, "#d8c05a", dice, 2)
    for k in range(8):
        furrow = [complex(0.06 + 0.13 * k, 0.6), complex(0.04 + 0.13 * k, 0.66), complex(0.13 * k, 0.72)]
        far.fill(stroke(furrow, 0.007), "#b89c3e")
    side = dice.pick((0.2, 0.8))
    b = s.at(complex(side, HORIZON + 0.12), 0.21, light=air.land(0.05))
    b.fill(box(-0.8, -1.0, 0.8, 0), "#b8433a")
    b.fill(polygon(-0.95 - 0.95j, -0.6 - 1.45j, -1.7j, 0.6 - 1.45j, 0.95 - 0.95j), "#7d3a3a")
    b.fill(polygon(-0.8 - 0.97j, -0.54 - 1.34j, -1.54j, 0.54 - 1.34j, 0.8 - 0.97j), "#b8433a")
    b.fill(box(-0.36, -0.7, 0.36, 0), "#fbf4e4")
    b.fill(box(-0.31, -0.65, 0.31, 0), "#8e352f")
    for a, c in ((-0.31 - 0.65j, 0.31), (0.31 - 0.65j, -0.31)):
        b.fill(limb([a, c], [0.05, 0.05]), "#fbf4e4")
    b.fill(ellipse(-1.15j, 0.16, n=16), "#fbf4e4")
    loft = b.at(0, light=Light()) if air.sky.lamps else b
    loft.fill(ellipse(-1.15j, 0.12, n=16), "#ffdf7a" if air.sky.lamps else "#5a4038")
    silo = s.at(complex(side + (0.24 if side < 0.5 else -0.24), HORIZON + 0.11), light=air.land(0.08))
    silo.fill(box(-0.05, -0.3, 0.05, 0), "#cfd3d6")
    silo.fill(ellipse(-0.3j, 0.05, n=18), "#9aa4ac")
    near = ground(s, air, "#9cb85a", dice, "#7f9a44", HORIZON + 0.04)
    fence(near, 0.74, -0.02, 1.02, 0.07, "#e9dcc2")
    for x in (1 - side, 1 - side + 0.09):
        hay = near.at(complex(x, 0.77), 0.05)
        hay.fill(ellipse(-0.7j, 0.9, 0.8, n=20), "#e0b84a")
        hay.fill(ellipse(-0.7j, 0.5, 0.45, n=18), "#c99c34")
        hay.fill(ellipse(-0.7j, 0.22, 0.2, n=14), "#e0b84a")


def _garden(s: Sketch, air: Air, dice: Dice) -> None:
    far = s.at(0, light=air.land(0.45))
    for k in range(6):
        at, size = complex((k + dice.between(0.1, 0.9)) / 6, HORIZON + 0.05), dice.between(0.26, 0.36)
        kind, colour = dice.pick(("round", "fruit", "fruit")), dice.pick(("#6fae56", "#7fb860", "#5f9f52"))
        tree(far, at, size, kind, colour)
    hills(s.at(0, light=air.land(0.2)), HORIZON + 0.03, 0.008, "#7db85a", dice, 2)
    near = s.at(0, light=air.land())
    fence(near, HORIZON + 0.14, -0.02, 1.02, 0.13, "#fbf4e4")
    hills(near, HORIZON + 0.12, 0.006, "#86bf5f", dice, 2)
    for row, y in enumerate((0.73, 0.94)):
        near.fill(ellipse(complex(0.5, y), 0.62, 0.035 + 0.012 * row, n=30), "#8a5f40")
        for k in range(9):
            at = complex((k + dice.between(0.2, 0.8)) / 9, y + dice.between(-0.012, 0.012))
            size = 0.045 + 0.02 * row
            if (k + row) % 3 == 0:
                v = near.at(at, size)
                for q in (-0.35, 0.35, 0):
                    v.fill(ellipse(complex(q, -0.4), 0.42, 0.46, q, 14), shade("#7fc06a", 0.0 if q else 0.1))
            elif (k + row) % 3 == 1:
                v = near.at(at, size)
                for q in (-0.3, 0, 0.3):
                    v.fill(polygon(-0.06, complex(q, -0.95), 0.06), "#4f9a3e")
                v.fill(polygon(-0.2 - 0.12j, 0.2 - 0.12j, 0.3j), "#ee8434")
            else:
                blossom(near, at, size * 1.4, dice.pick(("#ef6a5a", "#f48fb1", "#f8d34a", "#b98ae0")))


def _market(s: Sketch, air: Air, dice: Dice) -> None:
    layer = s.at(0, light=air.land(0.4))
    x = -0.05
    while x < 1:
        w = dice.between(0.07, 0.1)
        height = dice.between(0.2, 0.3)
        wall = dice.pick(("#e9cfa8", "#dcb0a4", "#cfd8d8", "#efe2c8"))
        roof = dice.pick(("#a8554a", "#8a5a6a", "#b0703f"))
        house(layer, complex(x + w, HORIZON + 0.08), w, height, wall, roof, air.sky.lamps)
        x += 2.05 * w
    near = s.at(0, light=air.land())
    hills(near, HORIZON + 0.08, 0.004, "#cbb9a0", dice, 2)
    for _ in range(26):
        at = complex(dice.between(0, 1), dice.between(0.72, 0.99))
        near.fill(ellipse(at, 0.03, 0.01, n=12), dice.pick(("#bda98e", "#d9cab3")))
    for x in (0.14, 0.5, 0.86):
        t = near.at(complex(x + dice.between(-0.03, 0.03), 0.74), 0.155)
        cloth = dice.pick(("#d8433b", "#3c78c8", "#5aa04a", "#ef8a2f", "#8456b0"))
        for q in (-0.9, 0.9):
            t.fill(box(q - 0.04, -1.3, q + 0.04, 0), "#8a5f40")
        t.fill(box(-1.0, -0.5, 1.0, 0.0), "#b98a58")
        t.fill(box(-1.05, -0.56, 1.05, -0.44), "#96683c")
        goods = dice.sample(("#d8433b", "#f0a23a", "#7fb84a", "#f6d34c", "#a05ab0"), 3)
        for k in range(9):
            t.fill(ellipse(complex(-0.85 + 0.21 * k, -0.62 - 0.08 * (k % 2)), 0.13, n=12), goods[k // 3])
        for k in range(6):
            left = -1.1 + 2.2 * k / 6
            top = polygon(complex(left * 0.86, -1.6), complex((left + 0.367) * 0.86, -1.6))
            edge = curve([complex(left + 0.367, -1.25), complex(left + 0.18, -1.05), complex(left, -1.25)], 6)
            t.fill(np.concatenate([top, edge]), cloth if k % 2 else "#fbf4e4")


def _castle(s: Sketch, air: Air, dice: Dice) -> None:
    hills(s.at(0, light=air.land(0.6)), HORIZON - 0.03, 0.04, "#86ad78", dice, 2)
    c = s.at(complex(dice.between(0.35, 0.65), HORIZON + 0.1), 0.34, light=air.land(0.12))
    stone, roof = "#b7b3c0", dice.pick(("#b5483e", "#4a6fb0", "#7a5aa0"))
    bright = c.at(0, light=Light()) if air.sky.lamps else c
    glass = "#ffdf7a" if air.sky.lamps else "#5a5668"

    def tower(x: float, w: float, h: float) -> None:
        c.fill(box(x - w, -h, x + w, 0), shade(stone, -0.06))
        c.fill(box(x - w * 1.2, -h - 0.06, x + w * 1.2, -h + 0.02), stone)
        top = complex(x, -h - 0.05 - w * 2.6)
        c.fill(polygon(complex(x - w * 1.35, -h - 0.05), top, complex(x + w * 1.35, -h - 0.05)), roof)
        c.fill(limb([top, top - 0.12j], [0.015, 0.015]), "#6b5a4a")
        c.fill(polygon(top - 0.12j, top + 0.13 - 0.09j, top - 0.05j), "#f6cb3c")
        y = -h * 0.7
        window = [
            complex(x - 0.035, y), complex(x, y - 0.07), complex(x + 0.035, y),
            complex(x + 0.03, y + 0.08), complex(x - 0.03, y + 0.08),
        ]  # fmt: skip
        bright.fill(blob(window), glass)

    tower(0.0, 0.2, 1.0)
    c.fill(box(-0.85, -0.58, 0.85, 0), stone)
    for k in range(9):
        c.fill(box(-0.85 + 0.2 * k, -0.66, -0.75 + 0.2 * k, -0.56), stone)
    for _ in range(16):
        at = complex(dice.between(-0.8, 0.74), dice.between(-0.52, -0.06))
        c.fill(box(at.real, at.imag, at.real + 0.08, at.imag + 0.035), shade(stone, -0.08))
    tower(-0.85, 0.17, 0.78)
    tower(0.85, 0.17, 0.78)
    c.fill(arch(0.17, 0.24), "#6b4a34")
    for q in (-0.09, 0.0, 0.09):
        c.fill(box(q - 0.008, -0.38, q + 0.008, 0), "#4f3526")
    near = ground(s, air, "#84b45e", dice, "#649a48", HORIZON + 0.04)
    x = c.origin.real
    left = curve([complex(x - 0.05, 0.655), complex(x - 0.1, 0.8), complex(0.2, 1.02)], 10)
    right = curve([complex(0.72, 1.02), complex(x + 0.1, 0.8), complex(x + 0.05, 0.655)], 10)
    near.fill(np.concatenate([left, right]), "#dcc9a2")
    for side in (0.08, 0.92):
        bush(near, complex(side, 0.74), 0.07, "#4f8a4a")


WINDOWS = (0.24, 0.7)  # possible positions of the window


def _cottage(s: Sketch, air: Air, dice: Dice) -> None:
    """A room. The sky shows only through its window, so the wall is built around the opening."""
    room = s.at(0, light=Light((1.0, 0.93, 0.84)) if air.sky.lamps else Light((1.0, 0.99, 0.96)))
    x = dice.pick(WINDOWS)
    _wall(room, x, dice.pick(("#e9c9a0", "#d9c7b0", "#cfd3b0", "#e0bcae")))
    _fireplace(room.at(complex(1.02 - x, 0.73), 0.2))
    room.fill(box(-0.01, 0.72, 1.01, 0.745), "#a8784e")
    for k in range(6):
        room.fill(box(-0.01, 0.745 + 0.045 * k, 1.01, 0.79 + 0.045 * k), "#c4935f" if k % 2 else "#bb8955")
    for k in range(9):
        at = complex(dice.between(0, 1), 0.745 + 0.045 * (k % 6))
        room.fill(box(at.real, at.imag, at.real + 0.005, at.imag + 0.045), "#a5774a")
    rug = complex(dice.between(0.4, 0.6), 0.885)
    for r, colour in ((1.0, "#b5483e"), (0.82, "#f0d9a2"), (0.62, "#5a8fa8")):
        room.fill(ellipse(rug, 0.42 * r, 0.075 * r, n=30), colour)


def _wall(s: Sketch, x: float, colour: str) -> None:
    """A papered wall with a curtained window around x."""
    top, w, h = 0.14, 0.14, 0.28
    left, right, bottom, wood = x - w, x + w, top + h, "#8a5f40"
    for z in (
        box(-0.01, -0.01, 1.01, top), box(-0.01, bottom, 1.01, 0.75),
        box(-0.01, top, left, bottom), box(right, top, 1.01, bottom),
    ):  # fmt: skip
        s.fill(z, colour)
    for k in range(12):
        for j in range(6):
            at = complex(0.04 + 0.088 * k + 0.044 * (j % 2), 0.06 + 0.11 * j)
            if not (left - 0.05 < at.real < right + 0.05 and top - 0.05 < at.imag < bottom + 0.07):
                s.fill(ellipse(at, 0.008, 0.011, n=6), shade(colour, -0.09))
    for z in (
        box(left - 0.02, top - 0.02, right + 0.02, top), box(left - 0.03, bottom, right + 0.03, bottom + 0.025),
        box(left - 0.02, top, left, bottom), box(right, top, right + 0.02, bottom),
        box(x - 0.006, top, x + 0.006, bottom), box(left, top + h / 2 - 0.006, right, top + h / 2 + 0.006),
    ):  # fmt: skip
        s.fill(z, wood)
    for side in (-1, 1):
        c = s.at(complex(x + side * (w + 0.02), 0), 1, side < 0)
        c.fill(blob([
            complex(0.03, top - 0.05), complex(-0.06, top - 0.05), complex(-0.04, top + 0.12),
            complex(-0.01, bottom + 0.04), complex(0.04, bottom + 0.05),
        ]), "#c9584c")  # fmt: skip
    s.fill(box(left - 0.08, top - 0.06, right + 0.08, top - 0.045), "#6b4428")


def _fireplace(s: Sketch) -> None:
    s.fill(box(-0.72, -1.5, 0.72, 0), "#b5776a")
    s.fill(box(-0.82, -1.25, 0.82, -1.1), "#8a5f40")
    for k in range(5):
        for j in range(9):
            if (k + j) % 2:
                s.fill(box(-0.7 + 0.28 * k, -1.06 + 0.115 * j, -0.46 + 0.28 * k, -0.985 + 0.115 * j), "#a5665a")
    s.fill(arch(0.45, 0.35), "#3d2a2a")
    glow = s.at(0, light=Light())
    flame = blob([-0.28 - 0.06j, -0.22 - 0.35j, -0.08 - 0.28j, -0.62j, 0.14 - 0.3j, 0.26 - 0.38j, 0.28 - 0.06j])
    for r, colour in ((1.0, "#f0702e"), (0.7, "#ffb13d"), (0.4, "#ffe98a")):
        glow.fill(flame * r, colour)
    s.fill(limb([-0.3 - 0.04j, 0.3 - 0.1j], [0.09, 0.09]), "#6b4428")


def arch(half_width: float, height: float) -> Points:
    """A doorway with a round top; ``height`` is that of its straight sides."""
    top = half_width * np.exp(-1j * np.linspace(0, np.pi, 12)) - 1j * height
    return np.concatenate([[half_width + 0j], top, [-half_width + 0j]])


SETTLEMENTS: dict[str, Place] = {
    "village": _village, "farm": _farm, "garden": _garden, "market": _market, "castle": _castle, "cottage": _cottage,
}  # fmt: skip
