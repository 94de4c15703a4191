"""The animals: one jointed and dressed body for all, with the build, tail and head of each species.

A figure stands with its feet at 0, is about one unit tall (y points down, so up is negative) and looks to the right.
"""

from __future__ import annotations

import cmath
from collections.abc import Callable
from dataclasses import dataclass

from storylib.sources.storyworld.heads import BUILDS, INK, Build, Mood, draw_head
from storylib.sources.storyworld.shapes import Points, Sketch, blob, ellipse, limb, shade, stroke

DYES = {
    "red": "#d8433b", "orange": "#ef8a2f", "yellow": "#f6cb3c", "green": "#5aa04a",
    "blue": "#3c78c8", "purple": "#8456b0", "pink": "#f08fb0", "white": "#f8f5ec",
}  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """Angles of the joints in radians, from hanging straight down, forwards positive; near and far side."""

    near_arm: tuple[float, float] = (0.25, 0.45)
    far_arm: tuple[float, float] = (-0.25, -0.1)
    near_leg: tuple[float, float] = (0.05, 0.0)
    far_leg: tuple[float, float] = (-0.05, 0.0)
    lean: float = 0.0
    nod: float = 0.0  # of the head, on top of the lean
    lift: float = 0.0  # above the ground
    turn: float = 0.0  # of the whole figure: lying, tumbling


POSES = {
    "stand": Pose(),
    "play": Pose((1.9, 2.3), (-1.7, -2.2), (0.5, 0.1), (-0.35, -0.9), lean=0.06, lift=0.07),
    "walk": Pose((0.6, 1.0), (-0.6, -0.3), (0.5, 0.25), (-0.5, -0.75), lean=0.05),
    "rest": Pose((0.3, 0.9), (-0.1, 0.3), (1.45, 1.5), (1.35, 1.45), lean=-0.12, nod=0.28, lift=-0.13),
    "sit": Pose((0.5, 1.1), (0.2, 0.9), (1.45, 1.5), (1.35, 1.45), lift=-0.13),
    "search": Pose((1.5, 2.9), (-0.3, 0.4), (0.3, 0.15), (-0.25, -0.4), lean=0.22, nod=0.1),
    "cry": Pose((0.9, 2.75), (0.7, 2.6), lean=0.1, nod=0.22),
    "wave": Pose((2.2, 2.9), (-0.3, -0.1), (0.08, 0.05), (-0.1, -0.05)),
    "find": Pose((1.3, 1.6), (-2.0, -2.7), (0.25, 0.1), (-0.2, -0.35), lean=0.14, nod=0.1),
    "give": Pose((1.3, 1.5), (1.05, 1.35), (0.15, 0.1), (-0.15, -0.1), lean=0.08),
    "receive": Pose((0.9, 1.7), (0.8, 1.5), (0.08, 0.05), (-0.1, -0.05), lean=-0.03),
    "hug": Pose((1.35, 1.75), (1.1, 1.4), lean=0.12, nod=0.1),
    "dance": Pose((2.5, 2.9), (-2.3, -2.9), (0.7, -0.2), (-0.12, -0.05), lean=-0.08, nod=-0.08, lift=0.05),
    "dig": Pose((1.0, 1.35), (0.8, 1.2), (0.35, 0.2), (-0.35, -0.55), lean=0.42, nod=0.1),
    "carry": Pose((0.75, 1.9), (0.65, 1.75), (0.4, 0.2), (-0.35, -0.6), lean=-0.1),
    "climb": Pose((2.2, 2.6), (1.5, 2.3), (1.1, 0.3), (-0.25, -0.5), lean=0.22, nod=-0.15),
    "watch": Pose((1.2, 3.25), (-0.2, 0.1), (0.06, 0.0), (-0.08, 0.0), lean=-0.06, nod=-0.2),
    "hide": Pose((1.0, 2.5), (0.9, 2.3), (1.1, -0.5), (0.9, -0.6), lean=0.25, nod=0.12, lift=-0.07),
    "run": Pose((1.2, 2.2), (-1.1, -0.1), (1.05, 0.5), (-0.8, -1.7), lean=0.24, nod=-0.08, lift=0.06),
    "fall": Pose((1.9, 2.1), (2.4, 2.6), (0.35, 0.2), (-0.3, -0.8), nod=-0.25, turn=1.28, lift=0.13),
    "eat": Pose((0.9, 2.45), (0.4, 1.3), (1.45, 1.5), (1.35, 1.45), lift=-0.13),
    "build": Pose((1.9, 2.5), (0.6, 1.2), (0.12, 0.05), (-0.15, -0.1), lean=0.2, nod=0.12),
    "wait": Pose((0.6, 1.75), (0.5, 1.6), (0.05, 0.0), (-0.05, 0.0), lean=-0.03, nod=-0.05),
}


@dataclass(frozen=True)
class Figure:
    """One animal, dressed."""

    species: str
    garment: str
    outfit: str
    pose: Pose
    mood: Mood
    pattern: str = "plain"  # "plain", "stripes" or "dots"


def down(angle: float) -> complex:
    """Direction of a limb: 0 hangs down, a quarter turn points forwards."""
    return 1j * cmath.exp(-1j * angle)


def draw_figure(sketch: Sketch, figure: Figure, held: Callable[[Sketch], None] | None = None) -> None:
    """Draw a figure; ``held`` draws what it has in its hands, on an upright sketch with the hands at its origin."""
    build, pose, dye = BUILDS[figure.species], figure.pose, DYES[figure.garment]
    line = 0.0045 * abs(sketch.factor) ** 0.5
    # A lying figure turns around its feet, so it is moved back to lie around its position.
    body = sketch.at((-0.34 if pose.turn else 0) - 1j * pose.lift, cmath.exp(1j * pose.turn))
    hip, neck = -1j * build.legs, -0.37j
    trunk = body.at(hip, cmath.exp(1j * pose.lean))
    near_shoulder, far_shoulder = neck + 0.06j + 0.1, neck + 0.06j - 0.1

    since = len(sketch.shapes)
    _tail(trunk, build)
    _arm(trunk, build, pose.far_arm, far_shoulder, dye, figure.outfit, far=True)
    for side, angles, far in ((-1, pose.far_leg, True), (1, pose.near_leg, False)):
        _leg(body, build, hip + side * 0.085, angles, figure.outfit, dye, far)
    sketch.outline(since, INK, line)

    since = len(sketch.shapes)
    _torso(trunk, build, figure, neck)
    sketch.outline(since, INK, line)

    since = len(sketch.shapes)
    draw_head(trunk.at(neck - 1j * build.head[1] * 0.72, cmath.exp(1j * pose.nod)), build, figure.mood)
    sketch.outline(since, INK, line)
    if figure.outfit == "cape":
        _clasp(trunk, neck, dye)

    if held is not None:
        hands = _hand(pose.near_arm, near_shoulder) + 0.02
        held(trunk.at(hands, cmath.exp(-1j * (pose.lean + pose.turn))))
    since = len(sketch.shapes)
    _arm(trunk, build, pose.near_arm, near_shoulder, dye, figure.outfit, far=False)
    sketch.outline(since, INK, line)


def _clasp(s: Sketch, neck: complex, dye: str) -> None:
    s.fill(limb([neck + 0.05j - 0.16, neck + 0.09j, neck + 0.05j + 0.16], [0.1, 0.11, 0.1]), dye)
    s.fill(ellipse(neck + 0.095j + 0.03, 0.03, n=12), "#f6cb3c")


def _hand(angles: tuple[float, float], shoulder: complex) -> complex:
    return shoulder + 0.17 * down(angles[0]) + 0.16 * down(angles[1])


def _arm(
    s: Sketch, build: Build, angles: tuple[float, float], shoulder: complex, dye: str, outfit: str, far: bool
) -> None:
    elbow = shoulder + 0.17 * down(angles[0])
    hand = elbow + 0.16 * down(angles[1])
    fur = shade(build.fur, -0.12 if far else 0.0)
    wide = 0.1 if build.girth < 0.23 else 0.12
    s.fill(limb([shoulder, elbow, hand], [wide, wide * 0.9, wide * 0.8]), fur)
    s.fill(ellipse(hand, wide * 0.52, n=14), fur)
    if outfit in ("jumper", "dungarees", "dress"):
        cloth = _shirt(dye) if outfit == "dungarees" else dye
        end = elbow + 0.09 * down(angles[1]) if outfit != "dress" else elbow
        points = [shoulder, elbow, end] if outfit != "dress" else [shoulder, (shoulder + elbow) / 2, end]
        s.fill(limb(points, [wide * 1.22, wide * 1.2, wide * 1.18]), shade(cloth, -0.14 if far else 0.0))


def _shirt(dye: str) -> str:
    """The colour of the shirt under dungarees."""
    return "#fbf4e4" if dye != DYES["white"] else "#c9a97e"


def _leg(s: Sketch, build: Build, hip: complex, angles: tuple[float, float], outfit: str, dye: str, far: bool) -> None:
    thigh, shin = angles
    half = build.legs / 2
    knee = hip + half * down(thigh)
    foot = knee + half * down(shin)
    fur = shade(build.fur, -0.14 if far else -0.03)
    wide = 0.12 if build.girth < 0.23 else 0.145
    cloth = shade(dye, -0.14 if far else -0.04) if outfit == "dungarees" else fur
    s.fill(limb([hip, knee, foot], [wide * 1.1, wide, wide * 0.9]), cloth)
    shoe = build.dark
    forward = cmath.exp(-1j * shin) if abs(shin) < 2 else 1
    s.fill(ellipse(foot + 0.035 * forward - 0.012j, 0.078, 0.045, -shin, 16), shade(shoe, -0.1 if far else 0.0))


def _torso(s: Sketch, build: Build, figure: Figure, neck: complex) -> None:
    g, dye, outfit = build.girth, DYES[figure.garment], figure.outfit

    def outline_of(top: float, bottom: float) -> Points:
        return blob([
            neck + complex(-g * top, 0.01), neck + complex(0, -0.015), neck + complex(g * top, 0.01),
            complex(g * 1.0, -0.14), complex(g * bottom, 0.03), complex(0, 0.055),
            complex(-g * bottom, 0.03), complex(-g * 1.0, -0.14),
        ])  # fmt: skip

    if outfit == "cape":
        cape = [
            neck + 0.02j - 0.13, neck + 0.02j + 0.08, 0.02j + g * 0.5,
            0.09j - g * 0.9, 0.06j - g * 1.75, -0.16j - g * 1.25,
        ]  # fmt: skip
        s.fill(blob(cape), dye)
    s.fill(outline_of(0.72, 0.92), build.fur)
    if outfit == "cape":
        s.fill(ellipse(-0.13j + 0.05, g * 0.62, 0.16, n=22), build.light)
    elif outfit == "jumper":
        s.fill(outline_of(0.78, 0.96), dye)
        _pattern(s, figure, g, -0.3, 0.0)
        s.fill(limb([complex(-g * 0.9, 0.03), 0.06j, complex(g * 0.9, 0.03)], [0.04, 0.045, 0.04]), shade(dye, -0.18))
        s.fill(limb([neck + 0.02j - 0.1, neck + 0.035j, neck + 0.02j + 0.1], [0.045, 0.05, 0.045]), shade(dye, -0.18))
    elif outfit == "dress":
        s.fill(blob([
            neck + complex(-g * 0.72, 0.01), neck, neck + complex(g * 0.72, 0.01), complex(g * 0.86, -0.2),
            complex(g * 1.5, 0.06), complex(g * 1.2, 0.1), 0.115j, complex(-g * 1.2, 0.1), complex(-g * 1.5, 0.06),
            complex(-g * 0.86, -0.2),
        ]), dye)  # fmt: skip
        _pattern(s, figure, g * 1.15, -0.24, 0.06)
        s.fill(
            limb([complex(-g * 0.8, -0.17), -0.155j, complex(g * 0.8, -0.17)], [0.035, 0.035, 0.035]), shade(dye, -0.22)
        )
        for side in (-1, 1):
            s.fill(ellipse(neck + 0.05j + side * 0.045, 0.05, 0.034, side * 0.3, 14), "#fff8ea")
    else:  # dungarees: a shirt below a bib with straps
        s.fill(outline_of(0.78, 0.95), _shirt(dye))
        s.fill(blob([
            complex(-g * 0.5, -0.26), complex(g * 0.62, -0.26), complex(g * 0.66, -0.15), complex(g * 1.04, -0.11),
            complex(g * 0.98, 0.03), 0.06j, complex(-g * 0.98, 0.03), complex(-g * 1.04, -0.11),
            complex(-g * 0.56, -0.15),
        ], 4), dye)  # fmt: skip
        for x in (-0.42 * g, 0.54 * g):
            s.fill(limb([complex(x, -0.24), neck + complex(x * 1.05, 0.02)], [0.035, 0.035]), dye)
            s.fill(ellipse(complex(x, -0.235), 0.017, n=10), "#f6cb3c")
        s.fill(limb([complex(-g * 0.25, -0.12), complex(g * 0.4, -0.12)], [0.06, 0.06]), shade(dye, -0.15))


def _pattern(s: Sketch, figure: Figure, g: float, top: float, bottom: float) -> None:
    dye = DYES[figure.garment]
    light = shade(dye, 0.45) if figure.garment != "white" else "#e4dccb"
    if figure.pattern == "stripes":
        for k in range(3):
            y = top + (k + 0.7) * (bottom - top) / 3
            line = [complex(-g * 0.9, y - 0.008), complex(0, y + 0.012), complex(g * 0.9, y - 0.008)]
            s.fill(limb(line, [0.03] * 3), light)
    elif figure.pattern == "dots":
        for k in range(7):
            row, column = divmod(k, 3)
            x, y = (column - 1 + 0.5 * (row % 2)) * g * 0.55, top + 0.05 + row * (bottom - top) / 3
            s.fill(ellipse(complex(x, y), 0.02, n=10), light)


def _tail(s: Sketch, b: Build) -> None:
    root = complex(-b.girth * 0.7, -0.03)
    match b.tail:
        case "brush":
            s.fill(stroke([root, root - 0.2 + 0.1j, root - 0.34 - 0.05j, root - 0.3 - 0.3j], 0.07, 2.4), b.fur)
            s.fill(blob([root - 0.36 - 0.26j, root - 0.28 - 0.2j, root - 0.21 - 0.27j, root - 0.28 - 0.42j]), b.light)
        case "puff":
            s.fill(ellipse(root - 0.05, 0.075, n=16), b.light)
        case "stub":
            s.fill(ellipse(root - 0.02, 0.06, n=16), b.fur)
        case "slim":
            s.fill(stroke([root, root - 0.25 + 0.1j, root - 0.2 - 0.3j, root - 0.34 - 0.36j], 0.06, 0.8), b.fur)
            s.fill(ellipse(root - 0.335 - 0.36j, 0.032, n=12), b.dark)
        case "string":
            s.fill(stroke([root, root - 0.3 + 0.2j, root - 0.28 - 0.2j, root - 0.48 - 0.16j], 0.04, 0.4), b.light)
        case "feather":
            feather = [root + 0.05 - 0.08j, root - 0.1 - 0.12j, root - 0.16 - 0.1j, root - 0.08, root + 0.05 + 0.05j]
            s.fill(blob(feather), b.fur)
        case "rope":
            s.fill(stroke([root, root - 0.12 - 0.02j, root - 0.14 + 0.12j], 0.035, 0.8), b.fur)
            s.fill(ellipse(root - 0.145 + 0.13j, 0.03, 0.04, n=12), b.dark)
        case "fan":
            s.fill(blob([root + 0.05, root - 0.08 + 0.04j, root - 0.1 + 0.14j, root + 0.05 + 0.12j]), b.dark)
        case "tassel":
            s.fill(stroke([root, root - 0.22 + 0.08j, root - 0.2 - 0.22j, root - 0.32 - 0.26j], 0.045, 0.8), b.fur)
            s.fill(blob([root - 0.28 - 0.24j, root - 0.36 - 0.2j, root - 0.42 - 0.32j, root - 0.32 - 0.33j]), b.dark)
        case "curl":
            curl = [root, root - 0.14 - 0.02j, root - 0.1 - 0.14j, root - 0.02 - 0.06j, root - 0.13 - 0.03j]
            s.fill(stroke(curl, 0.035, 0.7), b.dark)
