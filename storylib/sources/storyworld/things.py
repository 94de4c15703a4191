"""The objects of the stories, each about one unit wide and high around 0 (y points down), standing on y = 0.5."""

from __future__ import annotations

import cmath
from collections.abc import Callable

import numpy as np

from storylib.sources.storyworld.figures import INK
from storylib.sources.storyworld.shapes import Sketch, blob, box, curve, ellipse, limb, polygon, shade, stroke


def draw_thing(sketch: Sketch, name: str) -> None:
    """Draw an object with an ink outline; "bundle" is for an object that the picture does not show."""
    since = len(sketch.shapes)
    THINGS[name](sketch)
    sketch.outline(since, INK, 0.006 * abs(sketch.factor) ** 0.4)


def _apple(s: Sketch) -> None:
    fruit = [-0.42 - 0.05j, -0.25 - 0.3j, -0.22j, 0.25 - 0.3j, 0.42 - 0.05j, 0.28 + 0.42j, 0.42j, -0.28 + 0.42j]
    s.fill(blob(fruit), "#d63c36")
    s.fill(ellipse(-0.2 - 0.05j, 0.08, 0.13, 0.4, 12), "#f08a7a")
    s.fill(stroke([-0.2j, -0.35j + 0.02, 0.08 - 0.48j], 0.06), "#6b4428")
    s.fill(blob([0.06 - 0.34j, 0.2 - 0.48j, 0.38 - 0.42j, 0.24 - 0.3j]), "#6aa84a")


def _ball(s: Sketch) -> None:
    s.fill(ellipse(0.05j, 0.45), "#f6f0e2")
    for k, colour in enumerate(("#d8433b", "#3c78c8", "#f6cb3c")):
        a = 2j * np.pi * k / 3
        rim = 0.05j + 0.45 * np.exp(np.linspace(a - 0.5j, a + 0.5j, 8))
        s.fill(np.concatenate([[0.02j], rim]), colour)
    s.fill(ellipse(0.02j, 0.09, n=14), "#f6f0e2")


def _balloon(s: Sketch) -> None:
    s.fill(stroke([0.0 + 0.5j, 0.06 + 0.2j, -0.05 - 0.1j, 0.0 - 0.45j], 0.025), "#fffdf6")
    s.fill(polygon(-0.08 - 0.36j, 0.08 - 0.36j, -0.5j), "#c23a6a")
    s.fill(blob([-0.4 - 0.95j, -1.3j, 0.4 - 0.95j, 0.24 - 0.58j, -0.42j, -0.24 - 0.58j]), "#e0527f")
    s.fill(ellipse(-0.17 - 1.02j, 0.07, 0.14, 0.5, 12), "#f7a9c0")


def _bell(s: Sketch) -> None:
    s.fill(ellipse(-0.42j, 0.1, n=14), "#c98f24")
    s.fill(ellipse(0.4j, 0.11, n=14), "#8a5f1a")
    body = [
        -0.1 - 0.36j, 0.1 - 0.36j, 0.3 - 0.12j, 0.34 + 0.18j, 0.46 + 0.36j,
        0.38j, -0.46 + 0.36j, -0.34 + 0.18j, -0.3 - 0.12j,
    ]  # fmt: skip
    s.fill(blob(body), "#f0b93a")
    s.fill(stroke([-0.15 - 0.2j, -0.2, -0.22 + 0.2j], 0.07), "#fbe29a")


def _boat(s: Sketch) -> None:
    s.fill(limb([0.3j - 0.02, -0.48j - 0.02], [0.06, 0.05]), "#6b4428")
    s.fill(polygon(0.04 - 0.45j, 0.42 + 0.1j, 0.04 + 0.12j), "#fbf4e4")
    s.fill(polygon(-0.08 - 0.32j, -0.36 + 0.1j, -0.08 + 0.12j), "#f2c9a0")
    s.fill(polygon(-0.52 + 0.18j, 0.54 + 0.18j, 0.36 + 0.46j, -0.34 + 0.46j), "#c9503c")
    s.fill(box(-0.46, 0.25, 0.47, 0.31), "#fbf4e4")


def _book(s: Sketch) -> None:
    s.fill(polygon(-0.48 - 0.22j, -0.02 - 0.1j, 0.46 - 0.22j, 0.46 + 0.36j, 0.46j, -0.48 + 0.36j), "#356aa8")
    s.fill(blob([-0.44 - 0.26j, -0.2 - 0.27j, -0.02 - 0.14j, -0.02 + 0.4j, -0.22 + 0.28j, -0.44 + 0.3j], 3), "#fbf4e4")
    s.fill(blob([0.42 - 0.26j, 0.18 - 0.27j, -0.14j, 0.4j, 0.2 + 0.28j, 0.42 + 0.3j], 3), "#f1e7d0")
    for k in range(3):
        s.fill(limb([complex(-0.36, -0.1 + 0.12 * k), complex(-0.1, -0.06 + 0.12 * k)], [0.03, 0.03]), "#b9ab92")
    s.fill(ellipse(0.21 + 0.02j, 0.12, n=12), "#e58a4e")


def _cake(s: Sketch) -> None:
    s.fill(ellipse(0.44j, 0.56, 0.09, n=20), "#cfd8e4")
    s.fill(blob([-0.42 - 0.02j, -0.1j, 0.42 - 0.02j, 0.42 + 0.38j, 0.44j, -0.42 + 0.38j], 4), "#c98a52")
    icing = [
        -0.44 - 0.08j, -0.16j, 0.44 - 0.08j, 0.43 + 0.1j, 0.3 + 0.22j,
        0.16 + 0.08j, 0.0 + 0.24j, -0.16 + 0.08j, -0.3 + 0.2j, -0.43 + 0.08j,
    ]  # fmt: skip
    s.fill(blob(icing, 4), "#fbe3ea")
    s.fill(ellipse(-0.22j, 0.12, n=14), "#d63c36")
    s.fill(stroke([-0.3j, 0.04 - 0.42j, 0.14 - 0.46j], 0.03), "#4c7a34")


def _drum(s: Sketch) -> None:
    s.fill(box(-0.42, -0.2, 0.42, 0.36), "#c9403a")
    s.fill(ellipse(0.36j, 0.42, 0.12, n=20), "#c9403a")
    for k in range(4):
        x = -0.42 + 0.21 * k
        s.fill(limb([complex(x, -0.12), complex(x + 0.105, 0.38), complex(x + 0.21, -0.12)], [0.035] * 3), "#f6cb3c")
    s.fill(ellipse(-0.2j, 0.45, 0.15, n=22), "#f6cb3c")
    s.fill(ellipse(-0.21j, 0.38, 0.11, n=22), "#fbf4e4")
    for x in (-0.3, 0.2):
        s.fill(limb([complex(x, -0.52), complex(x + 0.16, -0.2)], [0.07, 0.05]), "#8a5a3c")


def _flower(s: Sketch) -> None:
    s.fill(stroke([0.5j, 0.1 + 0.2j, 0.0 - 0.1j], 0.06), "#4f8f3c")
    s.fill(blob([0.04 + 0.3j, 0.18 + 0.12j, 0.36 + 0.12j, 0.22 + 0.3j]), "#5fa548")
    for k in range(6):
        petal = ellipse(-0.22j + 0.22 * cmath.exp(1j * np.pi * k / 3), 0.17, 0.13, np.pi * k / 3, 14)
        s.fill(petal, "#e868a0" if k % 2 else "#f08cb8")
    s.fill(ellipse(-0.22j, 0.13, n=14), "#f6cb3c")


def _key(s: Sketch) -> None:
    gold = "#efb52e"
    s.fill(limb([-0.1, 0.5 + 0.0j], [0.12, 0.12]), gold)
    s.fill(box(0.26, 0.0, 0.34, 0.22), gold)
    s.fill(box(0.42, 0.0, 0.5, 0.26), gold)
    s.fill(ellipse(-0.28, 0.24, n=22), gold)
    s.fill(ellipse(-0.28, 0.11, n=16), "#8a5f1a")


def _kite(s: Sketch) -> None:
    s.fill(stroke([0.5j, -0.1 + 0.2j, 0.05 - 0.2j, 0.1 - 0.5j], 0.022), "#fffdf6")
    k = s.at(0.12 - 0.8j, cmath.exp(0.25j))
    tail = curve([0.5j, -0.3 + 0.7j, 0.15 + 0.85j, -0.25 + 1.1j], 9)
    k.fill(limb(list(tail), [0.03] * 9), "#fffdf6")
    for n, colour in ((3, "#f6cb3c"), (5, "#3c78c8"), (7, "#d8433b")):
        for side in (-1, 1):
            k.fill(polygon(tail[n], tail[n] + side * 0.14 - 0.07j, tail[n] + side * 0.14 + 0.07j), colour)
    for corners, colour in (
        ((-0.55j, -0.38 - 0.08j, -0.08j), "#d8433b"), ((-0.55j, 0.38 - 0.08j, -0.08j), "#f6cb3c"),
        ((0.52j, -0.38 - 0.08j, -0.08j), "#3c9ac8"), ((0.52j, 0.38 - 0.08j, -0.08j), "#e8793a"),
    ):  # fmt: skip
        k.fill(polygon(*corners), colour)


def _lantern(s: Sketch) -> None:
    s.fill(ellipse(0.05j, 0.8, n=20), "#ffd76a", 0.22)
    s.fill(ellipse(0.05j, 0.55, n=20), "#ffe08a", 0.3)
    s.fill(stroke([-0.2 - 0.3j, -0.1 - 0.66j, 0.1 - 0.66j, 0.2 - 0.3j], 0.05), "#4a4550")
    s.fill(box(-0.25, -0.22, 0.25, 0.36), "#ffe9a0")
    s.fill(blob([0.24j, -0.12 + 0.12j, -0.12j, 0.12 + 0.12j]), "#f08a2a")
    for x in (-0.26, 0.0, 0.26):
        s.fill(limb([complex(x, -0.22), complex(x, 0.36)], [0.045, 0.045]), "#4a4550")
    s.fill(polygon(-0.34 - 0.2j, -0.16 - 0.38j, 0.16 - 0.38j, 0.34 - 0.2j), "#4a4550")
    s.fill(box(-0.34, 0.34, 0.34, 0.48), "#4a4550")


def _teapot(s: Sketch) -> None:
    china = "#5aa3b8"
    s.fill(stroke([-0.3 - 0.1j, -0.72 - 0.12j, -0.62 + 0.36j, -0.28 + 0.26j], 0.08), china)
    s.fill(limb([0.25 + 0.2j, 0.5, 0.62 - 0.24j], [0.22, 0.13, 0.1]), china)
    s.fill(ellipse(0.1j, 0.4, 0.36, n=24), china)
    s.fill(box(-0.22, 0.4, 0.22, 0.5), china)
    s.fill(ellipse(-0.22j, 0.24, 0.09, n=16), shade(china, -0.2))
    s.fill(ellipse(-0.34j, 0.07, n=12), shade(china, -0.2))
    for k in range(5):
        s.fill(ellipse(0.1j + 0.13 * cmath.exp(2j * np.pi * k / 5), 0.07, n=10), "#fbf4e4")
    s.fill(ellipse(0.1j, 0.06, n=10), "#f6cb3c")


def _umbrella(s: Sketch) -> None:
    s.fill(stroke([-0.5j, 0.2j, 0.02 + 0.5j, 0.22 + 0.56j, 0.2 + 0.36j], 0.05), "#6b4428")
    rim = -0.3j + 0.78 * np.exp(np.linspace(1j * np.pi, 2j * np.pi, 16))
    scallops = [
        curve([complex(x, -0.3), complex(x - 0.195, -0.44), complex(x - 0.39, -0.3)], 5)
        for x in (0.78, 0.39, 0.0, -0.39)
    ]
    s.fill(np.concatenate([rim, *scallops]), "#7b52ab")
    panel = [
        curve([-0.39 - 0.3j, -0.36 - 0.9j, -1.08j], 8),
        curve([-1.08j, 0.36 - 0.9j, 0.39 - 0.3j], 8),
        curve([0.39 - 0.3j, 0.2 - 0.44j, -0.3j], 5),
        curve([-0.3j, -0.2 - 0.44j, -0.39 - 0.3j], 5),
    ]
    s.fill(np.concatenate(panel), "#a981d6")
    for at in (-0.56 - 0.48j, 0.0 - 0.68j, 0.56 - 0.48j, -0.2 - 0.86j, 0.24 - 0.44j):
        s.fill(ellipse(at, 0.06, n=10), "#fbf4e4")
    s.fill(limb([-1.06j, -1.18j], [0.05, 0.04]), "#6b4428")


def _bundle(s: Sketch) -> None:
    s.fill(blob([-0.45 + 0.2j, -0.3 - 0.12j, -0.18j, 0.3 - 0.12j, 0.45 + 0.2j, 0.3 + 0.48j, -0.3 + 0.48j]), "#b9855a")
    s.fill(blob([-0.06 - 0.16j, -0.3 - 0.44j, -0.02 - 0.34j, 0.26 - 0.48j, 0.06 - 0.16j]), "#b9855a")
    s.fill(limb([-0.16 - 0.15j, 0.16 - 0.15j], [0.1, 0.1]), "#7a5233")
    for at in (-0.2 + 0.1j, 0.15 + 0.05j, 0.02 + 0.32j):
        s.fill(ellipse(at, 0.055, n=10), "#e7c79f")


THINGS: dict[str, Callable[[Sketch], None]] = {
    "apple": _apple, "ball": _ball, "balloon": _balloon, "bell": _bell, "boat": _boat, "book": _book, "cake": _cake,
    "drum": _drum, "flower": _flower, "key": _key, "kite": _kite, "lantern": _lantern, "teapot": _teapot,
    "umbrella": _umbrella, "bundle": _bundle,
}  # fmt: skip
