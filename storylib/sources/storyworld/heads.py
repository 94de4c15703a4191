"""The species: their build, and their heads with ears, muzzle and a mood.

A head is drawn around 0 with half its height as the unit, turned a little to the right (a three-quarter view).
"""

from __future__ import annotations

import cmath
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storylib.sources.storyworld.shapes import Sketch, blob, curve, ellipse, limb, polygon, shade, stroke

INK = "#3a2a2c"


@dataclass(frozen=True)
class Build:
    """What a species looks like. Lengths are in units of the figure's height."""

    fur: str
    light: str  # belly, muzzle, inner ear
    dark: str  # paws, stripes, ear tips
    ears: str  # in EARS, or "none"
    muzzle: str  # in MUZZLES
    tail: str
    size: float = 1.0  # relative to the other species
    girth: float = 0.19  # half the width of the torso
    head: tuple[float, float] = (0.235, 0.215)
    legs: float = 0.2


BUILDS = {
    "fox": Build("#e07b39", "#fff3e0", "#4a2f2a", "pointed", "fox", "brush", 0.98),
    "rabbit": Build("#b9a48f", "#f3e2d3", "#8f7a66", "long", "rabbit", "puff", 0.9, head=(0.215, 0.21)),
    "bear": Build(
        "#8a5a3c", "#d9b48c", "#5c3a27", "round", "bear", "stub", 1.16, girth=0.24, head=(0.245, 0.215), legs=0.17
    ),
    "cat": Build("#7f8796", "#e9ebf0", "#59606e", "cat", "cat", "slim", 0.92),
    "mouse": Build("#a8a4ad", "#f3c9cf", "#7d7883", "huge", "mouse", "string", 0.7, head=(0.24, 0.22)),
    "frog": Build(
        "#6fb04a", "#e3efb5", "#4b8436", "none", "frog", "none", 0.78, girth=0.2, head=(0.27, 0.19), legs=0.19
    ),
    "duck": Build(
        "#fbe27a", "#fff6cf", "#f2902b", "none", "duck", "feather", 0.82, girth=0.2, head=(0.215, 0.205), legs=0.16
    ),
    "hedgehog": Build("#e9cda6", "#fbeed8", "#6b4a37", "small", "hedgehog", "none", 0.8, girth=0.22, legs=0.15),
    "elephant": Build(
        "#8d9db3", "#c9b7c2", "#6d7c92", "flaps", "elephant", "rope", 1.22, girth=0.25, head=(0.235, 0.225), legs=0.18
    ),
    "owl": Build(
        "#9a744f", "#f0dcb8", "#6b4d32", "tufts", "owl", "fan", 0.84, girth=0.22, head=(0.25, 0.225), legs=0.12
    ),
    "lion": Build("#e8b04d", "#fbe6b8", "#a85f26", "mane", "lion", "tassel", 1.1, girth=0.21),
    "pig": Build("#f2b0ac", "#f9d2cd", "#d97f83", "folded", "pig", "curl", 0.94, girth=0.23, legs=0.16),
}


@dataclass(frozen=True)
class Mood:
    """The expression of a face."""

    eyes: str = "open"  # "open", "wide", "shut" (asleep), "glad" (laughing)
    mouth: str = "smile"  # "smile", "grin", "open", "frown", "small"
    brows: float = 0.0  # > 0: inner ends raised (sorry); < 0: inner ends lowered (cross)
    look: complex = 0.25 + 0j  # where the pupils point


MOODS = {
    "content": Mood(),
    "glad": Mood("glad", "grin"),
    "joy": Mood("open", "open"),
    "asleep": Mood("shut", "small"),
    "searching": Mood("open", "small", 0.5, 0.6 + 0.3j),
    "crying": Mood("shut", "frown", 1.0),
    "awe": Mood("wide", "open"),
    "upward": Mood("open", "smile", 0.0, 0.3 - 0.6j),
    "effort": Mood("open", "small", 0.0, 0.5 + 0.3j),
    "scared": Mood("wide", "frown", 0.9),
    "hurt": Mood("shut", "open", 0.8),
    "munching": Mood("glad", "small"),
    "sly": Mood("open", "grin", -0.2, 0.5 + 0j),
    "bored": Mood("open", "small", 0.3, 0.5 - 0.2j),
}


def draw_head(s: Sketch, b: Build, mood: Mood) -> None:
    """Draw a head around the origin; ears first, since the skull covers their roots."""
    rx, ry = b.head
    h = s.at(0, ry)  # from here on one unit is half the head's height
    w = rx / ry
    if b.ears != "none":
        for side in (-1, 1):
            EARS[b.ears](h, b, w, side)
    skull = [-w + 0.05j, -0.8 * w - 0.62j, -1j, 0.8 * w - 0.62j, w + 0.05j, 0.72 * w + 0.72j, 0.95j, -0.72 * w + 0.72j]
    h.fill(blob(skull), b.fur)
    MUZZLES[b.muzzle](h, b, w, mood)
    if b.muzzle not in ("owl", "frog"):
        for x in (-0.22, 0.55):
            _eye(h, complex(x, -0.12), 0.125, mood)
    for x in (-0.5, 0.78):
        if b.muzzle not in ("owl", "duck"):
            h.fill(ellipse(complex(x, 0.3), 0.17, 0.12, n=14), "#f47a6b", 0.35)


def _eye(h: Sketch, at: complex, r: float, mood: Mood, white: float = 0.0) -> None:
    if white:
        h.fill(ellipse(at, white, n=20), "#fffdf6")
    if mood.eyes == "shut":
        h.fill(stroke([at - r * 1.3, at + 1.5j * r, at + r * 1.3], 0.07), INK)
    elif mood.eyes == "glad":
        h.fill(stroke([at - r * 1.3 + 0.5j * r, at - 1.9j * r, at + r * 1.3 + 0.5j * r], 0.075), INK)
    else:
        if mood.eyes == "wide" and not white:
            h.fill(ellipse(at, r * 1.75, r * 1.95, n=18), "#fffdf6")
        pupil = at + mood.look * (white * 0.35 or r * 0.4)
        h.fill(ellipse(pupil, r, r * 1.18, n=16), "#231a1e")
        h.fill(ellipse(pupil + r * complex(0.3, -0.45), r * 0.36, n=8), "#ffffff")
    if mood.brows:
        inner = 1 if at.real < 0.15 else -1
        lift = 0.14 * mood.brows * inner
        y = at - 1j * max(2.6 * r, white * 1.25)
        h.fill(limb([y - 0.16 + 1j * lift, y + 0.16 - 1j * lift], [0.06, 0.06]), INK)


def _mouth(h: Sketch, at: complex, size: float, mood: Mood, colour: str = INK) -> None:
    w = size
    match mood.mouth:
        case "smile":
            h.fill(stroke([at - w, at + 0.9j * w, at + w], 0.055), colour)
        case "small":
            h.fill(stroke([at - 0.5 * w, at + 0.25j * w, at + 0.5 * w], 0.055), colour)
        case "frown":
            h.fill(stroke([at - w + 0.5j * w, at - 0.5j * w, at + w + 0.5j * w], 0.055), colour)
        case _:
            deep = 1.15 if mood.mouth == "open" else 0.75
            upper, lower = curve([at - w, at - 0.1j * w, at + w], 6), curve([at + w, at + 2.2j * w * deep, at - w], 10)
            h.fill(np.concatenate([upper, lower]), "#7a2f35")
            h.fill(ellipse(at + 0.75j * w * deep, 0.5 * w, 0.28 * w, n=12), "#ee8585")


# Ears: ``side`` is -1 for the far one and 1 for the near one; ``w`` is half the width of the head.


def _triangular_ear(h: Sketch, b: Build, w: float, side: int) -> None:
    pointed = b.ears == "pointed"
    e = h.at(complex(side * w * 0.58, -0.62), cmath.exp(0.32j * side) * (1.0 if pointed else 0.85))
    e.fill(polygon(-0.42 + 0.2j, -0.3 - 0.35j, -0.03 - 0.88j, 0.06 - 0.88j, 0.32 - 0.35j, 0.42 + 0.2j), b.fur)
    if pointed:
        e.fill(polygon(-0.14 - 0.62j, -0.03 - 0.88j, 0.06 - 0.88j, 0.17 - 0.62j), b.dark)
    e.fill(polygon(-0.2 + 0.1j, 0.0 - 0.55j, 0.2 + 0.1j), b.light if pointed else "#eeb4b8")


def _long_ear(h: Sketch, b: Build, w: float, side: int) -> None:
    e = h.at(complex(side * 0.36, -0.75), cmath.exp(1j * (0.22 * side + 0.04)))
    e.fill(blob([-0.22 + 0.1j, -0.27 - 0.6j, -0.1 - 1.25j, 0.1 - 1.25j, 0.27 - 0.6j, 0.22 + 0.1j]), b.fur)
    e.fill(blob([-0.1, -0.14 - 0.6j, -1.08j, 0.14 - 0.6j, 0.1]), "#f0bfbd")


def _round_ear(h: Sketch, b: Build, w: float, side: int) -> None:
    huge = b.ears == "huge"
    if side == -1 and b.ears == "mane":
        k = np.arange(60)
        radius = 1.42 + 0.13 * np.abs(np.sin(k * np.pi / 5))
        h.fill(radius * np.exp(2j * np.pi * k / 60) - 0.02 - 0.02j, b.dark)
    if side == -1 and b.ears == "small":
        _spines(h, b)
    r = {"round": 0.36, "huge": 0.66, "small": 0.28, "mane": 0.3}[b.ears]
    at = complex(side * (w * 0.72 + (0.18 if huge else 0)), -0.7 - (0.1 if huge else 0.0))
    h.fill(ellipse(at, r, n=22), b.fur)
    h.fill(ellipse(at + 0.04j, r * 0.62, n=18), "#eeb4b8" if huge else b.light)


def _spines(h: Sketch, b: Build) -> None:
    """The hedgehog's coat: a zigzag crown behind the head, down to the shoulders."""
    k = np.arange(38)
    radius = np.where(k % 2, 1.5, 1.12)
    h.fill(radius * np.exp(1j * (0.55 * np.pi + k / 37 * 1.28 * np.pi)) - 0.06 + 0.02j, b.dark)
    h.fill(np.where(k % 2, 1.28, 1.05) * np.exp(1j * (0.6 * np.pi + k / 37 * 1.2 * np.pi)) - 0.04, shade(b.dark, 0.2))


def _flapping_ear(h: Sketch, b: Build, w: float, side: int) -> None:
    at = complex(side * (w + 0.42), -0.05)
    outer = [
        at - side * 0.5 - 0.55j, at + side * 0.1 - 0.85j, at + side * 0.52 - 0.4j,
        at + side * 0.42 + 0.35j, at + 0.75j, at - side * 0.5 + 0.3j,
    ]  # fmt: skip
    inner = [
        at - side * 0.3 - 0.35j, at + side * 0.1 - 0.6j, at + side * 0.34 - 0.25j,
        at + side * 0.25 + 0.28j, at + 0.5j, at - side * 0.3 + 0.2j,
    ]  # fmt: skip
    h.fill(blob(outer), shade(b.fur, -0.06))
    h.fill(blob(inner), b.light)


def _tuft(h: Sketch, b: Build, w: float, side: int) -> None:
    corners = complex(side * 0.25, -0.85), complex(side * w * 1.0, -1.3), complex(side * w * 0.95, -0.3)
    h.fill(polygon(*corners), b.dark)


def _folded_ear(h: Sketch, b: Build, w: float, side: int) -> None:
    e = h.at(complex(side * w * 0.6, -0.72), cmath.exp(0.5j * side))
    e.fill(blob([-0.3 + 0.15j, -0.2 - 0.4j, 0.05 - 0.55j, 0.3 - 0.2j, 0.3 + 0.15j]), b.fur)
    e.fill(polygon(-0.16 - 0.36j, 0.1 - 0.5j, 0.2 - 0.02j), b.dark)


EARS: dict[str, Callable[[Sketch, Build, float, int], None]] = {
    "pointed": _triangular_ear, "cat": _triangular_ear, "long": _long_ear, "flaps": _flapping_ear,
    "round": _round_ear, "huge": _round_ear, "small": _round_ear, "mane": _round_ear,
    "tufts": _tuft, "folded": _folded_ear,
}  # fmt: skip


# Muzzles. In a three-quarter view the face is turned a little to the right.

MID = 0.18  # where its middle is


def _fox(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    mask = [
        -w * 0.92 + 0.2j, -0.1 + 0.12j, MID - 0.18j, 0.5 + 0.12j,
        w * 0.97 + 0.2j, 0.7 * w + 0.7j, 0.1 + 0.93j, -0.6 * w + 0.72j,
    ]  # fmt: skip
    h.fill(blob(mask), b.light)
    h.fill(blob([MID - 0.17 + 0.18j, MID + 0.06 + 0.1j, MID + 0.26 + 0.18j, MID + 0.05 + 0.36j]), "#2b1f22")
    _mouth(h, complex(MID + 0.05, 0.5), 0.17, mood)


def _bear(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(ellipse(complex(MID, 0.36), 0.46, 0.38, n=24), b.light)
    h.fill(blob([MID - 0.19 + 0.1j, MID + 0.02 + 0.04j, MID + 0.24 + 0.1j, MID + 0.02 + 0.3j]), "#2b1f22")
    _mouth(h, complex(MID + 0.02, 0.44), 0.16, mood)


def _cat(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    for k in (-1, 0, 1):
        left, right = complex(MID - 0.28 + 0.16 * k, -0.95), complex(MID - 0.06 + 0.12 * k, -0.95)
        h.fill(polygon(left, right, complex(MID - 0.1 + 0.1 * k, -0.5)), b.dark)
    for side in (-1, 1):
        h.fill(ellipse(complex(MID + side * 0.17, 0.38), 0.23, 0.19, n=18), b.light)
        for k in (-1, 1):
            whisker = [complex(MID + side * 0.35, 0.36 + 0.05 * k), complex(MID + side * 0.95, 0.3 + 0.14 * k)]
            h.fill(limb(whisker, [0.03, 0.02]), "#f7f4ef")
    h.fill(polygon(MID - 0.11 + 0.2j, MID + 0.11 + 0.2j, MID + 0.33j), "#e58a94")
    _mouth(h, complex(MID, 0.46), 0.14, mood)


def _rabbit(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(ellipse(complex(MID, 0.4), 0.4, 0.3, n=20), b.light)
    h.fill(blob([MID - 0.12 + 0.17j, MID + 0.12 + 0.17j, MID + 0.33j]), "#e58a94")
    h.fill(polygon(MID - 0.1 + 0.5j, MID + 0.1 + 0.5j, MID + 0.09 + 0.72j, MID - 0.09 + 0.72j), "#fffdf6")
    _mouth(h, complex(MID, 0.46), 0.15, mood)


def _mouse(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(blob([MID - 0.3 + 0.3j, MID + 0.1 + 0.1j, MID + 0.72 + 0.3j, MID + 0.1 + 0.62j]), b.light)
    h.fill(ellipse(complex(MID + 0.7, 0.28), 0.13, n=14), "#d9596b")
    _mouth(h, complex(MID + 0.2, 0.52), 0.13, mood)


def _frog(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    for x in (-0.5, 0.72):
        h.fill(ellipse(complex(x, -0.82), 0.42, n=22), b.fur)
        _eye(h, complex(x, -0.85), 0.17, mood, white=0.31)
    h.fill(ellipse(complex(MID, 0.5), 0.85, 0.36, n=22), b.light)
    _mouth(h, complex(MID, 0.26), 0.36, mood)


def _duck(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(blob([-0.3 - 0.95j, -0.15 - 1.25j, 0.02 - 1.02j, 0.14 - 1.28j, 0.3 - 0.92j], 4), b.fur)
    if mood.mouth in ("open", "grin"):
        h.fill(blob([MID + 0.05 + 0.3j, MID + 0.85 + 0.36j, MID + 0.7 + 0.56j, MID + 0.1 + 0.5j]), "#c96a1c")
    beak = [MID - 0.02 + 0.22j, MID + 0.3 + 0.04j, MID + 1.0 + 0.2j, MID + 1.02 + 0.32j, MID + 0.35 + 0.4j]
    h.fill(blob(beak), b.dark)
    h.fill(ellipse(complex(MID + 0.42, 0.18), 0.05, 0.03, n=8), "#a95612")


def _hedgehog(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(blob([-0.75 - 0.25j, MID - 0.75j, 0.95 - 0.2j, 1.0 + 0.4j, MID + 0.9j, -0.7 + 0.55j]), b.fur)
    h.fill(blob([MID + 0.1 + 0.12j, MID + 0.9 + 0.14j, MID + 0.85 + 0.4j, MID + 0.1 + 0.55j]), b.light)
    h.fill(ellipse(complex(MID + 0.92, 0.2), 0.15, n=14), "#2b1f22")
    _mouth(h, complex(MID + 0.2, 0.52), 0.15, mood)


def _elephant(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    _mouth(h, complex(MID + 0.34, 0.6), 0.15, mood)
    trunk = [complex(MID, 0.15), complex(MID + 0.1, 1.0), complex(MID + 0.4, 1.35), complex(MID + 1.0, 0.85)]
    h.fill(stroke(trunk, 0.52, 0.56), b.dark)
    h.fill(stroke(trunk, 0.44, 0.55), b.fur)
    for y in (0.45, 0.65, 0.82):
        fold = [complex(MID - 0.12 + 0.05 * y, y), complex(MID + 0.1, y + 0.08), complex(MID + 0.24, y - 0.02)]
        h.fill(stroke(fold, 0.03), b.dark)


def _owl(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    for x in (-0.34, 0.56):
        h.fill(ellipse(complex(x, -0.1), 0.52, 0.56, n=24), b.light)
        _eye(h, complex(x, -0.1), 0.19, mood, white=0.36)
    h.fill(polygon(complex(0.0, 0.18), complex(0.11, 0.1), complex(0.22, 0.18), complex(0.11, 0.52)), "#f0a23a")
    if mood.mouth in ("open", "grin"):
        h.fill(polygon(complex(0.02, 0.4), complex(0.2, 0.4), complex(0.11, 0.64)), "#a95612")


def _pig(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    h.fill(ellipse(complex(MID + 0.06, 0.28), 0.34, 0.26, n=22), b.dark)
    h.fill(ellipse(complex(MID + 0.06, 0.26), 0.31, 0.23, n=22), "#f3a0a3")
    for side in (-1, 1):
        h.fill(ellipse(complex(MID + 0.06 + side * 0.12, 0.26), 0.055, 0.09, n=10), "#a64d57")
    _mouth(h, complex(MID + 0.04, 0.62), 0.16, mood)


MUZZLES: dict[str, Callable[[Sketch, Build, float, Mood], None]] = {
    "fox": _fox, "bear": _bear, "lion": _bear, "cat": _cat, "rabbit": _rabbit, "mouse": _mouse, "frog": _frog,
    "duck": _duck, "hedgehog": _hedgehog, "elephant": _elephant, "owl": _owl, "pig": _pig,
}  # fmt: skip
