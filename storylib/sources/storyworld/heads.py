"""The species: their build, and their heads with ears, muzzle and a mood.

A head is drawn around 0 with half its height as the unit, turned a little to the right (a three-quarter view).
"""

from __future__ import annotations

import cmath
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
    ears: str
    muzzle: str
    tail: str
    size: float = 1.0  # against the other species
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
    eyes: str = "open"  # "open", "wide", "shut" (asleep), "glad" (laughing)
    mouth: str = "smile"  # "smile", "grin", "open", "frown", "small"
    brows: float = 0.0  # > 0: inner ends up (sorry); < 0: inner ends down (cross)
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
    rx, ry = b.head
    h = s.at(0, ry)  # from here on one unit is half the head's height
    w = rx / ry
    _ears(h, b, w)
    h.fill(
        blob(
            [-w + 0.05j, -0.8 * w - 0.62j, -1j, 0.8 * w - 0.62j, w + 0.05j, 0.72 * w + 0.72j, 0.95j, -0.72 * w + 0.72j]
        ),
        b.fur,
    )
    _muzzle(h, b, w, mood)
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
            h.fill(
                np.concatenate(
                    [curve([at - w, at - 0.1j * w, at + w], 6), curve([at + w, at + 2.2j * w * deep, at - w], 10)]
                ),
                "#7a2f35",
            )
            h.fill(ellipse(at + 0.75j * w * deep, 0.5 * w, 0.28 * w, n=12), "#ee8585")


def _ears(h: Sketch, b: Build, w: float) -> None:
    for side in (-1, 1):
        turn = cmath.exp(0.5j * side)
        match b.ears:
            case "pointed" | "cat":
                e = h.at(
                    complex(side * w * 0.58, -0.62), cmath.exp(0.32j * side) * (1.0 if b.ears == "pointed" else 0.85)
                )
                e.fill(
                    polygon(-0.42 + 0.2j, -0.3 - 0.35j, -0.03 - 0.88j, 0.06 - 0.88j, 0.32 - 0.35j, 0.42 + 0.2j), b.fur
                )
                if b.ears == "pointed":
                    e.fill(polygon(-0.14 - 0.62j, -0.03 - 0.88j, 0.06 - 0.88j, 0.17 - 0.62j), b.dark)
                e.fill(polygon(-0.2 + 0.1j, 0.0 - 0.55j, 0.2 + 0.1j), b.light if b.ears == "pointed" else "#eeb4b8")
            case "long":
                e = h.at(complex(side * 0.36, -0.75), cmath.exp(1j * (0.22 * side + 0.04)))
                e.fill(blob([-0.22 + 0.1j, -0.27 - 0.6j, -0.1 - 1.25j, 0.1 - 1.25j, 0.27 - 0.6j, 0.22 + 0.1j]), b.fur)
                e.fill(blob([-0.1, -0.14 - 0.6j, -1.08j, 0.14 - 0.6j, 0.1]), "#f0bfbd")
            case "round" | "huge" | "small" | "mane":
                r = {"round": 0.36, "huge": 0.66, "small": 0.28, "mane": 0.3}[b.ears]
                if b.ears == "mane" and side == -1:
                    k = np.arange(60)
                    h.fill(
                        (1.42 + 0.13 * np.abs(np.sin(k * np.pi / 5))) * np.exp(2j * np.pi * k / 60) - 0.02 - 0.02j,
                        b.dark,
                    )
                if b.ears == "small":
                    _spines(h, b, w) if side == -1 else None
                at = complex(
                    side * (w * 0.72 + (0.18 if b.ears == "huge" else 0)), -0.7 - (0.1 if b.ears == "huge" else 0.0)
                )
                h.fill(ellipse(at, r, n=22), b.fur)
                h.fill(ellipse(at + 0.04j, r * 0.62, n=18), "#eeb4b8" if b.ears == "huge" else b.light)
            case "flaps":
                at = complex(side * (w + 0.42), -0.05)
                h.fill(
                    blob(
                        [
                            at - side * 0.5 - 0.55j,
                            at + side * 0.1 - 0.85j,
                            at + side * 0.52 - 0.4j,
                            at + side * 0.42 + 0.35j,
                            at + 0.75j,
                            at - side * 0.5 + 0.3j,
                        ]
                    ),
                    shade(b.fur, -0.06),
                )
                h.fill(
                    blob(
                        [
                            at - side * 0.3 - 0.35j,
                            at + side * 0.1 - 0.6j,
                            at + side * 0.34 - 0.25j,
                            at + side * 0.25 + 0.28j,
                            at + 0.5j,
                            at - side * 0.3 + 0.2j,
                        ]
                    ),
                    b.light,
                )
            case "tufts":
                h.fill(
                    polygon(complex(side * 0.25, -0.85), complex(side * w * 1.0, -1.3), complex(side * w * 0.95, -0.3)),
                    b.dark,
                )
            case "folded":
                e = h.at(complex(side * w * 0.6, -0.72), turn)
                e.fill(blob([-0.3 + 0.15j, -0.2 - 0.4j, 0.05 - 0.55j, 0.3 - 0.2j, 0.3 + 0.15j]), b.fur)
                e.fill(polygon(-0.16 - 0.36j, 0.1 - 0.5j, 0.2 - 0.02j), b.dark)


def _spines(h: Sketch, b: Build, w: float) -> None:
    """The hedgehog's coat: a zigzag crown behind the head, down to the shoulders."""
    k = np.arange(38)
    radius = np.where(k % 2, 1.5, 1.12)
    h.fill(radius * np.exp(1j * (0.55 * np.pi + k / 37 * 1.28 * np.pi)) - 0.06 + 0.02j, b.dark)
    h.fill(np.where(k % 2, 1.28, 1.05) * np.exp(1j * (0.6 * np.pi + k / 37 * 1.2 * np.pi)) - 0.04, shade(b.dark, 0.2))


def _muzzle(h: Sketch, b: Build, w: float, mood: Mood) -> None:
    mid = 0.18  # a three-quarter view: the face is turned a little to the right
    match b.muzzle:
        case "fox":
            h.fill(
                blob(
                    [
                        -w * 0.92 + 0.2j,
                        -0.1 + 0.12j,
                        mid - 0.18j,
                        0.5 + 0.12j,
                        w * 0.97 + 0.2j,
                        0.7 * w + 0.7j,
                        0.1 + 0.93j,
                        -0.6 * w + 0.72j,
                    ]
                ),
                b.light,
            )
            h.fill(blob([mid - 0.17 + 0.18j, mid + 0.06 + 0.1j, mid + 0.26 + 0.18j, mid + 0.05 + 0.36j]), "#2b1f22")
            _mouth(h, complex(mid + 0.05, 0.5), 0.17, mood)
        case "bear" | "lion":
            h.fill(ellipse(complex(mid, 0.36), 0.46, 0.38, n=24), b.light)
            h.fill(blob([mid - 0.19 + 0.1j, mid + 0.02 + 0.04j, mid + 0.24 + 0.1j, mid + 0.02 + 0.3j]), "#2b1f22")
            _mouth(h, complex(mid + 0.02, 0.44), 0.16, mood)
        case "cat":
            for k in (-1, 0, 1):
                h.fill(
                    polygon(
                        complex(mid - 0.28 + 0.16 * k, -0.95),
                        complex(mid - 0.06 + 0.12 * k, -0.95),
                        complex(mid - 0.1 + 0.1 * k, -0.5),
                    ),
                    b.dark,
                )
            for side in (-1, 1):
                h.fill(ellipse(complex(mid + side * 0.17, 0.38), 0.23, 0.19, n=18), b.light)
                for k in (-1, 1):
                    h.fill(
                        limb(
                            [complex(mid + side * 0.35, 0.36 + 0.05 * k), complex(mid + side * 0.95, 0.3 + 0.14 * k)],
                            [0.03, 0.02],
                        ),
                        "#f7f4ef",
                    )
            h.fill(polygon(mid - 0.11 + 0.2j, mid + 0.11 + 0.2j, mid + 0.33j), "#e58a94")
            _mouth(h, complex(mid, 0.46), 0.14, mood)
        case "rabbit":
            h.fill(ellipse(complex(mid, 0.4), 0.4, 0.3, n=20), b.light)
            h.fill(blob([mid - 0.12 + 0.17j, mid + 0.12 + 0.17j, mid + 0.33j]), "#e58a94")
            h.fill(polygon(mid - 0.1 + 0.5j, mid + 0.1 + 0.5j, mid + 0.09 + 0.72j, mid - 0.09 + 0.72j), "#fffdf6")
            _mouth(h, complex(mid, 0.46), 0.15, mood)
        case "mouse":
            h.fill(blob([mid - 0.3 + 0.3j, mid + 0.1 + 0.1j, mid + 0.72 + 0.3j, mid + 0.1 + 0.62j]), b.light)
            h.fill(ellipse(complex(mid + 0.7, 0.28), 0.13, n=14), "#d9596b")
            _mouth(h, complex(mid + 0.2, 0.52), 0.13, mood)
        case "frog":
            for x in (-0.5, 0.72):
                h.fill(ellipse(complex(x, -0.82), 0.42, n=22), b.fur)
                _eye(h, complex(x, -0.85), 0.17, mood, white=0.31)
            h.fill(ellipse(complex(mid, 0.5), 0.85, 0.36, n=22), b.light)
            _mouth(h, complex(mid, 0.26), 0.36, mood)
        case "duck":
            h.fill(blob([-0.3 - 0.95j, -0.15 - 1.25j, 0.02 - 1.02j, 0.14 - 1.28j, 0.3 - 0.92j], 4), b.fur)
            if mood.mouth in ("open", "grin"):
                h.fill(blob([mid + 0.05 + 0.3j, mid + 0.85 + 0.36j, mid + 0.7 + 0.56j, mid + 0.1 + 0.5j]), "#c96a1c")
            h.fill(
                blob([mid - 0.02 + 0.22j, mid + 0.3 + 0.04j, mid + 1.0 + 0.2j, mid + 1.02 + 0.32j, mid + 0.35 + 0.4j]),
                b.dark,
            )
            h.fill(ellipse(complex(mid + 0.42, 0.18), 0.05, 0.03, n=8), "#a95612")
        case "hedgehog":
            h.fill(blob([-0.75 - 0.25j, mid - 0.75j, 0.95 - 0.2j, 1.0 + 0.4j, mid + 0.9j, -0.7 + 0.55j]), b.fur)
            h.fill(blob([mid + 0.1 + 0.12j, mid + 0.9 + 0.14j, mid + 0.85 + 0.4j, mid + 0.1 + 0.55j]), b.light)
            h.fill(ellipse(complex(mid + 0.92, 0.2), 0.15, n=14), "#2b1f22")
            _mouth(h, complex(mid + 0.2, 0.52), 0.15, mood)
        case "elephant":
            _mouth(h, complex(mid + 0.34, 0.6), 0.15, mood)
            trunk = [complex(mid, 0.15), complex(mid + 0.1, 1.0), complex(mid + 0.4, 1.35), complex(mid + 1.0, 0.85)]
            h.fill(stroke(trunk, 0.52, 0.56), b.dark)
            h.fill(stroke(trunk, 0.44, 0.55), b.fur)
            for y in (0.45, 0.65, 0.82):
                fold = [complex(mid - 0.12 + 0.05 * y, y), complex(mid + 0.1, y + 0.08), complex(mid + 0.24, y - 0.02)]
                h.fill(stroke(fold, 0.03), b.dark)
        case "owl":
            for x in (-0.34, 0.56):
                h.fill(ellipse(complex(x, -0.1), 0.52, 0.56, n=24), b.light)
                _eye(h, complex(x, -0.1), 0.19, mood, white=0.36)
            h.fill(polygon(complex(0.0, 0.18), complex(0.11, 0.1), complex(0.22, 0.18), complex(0.11, 0.52)), "#f0a23a")
            if mood.mouth in ("open", "grin"):
                h.fill(polygon(complex(0.02, 0.4), complex(0.2, 0.4), complex(0.11, 0.64)), "#a95612")
        case "pig":
            h.fill(ellipse(complex(mid + 0.06, 0.28), 0.34, 0.26, n=22), b.dark)
            h.fill(ellipse(complex(mid + 0.06, 0.26), 0.31, 0.23, n=22), "#f3a0a3")
            for side in (-1, 1):
                h.fill(ellipse(complex(mid + 0.06 + side * 0.12, 0.26), 0.055, 0.09, n=10), "#a64d57")
            _mouth(h, complex(mid + 0.04, 0.62), 0.16, mood)
